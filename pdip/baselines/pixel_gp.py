"""A Gaussian process over pixels instead of a network: exact, with hyperparameters by evidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.baselines.baseline import Baseline, gaussian
from pdip.dip import DIPFit
from pdip.dip.noise import matern_correlation, matern_images
from pdip.dip.start import DataTerm
from pdip.posterior import ImagePosterior
from pdip.ray import RayTransform


@dataclass(frozen=True)
class PixelGP(Baseline):
    """``x ~ N(0, v C)`` with a Matérn-3/2 correlation C, conditioned on the scan.

    ``x̄ = v C Aᵀ W^{1/2} S⁻¹ W^{1/2} y``, ``Cov = v C - v C Aᵀ W^{1/2} S⁻¹ W^{1/2} A v C`` with
    ``S = W^{1/2} A v C Aᵀ W^{1/2} + σ² I`` (Rasmussen & Williams 2006, eqs. 2.25-2.26). v and the
    lengthscale maximise the evidence of :func:`~pdip.dip.noise.matern_images` at the main path's
    noise level.
    """

    def posterior(self, scan, ray: RayTransform, fit: DIPFit, *, seed: int = 0) -> ImagePosterior:
        found = matern_images(scan, ray, noise_std=fit.noise_std)
        data = DataTerm.of(scan, ray, fit.noise_std)
        root = data.weights.double().sqrt().reshape(-1)
        matrix = root[:, None] * ray.dense().double()
        prior = found.signal_variance * matern_correlation(
            pixel_distances(ray.domain_shape).to(matrix), found.lengthscale_px
        )
        cross = matrix @ prior
        noise = fit.noise_std**2 * torch.eye(len(matrix)).to(matrix)
        factor = torch.linalg.cholesky(cross @ matrix.mT + noise)
        whitened = torch.linalg.solve_triangular(factor, cross, upper=False)
        sinogram = (root * data.sinogram.double().reshape(-1))[:, None]
        mean = whitened.mT @ torch.linalg.solve_triangular(factor, sinogram, upper=False)
        image = mean.reshape(ray.domain_shape).to(fit.image)
        return gaussian(image, prior - whitened.mT @ whitened, fit.network.image_scale)


def pixel_distances(shape: tuple[int, int]) -> Tensor:
    """Distances of all pixels to each other, (pixels, pixels), in pixels."""
    height, width = shape
    centres = torch.cartesian_prod(torch.arange(float(height)), torch.arange(float(width)))
    return torch.cdist(centres.double(), centres.double())
