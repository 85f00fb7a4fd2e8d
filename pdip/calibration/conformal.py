"""Intervals that hold a share of exchangeable rays whatever their distribution: conformal
prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.calibration.checks import probability
from pdip.calibration.intervals import half_width
from pdip.typing import Image


@dataclass(frozen=True)
class Conformal:
    """The half width, in standard deviations, that held the wanted share of withheld rays.

    Attributes:
        level: wanted share.
        quantile: q; a new ray lies within q std of its prediction with probability ``level`` at
            least where it could be exchanged for the withheld ones. Infinite from too few rays.
        factor: q over that of a Gaussian, 1 where the error bars are right.
    """

    level: float
    quantile: float
    factor: float


def conformal(z: Tensor, level: float = 0.95) -> Conformal:
    """The ⌈(n + 1) level⌉-th smallest |z| (Angelopoulos and Bates 2021, section 1).

    The guarantee needs rays that could be exchanged for one another, as those withheld at random.
    Whole views, evenly spread, cannot: their rays err together and each lies farthest from the
    fitted views, so that q is an approximation. Either way it is one on average over rays, not for
    a pixel.

    Args:
        z: z-scores of withheld rays, (rays,).
        level: between 0 and 1.

    Raises:
        InputError: a level that is no probability.

    Example:
        >>> conformal(torch.arange(1, 20).double(), 0.9).quantile
        18.0
    """
    probability(level)
    place = math.ceil((len(z) + 1) * level - 1e-9)
    ordered = z.abs().sort().values
    quantile = float(ordered[place - 1]) if place <= len(z) else math.inf
    return Conformal(level, quantile, quantile / half_width(level))


def pixel_bounds(image: Image, std: Image, quantile: float) -> Tensor:
    """``x ∓ q std``, (2, height, width): bounds of pixels with the half width that rays needed.

    A pixel is no ray: these bounds guarantee nothing for pixels. They are as wide as they would
    have to be if the error of a pixel were to its std as that of a ray is to its own.

    Args:
        image: (height, width), 1/mm.
        std: (height, width), 1/mm.
        quantile: q of :func:`conformal`.
    """
    return torch.stack([image - quantile * std, image + quantile * std])
