"""Bands by bootstrap over whole views: the rays of one view err together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import norm, t
from torch import Tensor

LEVEL = 0.95


@dataclass(frozen=True)
class ViewBand:
    """A number with its 95 % interval over resampled views.

    Attributes:
        value: of the data.
        low: lower end.
        high: upper end.
        standard_error: standard deviation over the resampled data.
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


def band(value: float, resampled: Tensor, num_views: int) -> ViewBand:
    """The percentile interval of resampled values, expanded for few views.

    The tail is ``Φ(-√(V / (V - 1)) t)`` with t the quantile of V - 1 degrees of freedom in place
    of 2.5 %, which few views need (Hesterberg 2015, section 5.3). NaN from a single view.

    Args:
        value: of the data.
        resampled: of the resampled data, (B,).
        num_views: V.
    """
    if num_views < 2:
        return ViewBand(value, math.nan, math.nan, math.nan)
    quantile = t.ppf((1 + LEVEL) / 2, num_views - 1)
    tail = norm.cdf(-math.sqrt(num_views / (num_views - 1)) * quantile)
    tails = torch.tensor([tail, 1 - tail], dtype=torch.float64, device=resampled.device)
    low, high = resampled.double().quantile(tails).tolist()
    return ViewBand(value, low, high, float(resampled.std()))


def mean_bands(values: Tensor, view: Tensor, *, seed: int = 0) -> list[ViewBand]:
    """Bands of the means over rays of several numbers.

    Args:
        values: (numbers, rays).
        view: (rays,) integers.
        seed: of the bootstrap.
    """
    often, number = resampled_views(view, seed=seed)
    place = {"dtype": torch.float64, "device": view.device}
    sums = torch.zeros(len(values), often.shape[1], **place).index_add(1, number, values.double())
    rays = torch.bincount(number).to(**place)
    means = (often @ sums.mT) / (often @ rays)[:, None]
    own = values.double().mean(1).tolist()
    return [band(value, column, len(rays)) for value, column in zip(own, means.mT, strict=True)]
