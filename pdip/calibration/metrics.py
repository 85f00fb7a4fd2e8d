"""How good a reconstruction is, given the truth."""

import math

import numpy as np
import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.typing import Image

SSIM_WINDOW = 7


def data_range(truth: Image) -> float:
    """``max x - min x`` of the truth, the range of PSNR and SSIM.

    Raises:
        InputError: the truth is constant.
    """
    value = float(truth.max() - truth.min())
    if value <= 0:
        raise InputError("the ground truth is constant, so its range is 0; give another image.")
    return value


def psnr(image: Image, truth: Image) -> float:
    """Peak signal-to-noise ratio ``10 log10(range² / mean (x̂ - x)²)`` in dB; higher is better.

    Args:
        image: x̂, (height, width).
        truth: x, (height, width); its range is the peak.

    Example:
        >>> round(psnr(torch.tensor([[0.0, 0.9]]), torch.tensor([[0.0, 1.0]])), 3)
        23.01
    """
    image, truth = checked_pair(image, truth)
    if np.array_equal(image, truth):
        return math.inf
    from skimage.metrics import peak_signal_noise_ratio  # loads scipy.stats, which takes a second

    return float(
        peak_signal_noise_ratio(truth, image, data_range=data_range(torch.from_numpy(truth)))
    )


def ssim(image: Image, truth: Image) -> float:
    """Structural similarity (Wang et al. 2004; 7x7 windows, smaller on smaller images), at most 1.

    Args:
        image: (height, width), at least 3x3.
        truth: (height, width).
    """
    image, truth = checked_pair(image, truth)
    smallest = min(truth.shape)
    if smallest < 3:
        raise InputError(f"structural similarity needs at least 3x3 pixels, got {truth.shape}.")
    window = min(SSIM_WINDOW, smallest - 1 + smallest % 2)
    peak = data_range(torch.from_numpy(truth))
    from skimage.metrics import structural_similarity  # loads scipy.stats, which takes a second

    return float(structural_similarity(truth, image, data_range=peak, win_size=window))


def relative_l2(image: Image, truth: Image) -> float:
    """``‖x̂ - x‖ / ‖x‖``; 0 is perfect, 1 is the error of a black image."""
    image, truth = checked_pair(image, truth)
    return float(np.linalg.norm(image - truth) / np.linalg.norm(truth))


def checked_pair(image: Tensor, truth: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both images as float64 arrays; InputError unless they have one shape (height, width)."""
    if image.shape != truth.shape or image.ndim != 2:
        raise InputError(
            f"the image is {tuple(image.shape)} but the ground truth {tuple(truth.shape)}; "
            "compare two images of one grid."
        )
    return image.detach().double().cpu().numpy(), truth.detach().double().cpu().numpy()
