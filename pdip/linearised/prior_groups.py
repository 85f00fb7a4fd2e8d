"""Groups of network weights: the covariances that a prior is put together from.

Every group's covariance is a combination of fixed patterns, ``Σ_b = Σ_c k_c(φ_b) P_c``, so that
whatever is linear in it (``J Σ Jᵀ``, the Gram bases) can be computed once per pattern and
recombined for any hyperparameters φ. A new prior is one :class:`PriorGroup`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pdip.typing import Params


class PriorGroup(ABC):
    """A block of weights that share the hyperparameters of one covariance.

    Attributes:
        name: the block's name.
        parameters: names of the network parameters in the group.
        hyperparameters: names of the entries of ``log_h``, all on log scale. TV-PredCP acts on
            those that end in ``log_lengthscale``.
    """

    name: str
    parameters: tuple[str, ...]
    hyperparameters: tuple[str, ...]

    @property
    @abstractmethod
    def num_patterns(self) -> int: ...

    @abstractmethod
    def coefficients(self, log_h: Tensor) -> Tensor:
        """``k_c(φ)``, (patterns,), differentiable in ``log_h`` (hyperparameters,)."""

    @abstractmethod
    def apply_pattern(self, pattern: int, vector: Params) -> Params:
        """``P_c v`` on vectors (*batch, p_b)."""

    @abstractmethod
    def apply_root(self, log_h: Tensor, vector: Params) -> Params:
        """``L v`` with ``L Lᵀ = Σ_b``."""

    @abstractmethod
    def quadratic(self, log_h: Tensor, vector: Params) -> Tensor:
        """``vᵀ Σ_b⁻¹ v`` of one vector (p_b,), differentiable in ``log_h``."""

    def gram_bases(self, rows: Params) -> Tensor:
        """``R P_c Rᵀ`` for rows (k, p_b): (patterns, k, k) float64."""
        patterns = range(self.num_patterns)
        bases = torch.stack([(self.apply_pattern(c, rows) @ rows.mT).double() for c in patterns])
        return (bases + bases.mT) / 2  # of float32 rows only equal to rounding, which solvers see

    def apply(self, log_h: Tensor, vector: Params) -> Params:
        """``Σ_b v``."""
        k = self.coefficients(log_h).to(vector)
        return sum(k[c] * self.apply_pattern(c, vector) for c in range(self.num_patterns))


@dataclass(frozen=True)
class IIDGroup(PriorGroup):
    """``N(0, s_b² I)``: 1x1 convolutions, biases, norm parameters."""

    name: str
    parameters: tuple[str, ...]
    hyperparameters = ("log_variance",)
    num_patterns = 1

    def coefficients(self, log_h):
        return log_h[:1].exp()

    def apply_pattern(self, pattern, vector):
        return vector

    def apply_root(self, log_h, vector):
        return (log_h[0] / 2).exp().to(vector) * vector

    def quadratic(self, log_h, vector):
        return vector.to(log_h).square().sum() * torch.exp(-log_h[0])


@dataclass(frozen=True)
class MaternFilterGroup(PriorGroup):
    """3x3 filters, independent of each other, each with a Matérn-1/2 covariance over its stencil.

    ``cov(w_i, w_j) = σ_b² exp(-d_ij / ℓ_b)`` with d the distance of two stencil positions in
    pixels (Antorán et al. 2022, eq. 10). Six distances occur, hence six 0/1 patterns.
    """

    name: str
    parameters: tuple[str, ...]
    hyperparameters = ("log_variance", "log_lengthscale")

    @cached_property
    def distances(self) -> Tensor:
        """(6,): 0, 1, √2, 2, √5, 2√2."""
        return _stencil_distances().unique()

    @property
    def num_patterns(self) -> int:
        return len(self.distances)

    def coefficients(self, log_h):
        return torch.exp(log_h[0] - self.distances.to(log_h) * torch.exp(-log_h[1]))

    def apply_pattern(self, pattern, vector):
        taps = (_stencil_distances() == self.distances[pattern]).to(vector)
        return self._on_filters(taps, vector)

    def gram_bases(self, rows):
        """As the base class, with a quarter of its arithmetic.

        In the symmetry-adapted basis U of the square every pattern is block diagonal, ``P_c = U
        T_c Uᵀ``, so that only 14 products ``X_a X_bᵀ`` of the transformed rows are needed, where
        the six patterns taken one by one cost 54.
        """
        basis = _symmetry_basis()
        transformed = rows.reshape(len(rows), -1, 9) @ basis.to(rows)
        columns = transformed.permute(2, 0, 1).contiguous()
        patterns = torch.stack([(_stencil_distances() == d).double() for d in self.distances])
        blocks = basis.mT @ patterns @ basis
        bases = torch.zeros(len(patterns), len(rows), len(rows), dtype=torch.float64)
        bases = bases.to(rows.device)
        for a in range(9):
            for b in range(a, 9):
                coefficients = blocks[:, a, b]
                if bool((coefficients.abs() < 1e-12).all()):
                    continue
                product = (columns[a] @ columns[b].mT).double()
                product = product if a == b else product + product.mT
                for c, coefficient in enumerate(coefficients.tolist()):
                    if abs(coefficient) > 1e-12:
                        bases[c].add_(product, alpha=coefficient)
        return bases

    def apply(self, log_h, vector):
        return self._on_filters(self.filter_covariance(log_h).to(vector), vector)

    def apply_root(self, log_h, vector):
        root = torch.linalg.cholesky(self.filter_covariance(log_h))
        return self._on_filters(root.mT.to(vector), vector)

    def quadratic(self, log_h, vector):
        filters = vector.to(log_h).reshape(-1, 9)
        scatter = filters.mT @ filters
        return torch.linalg.solve(self.filter_covariance(log_h), scatter).trace()

    def filter_covariance(self, log_h: Tensor) -> Tensor:
        """(9, 9) covariance of one filter."""
        return torch.exp(log_h[0] - _stencil_distances().to(log_h) * torch.exp(-log_h[1]))

    @staticmethod
    def _on_filters(matrix: Tensor, vector: Params) -> Params:
        return (vector.reshape(*vector.shape[:-1], -1, 9) @ matrix).reshape(vector.shape)


def _stencil_distances() -> Tensor:
    """(9, 9) Euclidean distances between the positions of a 3x3 stencil."""
    grid = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0)).double()
    return (grid[:, None] - grid[None]).square().sum(-1).sqrt()


def _symmetry_basis() -> Tensor:
    """(9, 9) orthonormal basis of 3x3 stencils adapted to the symmetries of the square.

    Columns in order of the irreducible representations: three invariant stencils (centre, edges,
    corners), one alternating over the edges, one alternating over the corners, two that change
    sign left to right, two that change sign top to bottom.
    """
    edge, corner = 1 / 2, 1 / 2
    half = 1 / 2**0.5
    stencils = [
        [0, 0, 0, 0, 1, 0, 0, 0, 0],
        [0, edge, 0, edge, 0, edge, 0, edge, 0],
        [corner, 0, corner, 0, 0, 0, corner, 0, corner],
        [0, edge, 0, -edge, 0, -edge, 0, edge, 0],
        [corner, 0, -corner, 0, 0, 0, -corner, 0, corner],
        [0, 0, 0, -half, 0, half, 0, 0, 0],
        [-corner, 0, corner, 0, 0, 0, -corner, 0, corner],
        [0, -half, 0, 0, 0, 0, 0, half, 0],
        [-corner, 0, -corner, 0, 0, 0, corner, 0, corner],
    ]
    return torch.tensor(stencils, dtype=torch.float64).mT
