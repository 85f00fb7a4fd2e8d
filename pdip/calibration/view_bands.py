"""Bands from how whole views differ: the rays of one view err together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor

LEVEL = 0.95
LARGEST_LOG = 300.0
"""Of the ends of a band, so that none overflows."""


@dataclass(frozen=True)
class ViewBand:
    """A number with its 95 % interval over views.

    Attributes:
        value: of the data.
        low: lower end.
        high: upper end.
        standard_error: of the value, from the spread between views.
    """

    value: float
    low: float
    high: float
    standard_error: float


def resampled_views(view: Tensor, *, resamples: int = 1000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """How often each view counts when views are drawn anew with replacement (Efron 1979).

    Args:
        view: the view of each ray, (rays,) integers.
        resamples: B.
        seed: of the draws.

    Returns:
        (B, views) float64 of the V views that occur, and the place of each ray's view among them,
        (rays,): the first at ``[:, second]`` says how often each ray counts.
    """
    number = torch.unique(view, return_inverse=True)[1]
    count = int(number.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(count, (resamples, count), generator=generator)
    often = torch.zeros(resamples, count, dtype=torch.float64)
    often.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return often.to(view.device), number


def quantile_of(num_views: int, comparisons: int = 1) -> float:
    """How many standard errors a band goes either way: Student's t of V - 1 degrees of freedom.

    Args:
        num_views: V, at least 2.
        comparisons: bands that hold together as often as a single one (Bonferroni).
    """
    return float(stdtrit(num_views - 1, 1 - (1 - LEVEL) / 2 / comparisons))


def mean_bands(values: Tensor, view: Tensor, *, kind: str = "number") -> list[ViewBand]:
    """Bands of the means over rays of several numbers; NaN from a single view.

    With ``D_v`` the sum over the n_v rays of view v, ``se² = V/(V-1) Σ_v (D_v - n_v d)² / n²``
    (the linearised variance of a ratio; Cochran 1977, section 6), and Student's t with V - 1
    degrees of freedom: resampled views would hold the truth less often, 78 % from three.

    Args:
        values: (numbers, rays).
        view: (rays,) integers.
        kind: what the numbers are, and so on which scale their band is symmetric: "number";
            "positive" (log); "share" (logit of (k + 1) / (n + 2), with an error no less than that
            of independent rays).

    Example:
        >>> mean_bands(torch.tensor([[0.0, 2.0]]).double(), torch.tensor([0, 1]))[0].value
        1.0
    """
    number = torch.unique(view, return_inverse=True)[1]
    views, count = int(number.max()) + 1, len(view)
    values = values.double()
    means = values.mean(1)
    sums = values.new_zeros(len(values), views)
    sums = sums.index_add(1, number, values - means[:, None])
    if views < 2:
        return [ViewBand(mean, math.nan, math.nan, math.nan) for mean in means.tolist()]
    errors = (views / (views - 1) * sums.square().sum(1)).sqrt() / count
    width = quantile_of(views)
    pairs = zip(means.tolist(), errors.tolist(), strict=True)
    return [ViewBand(m, *ENDS[kind](m, e, width, count), e) for m, e in pairs]


def _ends_of_number(mean: float, error: float, width: float, count: int) -> tuple[float, float]:
    return mean - width * error, mean + width * error


def _ends_of_positive(mean: float, error: float, width: float, count: int) -> tuple[float, float]:
    ratio = math.exp(min(width * error / max(mean, 1e-300), LARGEST_LOG))
    return mean / ratio, mean * ratio


def _ends_of_share(mean: float, error: float, width: float, count: int) -> tuple[float, float]:
    inner = (mean * count + 1) / (count + 2)
    spread = inner * (1 - inner)
    step = width * max(error, math.sqrt(spread / count)) / spread
    logit = math.log(inner / (1 - inner))
    low, high = (1 / (1 + math.exp(-max(logit + s * step, -LARGEST_LOG))) for s in (-1, 1))
    return min(low, mean), max(high, mean)


ENDS = {"number": _ends_of_number, "positive": _ends_of_positive, "share": _ends_of_share}
"""Kind of a number -> the ends of its band from mean, standard error, its multiple and rays."""
