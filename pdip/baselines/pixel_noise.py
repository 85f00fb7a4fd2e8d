"""What the measurement's noise alone makes of a pixel: the noise term of the sampled methods."""

from __future__ import annotations

import math

import torch

from pdip.typing import Sinogram

MEASURED_SHARE = 100 / 784  # combinations of pixels that count as measured, of all


def pixel_noise_variance(ray, noise_variance: float, weights: Sinogram | None = None) -> float:
    """Mean variance of a pixel from the noise in the best measured combinations of pixels.

    ``τ² = σ²/d Σ_{i ≤ k} s_i⁻²`` with s_i the ``k = ⌈100 d / 784⌉`` largest singular values of
    ``W^{1/2} A``, fewer where its rank is less, and d the number of pixels: the mean diagonal of σ²
    times the pseudo-inverse of ``Aᵀ W A``, truncated as the code of Antorán et al. (2022) does for
    MC dropout on 28 x 28 pixels. It is small by intention: what is hardly measured belongs to the
    method, not to this.

    Args:
        ray: A.
        noise_variance: σ² of a ray of weight 1.
        weights: W, (views, detectors); None for equal rays.

    Returns:
        τ², 1/mm².
    """
    matrix = ray.dense().double()
    if weights is not None:
        matrix = weights.reshape(-1, 1).to(matrix).sqrt() * matrix
    pixels = len(matrix.mT)
    strongest = torch.linalg.svdvals(matrix)[: math.ceil(MEASURED_SHARE * pixels)]
    rounding = max(matrix.shape) * torch.finfo(matrix.dtype).eps
    strongest = strongest[strongest > rounding * strongest[:1]]
    return noise_variance * float(strongest.square().reciprocal().sum()) / pixels
