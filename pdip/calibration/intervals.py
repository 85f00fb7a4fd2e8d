"""How often the truth lies within the claimed intervals, and how wide those are."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.calibration.checks import one_grid, probability
from pdip.calibration.ranking import among_equals
from pdip.calibration.residuals import z_scores
from pdip.errors import InputError
from pdip.typing import Pixels

LEVELS = (*(k / 20 for k in range(1, 20)), 0.99)


@dataclass(frozen=True)
class CoverageCurve:
    """Share of pixels inside the central Gaussian intervals; calibrated on the diagonal.

    Attributes:
        levels: nominal probabilities, (levels,).
        empirical: share of pixels inside, (levels,); below ``levels`` is over-confident.
    """

    levels: Tensor
    empirical: Tensor


def half_width(level: float) -> float:
    """Half the width of the central interval of N(0, 1), 1.96 for ``level`` 0.95."""
    return math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))


def coverage(mean: Pixels, std: Pixels, truth: Pixels, level: float = 0.95) -> float:
    """Share of pixels whose truth lies in the central Gaussian interval of probability ``level``.

    Args:
        mean: any shape, for example (height, width).
        std: not negative, of the same shape.
        truth: of the same shape.
        level: between 0 and 1; 0.95 means ``mean ± 1.96 std``.

    Returns:
        between 0 and 1; calibrated where it equals ``level``.

    Raises:
        InputError: shapes differ, a std is negative, or the level is not between 0 and 1.
    """
    one_grid(mean, std, truth)
    if bool((std < 0).any()):
        raise InputError("expected a std that is not negative, got values below 0")
    probability(level)
    inside = (truth - mean).double().abs() <= half_width(level) * std.double()
    return float(inside.double().mean())


def coverage_curve(
    mean: Pixels, std: Pixels, truth: Pixels, levels: tuple[float, ...] = LEVELS
) -> CoverageCurve:
    """:func:`coverage` at many levels (Kuleshov, Fenner and Ermon 2018, section 3.5).

    Raises:
        InputError: shapes differ, or a std is not positive.

    Example:
        >>> curve = coverage_curve(torch.zeros(2), torch.ones(2), torch.tensor([1.0, 3.0]), (0.9,))
        >>> curve.empirical
        tensor([0.5000], dtype=torch.float64)
    """
    depth = interval_depth(mean, std, truth).reshape(-1).sort().values
    nominal = torch.tensor(levels, dtype=depth.dtype, device=depth.device)
    inside = torch.searchsorted(depth, nominal, right=True)
    return CoverageCurve(nominal, inside / depth.new_tensor(len(depth)))


def size_stratified_coverage(
    mean: Pixels, std: Pixels, truth: Pixels, level: float = 0.95, strata: int = 4
) -> dict[str, float]:
    """:func:`coverage` apart for pixels of small and of large std (Angelopoulos et al. 2021).

    A coverage that is right only on average hides that sure pixels are always inside and unsure
    ones too seldom, or the other way round.

    Args:
        mean: any shape.
        std: positive, of the same shape.
        truth: of the same shape.
        level: between 0 and 1.
        strata: parts of (nearly) equally many pixels; those of equal std count with their mean,
            in whatever parts they fall.

    Returns:
        ``part_1`` of the smallest std to ``part_{strata}`` of the largest.

    Raises:
        InputError: shapes differ, a std is not positive, or there are fewer pixels than strata.

    Example:
        >>> std = torch.tensor([1.0, 2.0])
        >>> size_stratified_coverage(torch.zeros(2), std, torch.tensor([0.0, 9.0]), strata=2)
        {'part_1': 1.0, 'part_2': 0.0}
    """
    inside = (z_scores(mean, std, truth).abs() <= half_width(level)).double().reshape(-1)
    if not 1 <= strata <= len(inside):
        raise InputError(f"expected 1 to {len(inside)} strata of that many pixels, got {strata}")
    parts = among_equals(std.reshape(-1), inside).tensor_split(strata)
    return {f"part_{number}": float(part.mean()) for number, part in enumerate(parts, 1)}


def interval_depth(mean: Pixels, std: Pixels, truth: Pixels) -> Pixels:
    """``u = 2 Φ(|z|) - 1``: level of the smallest interval with the truth inside; uniform."""
    return torch.special.erf(z_scores(mean, std, truth).abs() / math.sqrt(2))


def miscalibration_area(mean: Pixels, std: Pixels, truth: Pixels) -> float:
    """``∫ (p - coverage(p)) dp = mean u - 1/2``, signed: **positive is over-confident**.

    u is the level of the smallest interval with the truth inside. Between -1/2 and 1/2; errors
    of the two signs at different levels cancel, see :func:`absolute_miscalibration_area`.

    Example:
        >>> round(miscalibration_area(torch.zeros(1), torch.ones(1), torch.tensor([9.0])), 3)
        0.5
    """
    return float(interval_depth(mean, std, truth).mean()) - 0.5


def absolute_miscalibration_area(mean: Pixels, std: Pixels, truth: Pixels) -> float:
    """``∫ |p - coverage(p)| dp`` on 201 levels, between 0 and 1/2 (Tran et al. 2020)."""
    curve = coverage_curve(mean, std, truth, tuple(k / 200 for k in range(201)))
    return float(torch.trapezoid((curve.levels - curve.empirical).abs(), curve.levels))


def sharpness(std: Pixels) -> float:
    """``mean std``: lower is sharper, which is a virtue only of calibrated intervals.

    The mean width of the intervals of probability p is ``2 Φ⁻¹((1 + p) / 2)`` times it.
    """
    return float(std.double().mean())


def scale_to_coverage(mean: Pixels, std: Pixels, truth: Pixels, level: float = 0.95) -> float:
    """The factor on the std with which the share ``level`` of the pixels is inside.

    ``quantile_level(|z|) / Φ⁻¹((1 + level) / 2)``: above 1 where the std is too small.

    Raises:
        InputError: shapes differ, a std is not positive, or the level is not between 0 and 1.
    """
    probability(level)
    z = z_scores(mean, std, truth).abs().reshape(-1)
    inside = max(1, math.ceil(level * len(z) - 1e-9))
    return float(z.kthvalue(inside).values) / half_width(level)


def sharpness_at_equal_coverage(
    mean: Pixels, std: Pixels, truth: Pixels, level: float = 0.95
) -> float:
    """Mean width of the intervals of probability ``level``, scaled to cover that share of pixels.

    ``2 quantile_level(|z|) mean std``, in the unit of the image; compares methods whose coverage
    differs (Gneiting, Balabdaoui and Raftery 2007: sharpness subject to calibration).
    """
    scale = scale_to_coverage(mean, std, truth, level)
    return 2 * half_width(level) * scale * sharpness(std)
