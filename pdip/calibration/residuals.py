"""Errors in units of the claimed standard deviation: z, its quantiles and its mean square."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.calibration.checks import comparable
from pdip.calibration.density import whitened
from pdip.typing import Image, Pixels

PROBABILITIES = tuple(k / 100 for k in range(1, 100))


@dataclass(frozen=True)
class Quantiles:
    """A quantile-quantile plot against the standard normal; calibrated on the diagonal.

    Attributes:
        expected: quantiles of N(0, 1), (probabilities,).
        observed: quantiles of z at the same probabilities, (probabilities,).
    """

    expected: Tensor
    observed: Tensor


def z_scores(mean: Pixels, std: Pixels, truth: Pixels) -> Pixels:
    """``z = (x - x̂) / std`` in float64; standard normal where the std is right.

    Args:
        mean: x̂, any shape.
        std: positive, of the same shape.
        truth: x, of the same shape.

    Raises:
        InputError: shapes differ, or a std is not positive.

    Example:
        >>> z_scores(torch.zeros(2), torch.tensor([0.5, 2.0]), torch.ones(2))
        tensor([2.0000, 0.5000], dtype=torch.float64)
    """
    comparable(mean, std, truth)
    return (truth.double() - mean.double()) / std.double()


def z_quantiles(mean: Pixels, std: Pixels, truth: Pixels) -> Quantiles:
    """Quantiles of z against those of N(0, 1), at 1 %, 2 %, ..., 99 %.

    A slope above 1 is over-confidence, an offset is bias (Wilk and Gnanadesikan 1968).
    """
    z = z_scores(mean, std, truth).reshape(-1)
    probabilities = torch.tensor(PROBABILITIES, dtype=z.dtype, device=z.device)
    # Not torch.quantile: it refuses more than 2^24 values.
    rank = probabilities * (len(z) - 1)
    ordered = z.sort().values
    low, share = rank.floor().long(), rank - rank.floor()
    observed = torch.lerp(ordered[low], ordered[(low + 1).clamp(max=len(z) - 1)], share)
    return Quantiles(torch.special.ndtri(probabilities), observed)


def reduced_chi_squared(mean: Pixels, std: Pixels, truth: Pixels) -> float:
    """``mean z²``, the reduced χ² of the marginals: 1 if calibrated, above it over-confident.

    Example:
        >>> reduced_chi_squared(torch.zeros(2), torch.ones(2), torch.tensor([1.0, -3.0]))
        5.0
    """
    return float(z_scores(mean, std, truth).square().mean())


def joint_reduced_chi_squared(mean: Image, truth: Image, covariance: Tensor) -> float:
    """``(x - x̂)ᵀ C⁻¹ (x - x̂) / n``: 1 ± √(2 / n) for a truth from ``N(x̂, C)``.

    Args:
        mean: x̂, (height, width).
        truth: x, (height, width).
        covariance: C, (n, n), row-major order of the pixels.

    Raises:
        ComputationError: C is not positive definite.
    """
    error = (truth.double() - mean.double()).reshape(-1)
    return float(whitened(error, covariance.double())[0].square().mean())
