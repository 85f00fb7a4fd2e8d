"""What rays that were withheld from a reconstruction are predicted to be by it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pdip.calibration.held_out import WithheldRays
from pdip.posterior.image_posterior import MAX_DENSE_PIXELS, ImagePosterior
from pdip.ray import RayTransform
from pdip.scan import Scan
from pdip.typing import Image, Mask, Sinogram
from pdip.withholding import used_rays

SAMPLES = 512
CHUNK = 64


def withheld_rays(
    posterior: ImagePosterior,
    scan: Scan,
    ray: RayTransform,
    noise_std: float,
    *,
    samples: int = SAMPLES,
    generator: torch.Generator,
) -> WithheldRays:
    """The rays of a scan that a posterior did not see, beside what it says of them.

    ``e = y - A x`` and ``a = diag(A Cov Aᵀ)``, exact where the covariance of all pixels is kept,
    else that of samples (relative standard error ``√(2 / samples)``).

    Args:
        posterior: of the image given other rays.
        scan: the withheld views; their rays of positive weight w are compared.
        ray: its ray transform.
        noise_std: σ of a ray of weight 1.
        samples: draws of the posterior.
        generator: source of randomness, on the device of the posterior.

    Raises:
        InputError: no ray of positive weight, or a σ that is not positive.

    Example:
        >>> from pdip.posterior import SavedPosterior
        >>> from pdip.ray import ray_transform
        >>> from pdip.scan import ImageGrid, ParallelBeam
        >>> image = torch.zeros(4, 4)
        >>> known = {"image": image, "mean": image, "std": image + 1, "covariance": torch.eye(16)}
        >>> scan = Scan(torch.eye(2, 4), ParallelBeam([0.0, 90.0], 4), ImageGrid((4, 4)))
        >>> rays = withheld_rays(SavedPosterior(known), scan,
        ...                      ray_transform(scan.geometry, scan.grid), 1.0,
        ...                      generator=torch.Generator())
        >>> rays.variance.round()
        tensor([5., 5., 5., 5., 5., 5., 5., 5.], dtype=torch.float64)
    """
    whole = torch.zeros(posterior.image.shape, dtype=torch.long, device=posterior.image.device)
    covariances = signal_covariances(posterior, ray, whole, samples=samples, generator=generator)
    return compared(posterior.image, covariances, scan, ray, noise_std, used_rays(scan))


def compared(
    image: Image,
    covariances: Tensor,
    scan: Scan,
    ray: RayTransform,
    noise_std: float,
    withheld: Mask,
) -> WithheldRays:
    """The marked rays of a scan beside an image and what its uncertainty adds to each.

    Args:
        image: x, (height, width).
        covariances: of :func:`signal_covariances`; a is their sum.
        scan, ray: of all rays.
        noise_std: σ of a ray of weight 1.
        withheld: those to compare, (views, detectors).
    """
    place = ray.device, ray.dtype
    residual = scan.sinogram.to(*place) - ray.forward(image.to(*place))
    signal = covariances.sum((0, 1)).clamp(min=0)
    noise = _noise_variance(scan, noise_std).to(ray.device)
    return WithheldRays.of(residual.double(), signal, noise, withheld.to(ray.device))


def signal_covariances(
    posterior: ImagePosterior,
    ray: RayTransform,
    number: Tensor,
    *,
    samples: int = SAMPLES,
    generator: torch.Generator,
) -> Tensor:
    """Covariances of what the regions of the image add to each ray: ``diag(A Cov_jk Aᵀ)``.

    Args:
        posterior: of the image.
        ray: A.
        number: region of each pixel, (height, width) integers from 0.
        samples: draws, where the covariance of all pixels is not kept.
        generator: their source.

    Returns:
        (regions, regions, views, detectors) float64.
    """
    total = 0.0
    for images in _deviations(posterior, samples, generator):
        parts = [images * (number == one) for one in range(int(number.max()) + 1)]
        seen = torch.stack([ray.forward(part.to(ray.device, ray.dtype)) for part in parts]).double()
        total = total + torch.einsum("jnvd,knvd->jkvd", seen, seen)
    return total


def _deviations(
    posterior: ImagePosterior, samples: int, generator: torch.Generator
) -> Iterator[Image]:
    """Images whose outer products sum to the covariance, exactly or as that of samples."""
    if posterior.image.numel() <= MAX_DENSE_PIXELS:
        values, vectors = torch.linalg.eigh(posterior.covariance())
        root = vectors * values.clamp(min=0).sqrt()
        yield root.mT.reshape(-1, *posterior.image.shape)
        return
    for start in range(0, samples, CHUNK):
        count = min(CHUNK, samples - start)
        drawn = posterior.sample(count, generator=generator) - posterior.image
        yield drawn / math.sqrt(samples)


def _noise_variance(scan: Scan, noise_std: float) -> Sinogram:
    """``σ² / w`` of every ray, infinite where it is not used: (views, detectors) float64."""
    if scan.weights is None:
        return torch.full(scan.sinogram.shape, noise_std**2, dtype=torch.float64)
    return noise_std**2 / scan.weights.double()
