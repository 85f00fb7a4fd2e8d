"""Images drawn by a method as a Gaussian: their mean, their covariance and the noise term."""

from __future__ import annotations

import torch
from torch import Tensor

from pdip.baselines.baseline import gaussian
from pdip.baselines.pixel_noise import pixel_noise_variance
from pdip.dip import DIPFit
from pdip.errors import ComputationError
from pdip.posterior import SavedPosterior
from pdip.ray import RayTransform


def gaussian_of_samples(images: Tensor, scan, ray: RayTransform, fit: DIPFit) -> SavedPosterior:
    """``N(x̄, C + τ² I)``, C the covariance of N samples, with the floor that every baseline has.

    The sampled methods tell how sure the network is, not what the noise leaves open, and C has at
    most N - 1 directions: τ² of :func:`~pdip.baselines.pixel_noise.pixel_noise_variance` is added
    to every pixel.

    Args:
        images: N samples, (N, height, width), 1/mm.
        scan: the scan.
        ray: its ray transform.
        fit: gives the noise level and the image scale.

    Raises:
        ComputationError: samples that are not finite, or fewer than two.
    """
    if len(images) < 2 or not bool(torch.isfinite(images).all()):
        raise ComputationError(
            f"expected at least 2 finite samples, got {len(images)} with NaN or infinity among "
            "them; take more samples or smaller steps"
        )
    noise = pixel_noise_variance(ray, fit.noise_std**2, scan.weights)
    covariance = torch.cov(images.flatten(1).double().mT)
    covariance.diagonal().add_(noise)
    return gaussian(images.mean(0), covariance, fit.network.image_scale)
