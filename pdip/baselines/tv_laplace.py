"""The TV reconstruction with error bars: Laplace's approximation in pixel space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.baselines.baseline import Baseline, gaussian
from pdip.dip import DIPFit, edge_differences
from pdip.dip.start import IMAGE_TV_RATE, DataTerm
from pdip.dip.tv_reconstruction import tv_reconstruction
from pdip.errors import InputError
from pdip.posterior import ImagePosterior
from pdip.ray import RayTransform
from pdip.typing import Image


@dataclass(frozen=True)
class TVLaplace(Baseline):
    """``p(x | y) ∝ exp(-½ ‖W^{1/2}(A x - y)‖²/σ² - ρ Σ_e √(u_e² + ε²))``, a Gaussian at its mode.

    The mode is the TV reconstruction x̂ (non-negative, its small ε neglected) with ``λ = ρ σ²``,
    and ``Cov = H⁻¹`` with ``H = Aᵀ W A / σ² + ρ Dᵀ diag(1/√(u_e² + ε²)) D`` at ``u = D x̂``, the
    lagged diffusivity of Vogel & Oman (1996, eq. 3.4) in place of the second derivative, which
    nearly vanishes at every edge. For large ε it is the posterior of Tikhonov's penalty
    ``ρ/(2ε) ‖D x‖²``.

    Args:
        rate: ρ image_scale; the default is that of the TV reconstructions that fits start from.
        smoothing: ε / image_scale.
    """

    rate: float = IMAGE_TV_RATE
    smoothing: float = 0.05

    def posterior(self, scan, ray: RayTransform, fit: DIPFit, *, seed: int = 0) -> ImagePosterior:
        if not (self.rate > 0 and self.smoothing > 0):
            raise InputError(
                f"expected a positive rate and smoothing, got {self.rate} and {self.smoothing}"
            )
        data, scale = DataTerm.of(scan, ray, fit.noise_std), fit.network.image_scale
        tv_weight = self.rate * fit.noise_std**2 / scale
        image = tv_reconstruction(
            ray, data.sinogram, data.weights, tv_weight, max_iterations=4000, tolerance=3e-5
        )
        precision = tv_precision(data, image, self.rate / scale, self.smoothing * scale)
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        return gaussian(image, covariance, scale)


def tv_precision(data: DataTerm, image: Image, rate: float, smoothing: float) -> Tensor:
    """``Aᵀ W A / σ² + ρ Dᵀ diag(1/√(u² + ε²)) D`` at ``u = D x``: (pixels, pixels) float64.

    Args:
        data: A, W and σ.
        image: x, (height, width), 1/mm.
        rate: ρ, mm.
        smoothing: ε, 1/mm.
    """
    matrix = data.weights.double().sqrt().reshape(-1, 1) * data.ray.dense().double()
    pixels = torch.eye(image.numel()).to(matrix).reshape(-1, *image.shape)
    differences = edge_differences(pixels).mT
    stiffness = rate * (edge_differences(image.double()).square() + smoothing**2).rsqrt()
    likelihood = matrix.mT @ matrix / data.noise_std**2
    return likelihood + differences.mT @ (stiffness[:, None] * differences)
