"""A baseline: filtered backprojection with the noise of the rays carried through it."""

from dataclasses import dataclass

import torch

from pdip.baselines import Baseline, gaussian
from pdip.ray import fbp


@dataclass(frozen=True)
class NoiseThroughFBP(Baseline):
    """``N(F y, σ² F Fᵀ)``, F the filtered backprojection: noise alone, no doubt about the image."""

    def posterior(self, scan, ray, fit, *, seed=0):
        rays = scan.sinogram.numel()
        units = torch.eye(rays).reshape(rays, *scan.sinogram.shape).to(ray.device, ray.dtype)
        columns = fbp(ray, units).flatten(1).double()
        image = fbp(ray, scan.sinogram.to(ray.device, ray.dtype))
        return gaussian(image, fit.noise_std**2 * columns.mT @ columns, fit.network.image_scale)
