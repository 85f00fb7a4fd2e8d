"""Anisotropic total variation, and its exact expectation under a Gaussian image."""

import math

import torch
from torch import Tensor

from pdip.typing import Image, Scalar


def edge_differences(image: Image) -> Tensor:
    """Differences of neighbouring pixels: (*batch, height, width) to (*batch, edges).

    All vertical edges ``x[i+1, j] - x[i, j]`` come before all horizontal ones, row-major.
    """
    vertical = image[..., 1:, :] - image[..., :-1, :]
    horizontal = image[..., :, 1:] - image[..., :, :-1]
    return torch.cat([vertical.flatten(-2), horizontal.flatten(-2)], dim=-1)


def total_variation(image: Image) -> Tensor:
    """``TV(x) = Σ_edges |x_i - x_j|``, a sum and not a mean: (*batch, h, w) to (*batch,)."""
    return edge_differences(image).abs().sum(-1)


def expected_total_variation(mean: Tensor, std: Tensor) -> Scalar:
    """``E Σ|u_e|`` for edge differences ``u_e ~ N(m_e, s_e²)``, in closed form.

    ``E|u| = s √(2/π) exp(-m²/2s²) + m erf(m / s√2)``, the mean of the folded normal
    distribution (Leone, Nelson & Nottingham 1961, eq. 2).

    Args:
        mean: m_e, (edges,).
        std: s_e, (edges,), positive.
    """
    ratio = mean / std
    folded = std * math.sqrt(2 / math.pi) * torch.exp(-(ratio**2) / 2)
    return (folded + mean * torch.erf(ratio / math.sqrt(2))).sum()


def expected_total_variation_slope(mean: Tensor, std: Tensor) -> Tensor:
    """``∂E|u_e| / ∂s_e = 2 φ(m_e / s_e)`` with φ the standard normal density: (edges,)."""
    return math.sqrt(2 / math.pi) * torch.exp(-((mean / std) ** 2) / 2)
