"""One standard deviation for all pixels, from the noise alone: what any method has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pdip.baselines.baseline import Baseline, gaussian
from pdip.baselines.pixel_noise import pixel_noise_variance
from pdip.dip import DIPFit
from pdip.posterior import ImagePosterior
from pdip.ray import RayTransform


@dataclass(frozen=True)
class Homoscedastic(Baseline):
    """``N(x*, τ² I)`` with τ² of :func:`~pdip.baselines.pixel_noise.pixel_noise_variance`.

    x* is the mean image of the main path's restarts, its own centre; the variance is the noise
    term that the sampled methods get, with nothing added to it.
    """

    def posterior(self, scan, ray: RayTransform, fit: DIPFit, *, seed: int = 0) -> ImagePosterior:
        image = torch.stack([one.image for one in fit.restarts]).mean(0)
        noise = pixel_noise_variance(ray, fit.noise_std**2, scan.weights)
        variance = torch.full((image.numel(),), noise, dtype=torch.float64, device=image.device)
        return gaussian(image, variance, fit.network.image_scale)
