"""Which spatial scales are over- or under-confident."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pdip.calibration.checks import comparable, covariance_of, drawn_on
from pdip.typing import Image

SAMPLES_AT_A_TIME = 16


@dataclass(frozen=True)
class Spectrum:
    """Power of the error over the claimed power by spatial frequency; 1 where calibrated.

    Attributes:
        frequency_per_mm: cycles per mm, mean of a ring of frequencies, ascending from 0, (rings,).
        ratio: above 1 is over-confident at this scale, (rings,).
        num_modes: Fourier modes in a ring, two of which are one number of a real image; ``ratio``
            scatters by about ``√(2 / num_modes)``, (rings,).
        claimed_by: "covariance", "samples" or "std".
    """

    frequency_per_mm: Tensor
    ratio: Tensor
    num_modes: Tensor
    claimed_by: str


def power(images: Image) -> Image:
    """Periodogram ``|F x|² / n``, (*batch, height, width); its mean is that of the squares."""
    return torch.fft.fft2(images.double(), norm="ortho").abs().square()


def claimed_power(covariance: Float[Tensor, "n n"], height: int, width: int) -> Image:
    """Expected periodogram of ``N(0, C)``: ``diag(F C Fᴴ) / n``, (height, width)."""
    maps = covariance.double().reshape(height, width, height, width)
    both = torch.fft.fft2(torch.fft.ifft2(maps, dim=(2, 3)), dim=(0, 1))
    return both.reshape(height * width, -1).diagonal().real.reshape(height, width)


def whitened_spectrum(
    mean: Image,
    std: Image,
    truth: Image,
    *,
    covariance: Tensor | None = None,
    samples: Tensor | None = None,
    pixel_mm: float = 1.0,
) -> Spectrum:
    """Radially averaged power of the error over the power that the posterior claims for it.

    ``Σ_ring |F e|² / Σ_ring E|F d|²`` with the deviations d of the covariance, else of the
    samples. With the std alone, d is white: the power of ``e / std``, whose expected value is 1
    only if the errors of pixels are independent.

    Args:
        mean: (height, width).
        std: positive, (height, width).
        truth: (height, width).
        covariance: (n, n), row-major order of the pixels.
        samples: (samples, height, width); unused beside a covariance.
        pixel_mm: side of a pixel.

    Returns:
        rings one frequency step of the image wide, up to half a cycle per pixel.

    Raises:
        InputError: shapes differ, a std is not positive, or there is one sample only.
    """
    comparable(mean, std, truth)
    if covariance is not None:
        covariance_of(covariance, mean)
    elif samples is not None:
        drawn_on(samples, truth)
    error = truth.double() - mean.double()
    if covariance is not None:
        claimed_by, claimed = "covariance", claimed_power(covariance, *error.shape)
    elif samples is not None:
        parts = (power(part - mean.double()).sum(0) for part in samples.split(SAMPLES_AT_A_TIME))
        claimed_by, claimed = "samples", sum(parts) / len(samples)
    else:
        claimed_by, error, claimed = "std", error / std.double(), torch.ones_like(error)
    down, right = (torch.fft.fftfreq(side, pixel_mm, dtype=torch.float64) for side in error.shape)
    frequency = torch.hypot(*torch.meshgrid(down, right, indexing="ij")).to(error.device)
    inside = frequency <= 0.5 / pixel_mm + 1e-12
    ring = (frequency * max(error.shape) * pixel_mm).round().long()[inside]
    used, ring, count = ring.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(3, len(used), dtype=torch.float64, device=error.device)
    sums.index_add_(1, ring, torch.stack([x[inside] for x in (frequency, power(error), claimed)]))
    return Spectrum(sums[0] / count, sums[1] / sums[2], count, claimed_by)
