"""The covariance with all but the strongest part of its signal replaced by noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.solvers.cholesky import Cholesky, CholeskyFactor


@dataclass(frozen=True)
class LowRankPlusNoise:
    """``P = Q C Qᵀ + σ² (I - Q Qᵀ)`` with an orthonormal Q that holds most of the signal.

    Symmetric, positive definite, and cheap to invert, to take the determinant of, and to draw
    from; differentiable in C and σ² where these are.

    Attributes:
        basis: Q, (n, k).
        covariance: C, (k, k), of the combinations ``Qᵀ y``, noise included.
        noise_variance: σ².
        factor: C made ready for solves.
    """

    basis: Tensor
    covariance: Tensor
    noise_variance: Tensor
    factor: CholeskyFactor

    @classmethod
    def of(cls, basis: Tensor, covariance: Tensor, noise_variance: Tensor) -> LowRankPlusNoise:
        return cls(basis, covariance, noise_variance, Cholesky().factorise(covariance))

    def solve(self, columns: Tensor) -> Tensor:
        """``P⁻¹ V`` on columns (n, j)."""
        inside = self.basis.mT @ columns
        outside = (columns - self.basis @ inside) / self.noise_variance
        return outside + self.basis @ torch.cholesky_solve(inside, self.factor.root)

    def form(self, left: Tensor, right: Tensor) -> Tensor:
        """``vᵀ P w`` for pairs of columns (n, j): (j,)."""
        left_in, right_in = self.basis.mT @ left, self.basis.mT @ right
        outside = (left * right).sum(0) - (left_in * right_in).sum(0)
        return (left_in * (self.covariance @ right_in)).sum(0) + self.noise_variance * outside

    def log_determinant(self) -> Tensor:
        """``log |P|``."""
        outside = self.basis.shape[0] - self.basis.shape[1]
        return self.factor.log_determinant() + outside * self.noise_variance.log()

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws from ``N(0, P)`` as columns: (n, count)."""
        draw = torch.randn(len(self.basis), count, generator=generator, dtype=torch.float64)
        draw = draw.to(self.basis)
        inside = self.basis.mT @ draw
        outside = self.noise_variance.sqrt() * (draw - self.basis @ inside)
        return outside + self.basis @ (self.factor.root @ inside)
