"""What scores ask of their arguments, each in one sentence."""

import torch
from torch import Tensor

from pdip.errors import InputError


def comparable(mean: Tensor, std: Tensor, truth: Tensor) -> None:
    """InputError unless the three are of one shape and every std is positive."""
    one_grid(mean, std, truth)
    unusable = int((~(std > 0)).sum())
    if unusable:
        raise InputError(
            f"expected a positive std everywhere, got {unusable} values that are not; give the "
            "std a floor"
        )


def one_grid(mean: Tensor, std: Tensor, truth: Tensor) -> None:
    """InputError unless the three are of one shape."""
    if not mean.shape == std.shape == truth.shape:
        raise InputError(
            f"expected mean, std and truth of one shape, got {tuple(mean.shape)}, "
            f"{tuple(std.shape)} and {tuple(truth.shape)}; compare on one grid"
        )


def drawn_on(samples: Tensor, truth: Tensor) -> None:
    """InputError unless there are two samples to compare, on the grid of the truth."""
    if samples.ndim != 3 or samples.shape[1:] != truth.shape:
        sides = ", ".join(map(str, truth.shape))
        raise InputError(
            f"expected samples (samples, {sides}) on the grid of the truth, got "
            f"{tuple(samples.shape)}"
        )
    if len(samples) < 2:
        raise InputError(f"expected at least 2 samples, got {len(samples)}; draw more")


def probability(level: float) -> None:
    """InputError unless it is one of an interval that is neither empty nor endless."""
    if not 0 < level < 1:
        raise InputError(f"expected a level between 0 and 1, as 0.95, got {level:g}")


def covariance_of(covariance: Tensor, mean: Tensor) -> None:
    """InputError unless the matrix is square with a row for each pixel."""
    pixels = mean.numel()
    if covariance.shape != (pixels, pixels):
        raise InputError(
            f"expected a covariance ({pixels}, {pixels}) of an image of {pixels} pixels, got "
            f"{tuple(covariance.shape)}"
        )


def finite(**tensors: Tensor | None) -> None:
    """InputError where a value is NaN or infinite; None is left out."""
    for name, values in tensors.items():
        if values is not None and not bool(torch.isfinite(values).all()):
            raise InputError(f"expected a finite {name}, got NaN or infinity")
