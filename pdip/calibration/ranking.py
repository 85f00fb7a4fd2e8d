"""Is the error larger where the std is larger, and as large as it says?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.calibration.residuals import z_scores
from pdip.errors import InputError
from pdip.typing import Pixels

FRACTIONS = tuple(k / 50 for k in range(50))


@dataclass(frozen=True)
class Reliability:
    """Errors in bins of equally many pixels by their std; calibrated on the diagonal.

    Attributes:
        predicted: root mean square of the std in each bin, ascending, (bins,).
        error: root mean square error in each bin, (bins,).
        count: pixels in each bin, (bins,).
    """

    predicted: Tensor
    error: Tensor
    count: Tensor


@dataclass(frozen=True)
class Sparsification:
    """Error of the pixels that remain, relative to that of all, as the worst are taken away.

    Attributes:
        fraction: share of pixels taken away, (fractions,).
        by_std: those with the largest std first, (fractions,).
        by_error: those with the largest error first, the best order, (fractions,).
    """

    fraction: Tensor
    by_std: Tensor
    by_error: Tensor


def reliability(mean: Pixels, std: Pixels, truth: Pixels, bins: int = 10) -> Reliability:
    """Root mean square error against predicted std (Levi et al. 2022, section 4).

    Pixels of equal std count with their mean squared error, in whatever bins they fall.

    Args:
        mean: any shape.
        std: positive, of the same shape.
        truth: of the same shape.
        bins: bins of (nearly) equally many pixels.

    Raises:
        InputError: fewer pixels than bins.
    """
    z = z_scores(mean, std, truth).reshape(-1)
    if not 1 <= bins <= len(z):
        raise InputError(f"expected 1 to {len(z)} bins for {len(z)} pixels, got {bins}")
    variance = std.double().square().reshape(-1)
    squares = among_equals(variance, z.square() * variance)
    variance = variance.sort().values
    parts = [part.mean().sqrt() for values in (variance, squares)
             for part in values.tensor_split(bins)]  # fmt: skip
    count = torch.tensor([len(part) for part in variance.tensor_split(bins)])
    return Reliability(torch.stack(parts[:bins]), torch.stack(parts[bins:]), count)


def ence(mean: Pixels, std: Pixels, truth: Pixels, bins: int = 10) -> float:
    """Expected normalised calibration error ``mean_b |RMS std_b - RMSE_b| / RMS std_b``.

    Over bins b of equally many pixels by std (Levi et al. 2022, equation 8). Even a perfect std
    scores above 0: about ``√(bins / (π n))`` for n independent errors.
    """
    found = reliability(mean, std, truth, bins)
    return float(((found.predicted - found.error).abs() / found.predicted).mean())


def sparsification(
    mean: Pixels, std: Pixels, truth: Pixels, fractions: tuple[float, ...] = FRACTIONS
) -> Sparsification:
    """Root mean square error of what remains as pixels are taken away (Ilg et al. 2018).

    Pixels of equal std are taken away in random order, in the mean; a constant std keeps 1.

    Raises:
        InputError: the truth is met exactly, so that there is no error to order.
    """
    squares = (truth.double() - mean.double()).square().reshape(-1)
    if not bool(squares.any()):
        raise InputError("expected an image with errors, got one that equals the truth")
    by_std, by_error = remaining_error(std.reshape(-1), squares), remaining_error(squares, squares)
    taken = [min(round(fraction * len(squares)), len(squares) - 1) for fraction in fractions]
    share = torch.tensor([k / len(squares) for k in taken])
    return Sparsification(share.to(by_std), by_std[taken], by_error[taken])


def remaining_error(order: Tensor, squares: Tensor) -> Tensor:
    """RMSE, relative to that of all, after 0, 1, ... of the pixels largest in ``order``."""
    kept = among_equals(order, squares).cumsum(0)
    remaining = kept / torch.arange(1, len(squares) + 1, device=squares.device)
    return (remaining.flip(0) / squares.mean()).sqrt()


def among_equals(order: Tensor, values: Tensor) -> Tensor:
    """Values in ascending ``order``, where that is equal each the mean over those pixels: their
    places in the image are no order.

    Example:
        >>> among_equals(torch.tensor([2, 1, 2]), torch.tensor([4.0, 0.0, 6.0]))
        tensor([0., 5., 5.])
    """
    _, group, count = order.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(count), dtype=values.dtype, device=values.device)
    return (sums.index_add(0, group, values) / count).repeat_interleave(count)


def ause(mean: Pixels, std: Pixels, truth: Pixels) -> float:
    """Area between the sparsification curves by std and by error (Ilg et al. 2018).

    Of the root mean square error relative to that of all pixels, over the share taken away; 0 if
    the std orders the pixels as the error does. The scale of the std does not matter.
    """
    squares = (truth.double() - mean.double()).square().reshape(-1)
    curves = sparsification(mean, std, truth, tuple(k / len(squares) for k in range(len(squares))))
    return float(torch.trapezoid(curves.by_std - curves.by_error, curves.fraction))


def rank_correlation(mean: Pixels, std: Pixels, truth: Pixels) -> float:
    """Spearman's correlation of std and |error|, between -1 and 1; NaN if one is constant.

    Perfectly calibrated stds do not reach 1: an error is a draw, not its std.
    """
    error = (truth.double() - mean.double()).abs().reshape(-1).cpu()
    std = std.double().reshape(-1).cpu()
    if error.min() == error.max() or std.min() == std.max():
        return math.nan
    from scipy.stats import spearmanr  # takes a second to load

    return float(spearmanr(std.numpy(), error.numpy()).statistic)
