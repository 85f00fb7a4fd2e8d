"""Log-density of a truth under the claimed Gaussian: per pixel, per patch, and of the image."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from pdip.calibration.checks import comparable
from pdip.errors import ComputationError, InputError
from pdip.typing import Image, Pixels

MAX_ELEMENTS = 2**23
"""Numbers in the largest tensor at a time."""


def patches(height: int, width: int, size: int | None) -> list[Tensor]:
    """Row-major pixel numbers of the size x size patches side by side that tile an image.

    Args:
        height: rows of the image.
        width: columns of the image.
        size: side of a patch; None for one patch, the whole image.

    Returns:
        at most four tensors (patches, pixels of a patch): those at the right and lower border
        may be smaller than the others.

    Raises:
        InputError: ``size`` below 1.

    Example:
        >>> [tuple(group.shape) for group in patches(5, 4, 2)]
        [(4, 4), (2, 2)]
    """
    if size is not None and size < 1:
        raise InputError(f"expected a patch of at least 1 pixel, got {size}")
    size = max(height, width) if size is None else size
    rows, columns = height - height % size, width - width % size
    number = torch.arange(height * width).reshape(height, width)
    groups = []
    for part in (number[:rows], number[rows:]):
        for piece in (part[:, :columns], part[:, columns:]):
            if piece.numel():
                tall, wide = min(size, piece.shape[0]), min(size, piece.shape[1])
                tiles = piece.unfold(0, tall, tall).unfold(1, wide, wide)
                groups.append(tiles.reshape(-1, tall * wide))
    return groups


def whitened(
    error: Float[Tensor, "*batch k"], covariance: Float[Tensor, "*batch k k"]
) -> tuple[Float[Tensor, "*batch k"], Float[Tensor, "*batch"]]:
    """``L⁻¹ e`` and ``log det C`` for ``C = L Lᵀ``.

    Raises:
        ComputationError: C is not positive definite.
    """
    root, info = torch.linalg.cholesky_ex(covariance)
    if bool(info.any()):
        raise ComputationError(
            f"expected a positive definite posterior covariance, got one whose leading minor "
            f"{int(info.max())} of {covariance.shape[-1]} is not; ask for the marginals with "
            "patch=1"
        )
    white = torch.linalg.solve_triangular(root, error[..., None], upper=False)[..., 0]
    return white, 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def normal_log_density(
    error: Float[Tensor, "*batch k"], covariance: Float[Tensor, "*batch k k"]
) -> Float[Tensor, "*batch"]:
    """``log N(e; 0, C)``, nats.

    Raises:
        ComputationError: C is not positive definite.

    Example:
        >>> normal_log_density(torch.zeros(2), torch.eye(2))
        tensor(-1.8379)
    """
    white, log_det = whitened(error, covariance)
    return -0.5 * (white.square().sum(-1) + log_det + error.shape[-1] * math.log(2 * math.pi))


def nll_per_pixel(mean: Pixels, std: Pixels, truth: Pixels) -> float:
    """``-mean log N(x_i; x̂_i, std_i²)``, nats per pixel; lower is better.

    Its value depends on the unit: ``log 1000`` is added for images in 1/m.

    Example:
        >>> round(nll_per_pixel(torch.zeros(1), torch.ones(1), torch.zeros(1)), 4)
        0.9189

    Raises:
        InputError: shapes differ, or a std is not positive.
    """
    comparable(mean, std, truth)
    std = std.double()
    z = (truth.double() - mean.double()) / std
    return float((0.5 * z.square() + std.log()).mean()) + 0.5 * math.log(2 * math.pi)


def patch_nll_per_pixel(
    mean: Image,
    truth: Image,
    *,
    patch: int | None = None,
    covariance: Tensor | None = None,
    samples: Tensor | None = None,
    shrinkage: float = 0.0,
) -> float:
    """``-Σ_P log N(x_P; x̂_P, C_P) / n`` over patches P side by side, nats per pixel.

    Joint within a patch, independent between them. With samples, ``C_P = Σ_s d_s d_sᵀ / S`` of
    the deviations ``d_s`` from the mean, pessimistic unless S is many times the pixels of a patch.

    Args:
        mean: x̂, (height, width).
        truth: x, (height, width).
        patch: side of a patch; None for the joint density of the image, 1 for the marginals.
        covariance: (n, n) in row-major order of the pixels; give this or ``samples``.
        samples: (S, height, width), with S above the pixels of a patch.
        shrinkage: factor in [0, 1] taken off every covariance of two pixels (0.5 is the halving
            of Barbano et al. 2022); 1 leaves the marginals.

    Raises:
        InputError: none or both of covariance and samples, too few samples, or a number out of
            range.
        ComputationError: a covariance is not positive definite.
    """
    if (covariance is None) == (samples is None):
        raise InputError("expected a covariance or samples to form densities of patches, give one")
    if not 0 <= shrinkage <= 1:
        raise InputError(f"expected a shrinkage between 0 and 1, got {shrinkage}")
    error = (truth.double() - mean.double()).reshape(-1)
    deviations = None if samples is None else (samples.double() - mean.double()).flatten(1)
    total = 0.0
    for group in patches(*mean.shape, patch):
        for index, block in patch_covariances(group.to(error.device), covariance, deviations):
            variance = block.diagonal(dim1=-2, dim2=-1)
            shrunk = (1 - shrinkage) * block + torch.diag_embed(shrinkage * variance)
            total += float(normal_log_density(error[index], shrunk).sum())
    return -total / error.numel()


def patch_covariances(
    group: Tensor, covariance: Tensor | None, deviations: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Patches (count, k) and their covariances (count, k, k), few enough at a time to be held."""
    pixels = group.shape[1]
    if deviations is not None and len(deviations) <= pixels:
        raise InputError(
            f"expected more samples than the {pixels} pixels of a patch, got {len(deviations)}; "
            "take smaller patches or give the covariance"
        )
    rows = pixels if deviations is None else max(pixels, len(deviations))
    for index in group.split(max(1, MAX_ELEMENTS // (rows * pixels))):
        if deviations is None:
            yield index, covariance[index[:, :, None], index[:, None, :]].double()
        else:
            chosen = deviations[:, index].transpose(0, 1)
            yield index, chosen.mT @ chosen / len(deviations)
