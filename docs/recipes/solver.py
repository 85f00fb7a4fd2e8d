"""A solver: by eigenvalues, which shows the condition number that a Cholesky factor hides."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.errors import ComputationError
from pdip.solvers import Factor, Solution, Solver


@dataclass(frozen=True)
class Eigen(Solver):
    """``K = V Λ Vᵀ``.

    Args:
        tolerance: largest ``‖K x - b‖ / ‖b‖`` that counts as converged.
        most: the largest ratio of two eigenvalues that is solved with.
    """

    tolerance: float = 1e-6
    most: float = 1e14

    def factorise(self, covariance):
        values, vectors = torch.linalg.eigh(covariance)
        least, largest = values.detach()[[0, -1]].tolist()
        if not least * self.most > largest:
            raise ComputationError(
                f"expected eigenvalues within a factor of {self.most:.0e}, got {least:.1e} to "
                f"{largest:.1e}; raise the noise level"
            )
        return EigenFactor(covariance, values, vectors, self.tolerance)


@dataclass(frozen=True)
class EigenFactor(Factor):
    """The decomposition of one matrix."""

    covariance: Tensor
    values: Tensor
    vectors: Tensor
    tolerance: float

    def whiten(self, columns):
        return (self.vectors.mT @ columns) / self.values.sqrt()[:, None]

    def log_determinant(self):
        return self.values.log().sum()

    def solve(self, columns):
        result = self.vectors @ ((self.vectors.mT @ columns) / self.values[:, None])
        residuals = (self.covariance @ result - columns).norm(dim=0) / columns.norm(dim=0)
        worst = float(residuals.max().detach())
        return Solution(result, worst, worst <= self.tolerance)
