"""Each ray or view predicted from all others in closed form, without a second fit.

The features J were learned from all rays, the one that is left out among them, so these errors
are too small where the network has fitted noise: optimistic. Rays that were withheld from the fit
are the unbiased witness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Precision:
    """The inverse covariance of whitened rays ``W^{1/2} y`` as ``K⁻¹ = c I + Q M Qᵀ``.

    Exact: ``c = 0, Q = I, M = K⁻¹``. On combinations Q with covariance C:
    ``c = 1 / σ², M = C⁻¹ - I / σ²``, which is ``Q C⁻¹ Qᵀ + (I - Q Qᵀ) / σ²``.

    Attributes:
        scale: c.
        inner: M, (k, k) float64.
        basis: Q, (rays, k) with orthonormal columns; None for the identity.
    """

    scale: float
    inner: Tensor
    basis: Tensor | None = None

    @classmethod
    def exact(cls, covariance: Tensor) -> Precision:
        """Of all rays.

        Args:
            covariance: K of whitened rays, (rays, rays) positive definite.
        """
        return cls(0.0, torch.cholesky_inverse(torch.linalg.cholesky(covariance)))

    @classmethod
    def compressed(cls, basis: Tensor, covariance: Tensor, noise_variance: float) -> Precision:
        """Of rays whose combinations hold all signal; the rest of them is noise.

        Args:
            basis: Q, (rays, k).
            covariance: C of the combinations, noise included, (k, k).
            noise_variance: σ².
        """
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
        inverse.diagonal().sub_(1 / noise_variance)
        return cls(1 / noise_variance, inverse, basis)

    def apply(self, vector: Tensor) -> Tensor:
        """``K⁻¹ r``: (rays,)."""
        if self.basis is None:
            return self.inner @ vector + self.scale * vector
        return self.basis @ (self.inner @ (self.basis.mT @ vector)) + self.scale * vector

    def diagonal(self) -> Tensor:
        """``(K⁻¹)_ii``: (rays,)."""
        if self.basis is None:
            return self.inner.diagonal() + self.scale
        return ((self.basis @ self.inner) * self.basis).sum(1) + self.scale

    def block(self, index: Tensor) -> Tensor:
        """``[K⁻¹]_vv`` of a few rays: (v, v)."""
        if self.basis is None:
            block = self.inner[index][:, index].clone()
        else:
            block = self.basis[index] @ self.inner @ self.basis[index].mT
        block.diagonal().add_(self.scale)
        return (block + block.mT) / 2

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws of N(0, K⁻¹): (count, rays)."""
        values, vectors = torch.linalg.eigh(self.inner)
        place = {"generator": generator, "dtype": torch.float64}
        if self.basis is None:
            draw = torch.randn(count, len(values), **place).to(values.device)
            return (draw * (values + self.scale).clamp(min=0).sqrt()) @ vectors.mT
        draw = torch.randn(count, len(self.basis), **place).to(values.device)
        inside = draw @ self.basis @ vectors
        root = (values + self.scale).clamp(min=0).sqrt() - math.sqrt(self.scale)
        return math.sqrt(self.scale) * draw + (inside * root) @ vectors.mT @ self.basis.mT


@dataclass(frozen=True)
class LeftOut:
    """What each ray is predicted to be without itself or its view.

    Attributes:
        error: measured less predicted, (rays,).
        variance: of that error, noise included, (rays,).
        log_density: joint log-density of each group that was left out together, nats.
    """

    error: Tensor
    variance: Tensor
    log_density: Tensor


def leave_rays_out(precision: Precision, residual: Tensor) -> LeftOut:
    """Every ray by itself: error ``(K⁻¹ r)_i / (K⁻¹)_ii`` of variance ``1 / (K⁻¹)_ii``.

    Rasmussen and Williams (2006), equations 5.10 to 5.12.

    Args:
        precision: K⁻¹.
        residual: r, data less their mean, (rays,).
    """
    variance = 1 / precision.diagonal()
    error = precision.apply(residual) * variance
    log_density = -0.5 * (error.square() / variance + (2 * math.pi * variance).log())
    return LeftOut(error, variance, log_density)


def leave_views_out(precision: Precision, residual: Tensor, view: Tensor) -> LeftOut:
    """All rays of a view at once: error ``([K⁻¹]_vv)⁻¹ (K⁻¹ r)_v`` of covariance ``([K⁻¹]_vv)⁻¹``.

    Args:
        precision: K⁻¹.
        residual: r, (rays,).
        view: the view of each ray, (rays,) integers.
    """
    applied = precision.apply(residual)
    error, variance, densities = (torch.empty_like(applied), torch.empty_like(applied), [])
    for number in view.unique():
        index = (view == number).nonzero()[:, 0]
        root = torch.linalg.cholesky(precision.block(index))
        covariance = torch.cholesky_inverse(root)
        error[index] = covariance @ applied[index]
        variance[index] = covariance.diagonal()
        quadratic = applied[index] @ error[index]
        log_det = -2 * root.diagonal().log().sum()
        densities.append(-0.5 * (quadratic + log_det + len(index) * math.log(2 * math.pi)))
    return LeftOut(error, variance, torch.stack(densities))
