"""Proper scores: one number for calibration and sharpness together; lower is better.

scoringrules is imported where it is used: beside numba its import compiles for seconds.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pdip.calibration.checks import comparable, drawn_on, probability
from pdip.calibration.density import MAX_ELEMENTS, patches
from pdip.calibration.intervals import half_width
from pdip.errors import InputError
from pdip.typing import Image, Pixels

Draws = Float[Tensor, "samples height width"]


def crps(mean: Pixels, std: Pixels, truth: Pixels) -> float:
    """Continuous ranked probability score of the Gaussian marginals, mean over pixels.

    ``std [z (2 Φ(z) - 1) + 2 φ(z) - 1/√π]`` (Gneiting and Raftery 2007, equation 21), in the unit
    of the image.

    Example:
        >>> round(crps(torch.zeros(1), torch.ones(1), torch.zeros(1)), 4)
        0.2337

    Raises:
        InputError: shapes differ, or a std is not positive.
    """
    comparable(mean, std, truth)
    # Not scoringrules.crps_normal: its torch backend rounds 1/√π and √2 to float32.
    std = std.double()
    z = (truth.double() - mean.double()) / std
    density = (-0.5 * z.square()).exp() * math.sqrt(2 / math.pi)
    each = z * torch.special.erf(z / math.sqrt(2)) + density - 1 / math.sqrt(math.pi)
    return float((std * each).mean())


def crps_of_samples(samples: Draws, truth: Image) -> float:
    """The same score of an ensemble: ``E|X - x| - E|X - X'| / 2``, unbiased, mean over pixels.

    Args:
        samples: (samples, height, width), at least two.
        truth: x, (height, width).

    Raises:
        InputError: fewer than two samples, or another grid.
    """
    import scoringrules

    drawn_on(samples, truth)
    total, flat, point = 0.0, samples.flatten(1), truth.double().reshape(-1)
    step = max(1, MAX_ELEMENTS // len(samples))
    for part, x in zip(flat.split(step, dim=1), point.split(step), strict=True):
        total += float(
            scoringrules.crps_ensemble(
                x, part.double(), m_axis=0, estimator="pwm", backend="torch"
            ).sum()
        )
    return total / truth.numel()


def interval_score(mean: Pixels, std: Pixels, truth: Pixels, level: float = 0.95) -> float:
    """``(u - l) + 2/α [(l - x)₊ + (x - u)₊]`` of the central interval, mean over pixels.

    ``α = 1 - level`` (Gneiting and Raftery 2007, equation 43), in the unit of the image.

    Raises:
        InputError: shapes differ, a std is not positive, or the level is not between 0 and 1.
    """
    import scoringrules

    comparable(mean, std, truth)
    probability(level)
    half = half_width(level) * std.double()
    found = scoringrules.interval_score(
        truth.double(), mean.double() - half, mean.double() + half, 1 - level, backend="torch"
    )
    return float(found.mean())


def energy_score(samples: Draws, truth: Image) -> float:
    """``E‖X - x‖ - E‖X - X'‖ / 2`` over whole images, unbiased (Gneiting and Raftery 2007).

    Pairs of samples are taken one at a time: no tensor (samples, samples, pixels).

    Args:
        samples: X, (samples, height, width), at least two.
        truth: x, (height, width).

    Raises:
        InputError: fewer than two samples, or another grid.

    Example:
        >>> energy_score(torch.zeros(2, 1, 1), torch.ones(1, 1))
        1.0
    """
    drawn_on(samples, truth)
    flat = samples.double().flatten(1)
    distance = (flat - truth.double().reshape(-1)).norm(dim=1).mean()
    return float(distance - 0.5 * torch.pdist(flat).mean())


def variogram_score(samples: Draws, truth: Image, *, patch: int = 5, order: float = 0.5) -> float:
    """``mean_ij (|x_i - x_j|^q - E|X_i - X_j|^q)²`` over pairs of pixels of one patch.

    Sees wrong correlations, which the energy score hardly does (Scheuerer and Hamill 2015).

    Args:
        samples: X, (samples, height, width).
        truth: x, (height, width).
        patch: side of the patches side by side that pairs are taken from, at least 2.
        order: q, positive.

    Raises:
        InputError: fewer than two samples, another grid, a patch without pairs, or an order that
            is not positive.
    """
    import scoringrules

    drawn_on(samples, truth)
    if not order > 0:
        raise InputError(f"expected a positive order of the variogram, got {order:g}")
    if patch < 2:
        raise InputError(f"expected patches of at least 2x2 pixels to form pairs, got {patch}")
    flat, point = samples.double().flatten(1), truth.double().reshape(-1)
    total, pairs = 0.0, 0
    for group in patches(*truth.shape, patch):
        pixels = group.shape[1]
        pairs += len(group) * pixels * (pixels - 1)
        for index in group.to(flat.device).split(max(1, MAX_ELEMENTS // (len(flat) * pixels**2))):
            found = scoringrules.vs_ensemble(
                point[index], flat[:, index].transpose(0, 1), p=order, backend="torch"
            )
            total += float(found.sum())
    return total / max(pairs, 1)
