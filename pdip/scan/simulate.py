"""Make a scan of a known image, with noise."""

import torch

from pdip.errors import InputError
from pdip.scan.checks import finite_real
from pdip.scan.preprocessing import Preprocessing
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

    With ``photons_per_ray`` = n0: counts ~ Poisson(n0 exp(-A x)), read as counts of a file are
    (:mod:`pdip.scan.counts`): y = -log((counts + 1/2) / n0), weights from the photons that the
    neighbours of a ray let expect, and a noise level of 1.

    Args:
        image: attenuation in 1/mm, (height, width), on ``ray.grid``.
        ray: the ray transform, with ``forward``, ``geometry`` and ``grid``.
        noise_fraction: 0.05 for 5 % noise; not negative.
        photons_per_ray: photons that a ray carries before the object; positive.
        generator: source of randomness.

    Returns:
        the scan, with weights only for photon counts.

    Raises:
        InputError: none or both of the settings are given, one is out of range, or hardly a ray
            has photons.
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
    reading = Preprocessing(data_kind="counts", flat=photons_per_ray, dark=0.0, gain=1.0)
    found = reading.measured(counts.numpy())
    sinogram, weights = (
        torch.from_numpy(values).to(line_integrals) for values in (found.sinogram, found.weights)
    )
    return Scan(sinogram, ray.geometry, ray.grid, weights, found.said, found.noise_std)


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
