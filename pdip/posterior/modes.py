"""The leading modes of uncertainty: principal components of a posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from pdip.errors import InputError
from pdip.typing import Image, Mask

TOLERANCE = 1e-4  # of the variances, relative; the products are in single precision


@dataclass(frozen=True)
class Modes:
    """Principal components, the most uncertain first.

    Attributes:
        images: orthonormal (k, height, width), zero outside of the region; the sign makes the
            pixel of largest size positive.
        std: standard deviation along each, 1/mm times the root of a pixel count, (k,).
        share: part of the total variance of the region that each holds, (k,).
    """

    images: Image
    std: Tensor
    share: Tensor


def leading_modes(
    product: Callable[[Image], Image], std: Image, count: int, mask: Mask | None
) -> Modes:
    """The largest eigenpairs of a covariance by Lanczos iteration, one product a step.

    Args:
        product: the covariance times one image (height, width).
        std: of every pixel.
        count: number of modes.
        mask: the region; None for the whole image.

    Raises:
        InputError: ``count`` is not between 1 and the number of pixels less one.
    """
    mask = torch.ones_like(std, dtype=torch.bool) if mask is None else mask.to(std.device).bool()
    pixels = int(mask.sum())
    if not 1 <= count < pixels:
        raise InputError(
            f"expected a count from 1 to {pixels - 1}, one less than the pixels, got {count}"
        )

    def spread(vector: np.ndarray) -> Image:
        image = torch.zeros(std.shape, dtype=torch.float64, device=std.device)
        image[mask] = torch.as_tensor(vector, dtype=torch.float64).reshape(-1).to(std.device)
        return image

    operator = LinearOperator(
        (pixels, pixels),
        matvec=lambda vector: product(spread(vector))[mask].double().cpu().numpy(),
        dtype=np.float64,
    )
    start = np.random.default_rng(0).standard_normal(pixels)
    variances, vectors = eigsh(operator, k=count, which="LA", tol=TOLERANCE, v0=start)
    order = variances.argsort()[::-1]
    images = torch.stack([spread(vectors[:, i]) for i in order])
    flat = images.flatten(1)
    flip = flat.gather(1, flat.abs().argmax(1, keepdim=True)).sign()
    variances = torch.as_tensor(variances[order].copy()).clamp(min=0).to(std.device)
    total = std.double()[mask].square().sum()
    return Modes(images * flip[..., None], variances.sqrt(), variances / total)
