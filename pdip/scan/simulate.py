"""Make a scan of a known image, with noise."""

import torch

from pdip.errors import InputError
from pdip.scan.checks import finite_real
from pdip.scan.scan import Scan
from pdip.typing import Image, Sinogram


def simulate(
    image: Image,
    ray,
    *,
    noise_fraction: float | None = None,
    photons_per_ray: float | None = None,
    generator: torch.Generator,
) -> Scan:
    """Measure ``image``; exactly one of the two noise settings must be given.

    With ``noise_fraction``: y = A x + eta, eta ~ N(0, sigma^2), sigma = noise_fraction mean|A x|.

    With ``photons_per_ray`` = n0: counts ~ Poisson(n0 exp(-A x)), y = -log(counts / n0), and
    weights = counts / n0, so that the noise variance sigma^2 / weights has sigma^2 = 1 / n0, the
    one of a ray through air. A ray without a photon has weight 0 and the value of half a photon.

    Args:
        image: attenuation in 1/mm, (height, width), on ``ray.grid``.
        ray: the ray transform, with ``forward``, ``geometry`` and ``grid``.
        noise_fraction: 0.05 for 5 % noise; not negative.
        photons_per_ray: photons that a ray carries before the object; positive.
        generator: source of randomness.

    Returns:
        the scan, with weights only for photon counts.

    Raises:
        InputError: none or both of the settings are given, or one is out of range.
    """
    if (noise_fraction is None) == (photons_per_ray is None):
        raise InputError("give exactly one of noise_fraction and photons_per_ray.")
    line_integrals = ray.forward(image).detach()
    if noise_fraction is not None:
        return _with_gaussian_noise(line_integrals, ray, noise_fraction, generator)
    return _with_counting_noise(line_integrals, ray, photons_per_ray, generator)


def _with_gaussian_noise(
    line_integrals: torch.Tensor, ray, noise_fraction: float, generator: torch.Generator
) -> Scan:
    noise_fraction = finite_real("noise_fraction", noise_fraction)
    if noise_fraction < 0:
        raise InputError(f"noise_fraction must not be negative, got {noise_fraction:g}.")
    noise_std = noise_fraction * line_integrals.abs().mean()
    noise = torch.randn(line_integrals.shape, generator=generator, dtype=torch.float64)
    sinogram = line_integrals + noise_std * noise.to(line_integrals)
    return Scan(sinogram, ray.geometry, ray.grid)


def _with_counting_noise(
    line_integrals: torch.Tensor, ray, photons_per_ray: float, generator: torch.Generator
) -> Scan:
    counts = photon_counts(line_integrals, photons_per_ray, generator)
    sinogram = -torch.log(counts.clamp(min=0.5) / photons_per_ray)
    weights = counts / photons_per_ray
    return Scan(sinogram.to(line_integrals), ray.geometry, ray.grid, weights.to(line_integrals))


def photon_counts(
    line_integrals: Sinogram, photons_per_ray: float, generator: torch.Generator
) -> Sinogram:
    """Photons that arrive: ``counts ~ Poisson(n0 exp(-A x))``.

    Args:
        line_integrals: A x, (views, detectors).
        photons_per_ray: n0, photons that a ray carries before the object; positive.
        generator: source of randomness.

    Returns:
        (views, detectors) float64, whole numbers.

    Raises:
        InputError: ``photons_per_ray`` is not positive and finite.
    """
    photons_per_ray = finite_real("photons_per_ray", photons_per_ray)
    if photons_per_ray <= 0:
        raise InputError(f"photons_per_ray must be positive, got {photons_per_ray:g}.")
    expected = photons_per_ray * torch.exp(-line_integrals.double().cpu())
    return torch.poisson(expected, generator=generator)
