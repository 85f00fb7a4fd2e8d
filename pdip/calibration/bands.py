"""Error bands of a score by resampling: over images, or over blocks of one image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.calibration.checks import probability
from pdip.errors import InputError


@dataclass(frozen=True)
class Band:
    """A value and where it may lie.

    Attributes:
        value: the statistic of the data.
        low: lower end of the percentile interval.
        high: its upper end.
        standard_error: standard deviation over the resampled data.
    """

    value: float
    low: float
    high: float
    standard_error: float


def bootstrap(
    statistic: Callable[..., float],
    *tensors: Tensor,
    block: int | None = None,
    level: float = 0.95,
    resamples: int = 500,
    generator: torch.Generator,
) -> Band:
    """Percentile band of ``statistic(*tensors)`` (Efron 1979), never from √(number of pixels).

    Over images: the tensors' first entries, (images, ...), are drawn anew with replacement. Over
    blocks of one image, whose pixels are correlated: blocks of any place, wrapped at the border,
    are drawn until they fill an image (circular block bootstrap, Politis and Romano 1992), and
    the statistic, which must not depend on the order of pixels, is given flat tensors (pixels,).

    Args:
        statistic: the score, called with tensors like those given.
        tensors: resampled together; (images, ...), or with ``block`` (height, width) each.
        block: side of the blocks in pixels, larger than the errors' correlation and at most half
            the image's shorter side; None to resample images.
        level: of the band.
        resamples: how often to draw anew.
        generator: source of randomness, on the CPU.

    Raises:
        InputError: tensors of several shapes, nothing to resample, or a level that is not
            between 0 and 1.

    Example:
        >>> scores = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> band = bootstrap(
        ...     lambda x: float(x.mean()), scores, generator=torch.Generator().manual_seed(0)
        ... )
        >>> band.value, band.low < 2.5 < band.high
        (2.5, True)
    """
    check(tensors, block)
    probability(level)
    count = len(tensors[0])
    found = []
    for _ in range(resamples):
        if block is None:
            index = torch.randint(count, (count,), generator=generator)
            drawn = [x[index.to(x.device)] for x in tensors]
        else:
            index = block_pixels(*tensors[0].shape, block, generator)
            drawn = [x.reshape(-1)[index.to(x.device)] for x in tensors]
        found.append(statistic(*drawn))
    values = torch.tensor(found, dtype=torch.float64)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = values.quantile(tails).tolist()
    return Band(float(statistic(*tensors)), low, high, float(values.std()))


def block_pixels(height: int, width: int, block: int, generator: torch.Generator) -> Tensor:
    """Row-major pixel numbers of blocks drawn with replacement, as many as an image has pixels."""
    count = -(-height * width // block**2)
    top = torch.randint(height, (count, 1, 1), generator=generator)
    left = torch.randint(width, (count, 1, 1), generator=generator)
    rows = (top + torch.arange(block)[:, None]) % height
    columns = (left + torch.arange(block)) % width
    return (rows * width + columns).reshape(-1)[: height * width]


def check(tensors: tuple[Tensor, ...], block: int | None) -> None:
    """InputError unless the tensors can be resampled together."""
    if not tensors:
        raise InputError("expected at least one tensor to resample, got none")
    first = tensors[0].shape
    alike = all(x.shape == first if block else x.shape[:1] == first[:1] for x in tensors)
    flat = block is not None and len(first) != 2
    if not alike or not first or flat:
        kind = "tensors (images, ...)" if block is None else "images (height, width)"
        raise InputError(
            f"expected {kind} that agree, got {', '.join(str(tuple(x.shape)) for x in tensors)}"
        )
    if block is not None and not 1 <= block <= min(first) // 2:
        raise InputError(
            f"expected blocks of at least 1 pixel and at most {min(first) // 2}, half the image's "
            f"side, as larger ones are all the same, got {block}"
        )
