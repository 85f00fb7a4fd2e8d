"""What the measurement's noise alone makes of a pixel: the noise term of the sampled methods."""

from __future__ import annotations

import torch

from pdip.typing import Sinogram

STRONGEST = 100  # combinations of pixels that count as measured


def pixel_noise_variance(ray, noise_variance: float, weights: Sinogram | None = None) -> float:
    """Mean variance of a pixel from the noise in the best measured combinations of pixels.

    ``τ² = σ²/d Σ_{i ≤ k} s_i⁻²`` with s_i the k = 100 largest singular values of ``W^{1/2} A``: the
    mean diagonal of σ² times the pseudo-inverse of ``Aᵀ W A``, truncated as the code of Antorán et
    al. (2022) truncates it for MC dropout. Fewer singular values where A has a lower rank.

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
    singular = torch.linalg.svdvals(matrix)
    singular = singular[singular > singular[0] * max(matrix.shape) * torch.finfo(ray.dtype).eps]
    return noise_variance * float(singular[:STRONGEST].square().reciprocal().sum()) / len(matrix.mT)
