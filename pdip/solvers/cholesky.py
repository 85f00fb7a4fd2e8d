"""Dense Cholesky: exact solves and log-determinants in float64."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.errors import ComputationError
from pdip.solvers.solution import Factor, Solution, Solver


@dataclass(frozen=True)
class Cholesky(Solver):
    """``K = L Lᵀ`` for matrices that fit in memory.

    Args:
        tolerance: largest ``‖K x - b‖ / ‖b‖`` that counts as converged.
    """

    tolerance: float = 1e-6

    def factorise(self, covariance: Tensor) -> "CholeskyFactor":
        root, info = torch.linalg.cholesky_ex(covariance)
        if int(info) != 0 or not bool(torch.isfinite(root).all()):
            raise ComputationError(
                f"expected a positive definite covariance, got one whose leading minor {int(info)}"
                f" of {len(covariance)} is not; raise the noise level or remove duplicate rays"
            )
        return CholeskyFactor(covariance, root, self.tolerance)


@dataclass(frozen=True)
class CholeskyFactor(Factor):
    """The factor of one matrix; every result is differentiable in it."""

    covariance: Tensor
    root: Tensor
    tolerance: float

    def whiten(self, columns: Tensor) -> Tensor:
        """``L⁻¹ B``: (n, k) to (n, k)."""
        return torch.linalg.solve_triangular(self.root, columns, upper=False)

    def log_determinant(self) -> Tensor:
        return 2 * self.root.diagonal().log().sum()

    def solve(self, columns: Tensor) -> Solution:
        result = torch.cholesky_solve(columns, self.root)
        size = columns.norm(dim=0)
        residual = (self.covariance @ result - columns).norm(dim=0) / torch.where(size > 0, size, 1)
        worst = float(residual.max().detach())
        return Solution(result, worst, worst <= self.tolerance)
