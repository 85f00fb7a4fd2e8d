"""What every posterior offers, whatever it is made of: a Gaussian on images and its questions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from pdip.calibration import nll_per_pixel, normal_log_density, patches
from pdip.errors import InputError
from pdip.linearised.features import MAX_STORED_PIXELS
from pdip.posterior.modes import Modes, leading_modes
from pdip.solvers import Solution
from pdip.typing import Image, Mask

RESOLUTION = 5e-3
"""Smallest std of a pixel, relative to the image scale: finer grey levels are never claimed."""
MAX_DENSE_PIXELS = MAX_STORED_PIXELS


class ImagePosterior(ABC):
    """A Gaussian distribution of images given one scan.

    Attributes:
        image: x*, the network's image, the centre of the shipped error bars, (height, width).
        mean: the linear model's own posterior mean, (height, width).
        solution: certificate of the solves behind it.
    """

    image: Image
    mean: Image
    solution: Solution

    @abstractmethod
    def covariance(self, mask: Mask | None = None) -> Tensor:
        """Covariance of the pixels in ``mask`` (None: all), (k, k) float64, row-major order.

        Raises:
            InputError: more pixels than a dense matrix is kept for.
        """

    @abstractmethod
    def std(self) -> Image:
        """Standard deviation of every pixel, 1/mm."""

    @abstractmethod
    def sample(self, num_samples: int, *, generator: torch.Generator) -> Image:
        """Draws around ``image``: (num_samples, height, width)."""

    @abstractmethod
    def functional_variance(self, weights: Image) -> float:
        """``Var[Σ_i w_i x_i]``."""

    @abstractmethod
    def covariance_product(self, image: Image) -> Image:
        """The covariance times an image, (height, width) float64."""

    @property
    def std_samples(self) -> int | None:
        """Number of draws behind ``std``; None where it is exact."""
        return None

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What :class:`SavedPosterior` needs to answer without the network."""

    def functional(self, weights: Image) -> tuple[float, float]:
        """Mean and std of ``Σ_i w_i x_i``, for example of a region with ``w = mask / count``.

        Args:
            weights: (height, width).

        Raises:
            InputError: weights of another shape, or not finite.
        """
        if weights.shape != self.image.shape or not bool(torch.isfinite(weights).all()):
            raise InputError(
                f"expected finite weights of shape {tuple(self.image.shape)}, got "
                f"{tuple(weights.shape)}"
            )
        mean = (weights.double() * self.image.double()).sum()
        return float(mean), math.sqrt(max(self.functional_variance(weights), 0.0))

    def std_error(self) -> Image:
        """Monte-Carlo standard error of ``std``: ``std / √(2 N)`` from N draws, 0 where exact."""
        draws = self.std_samples
        return torch.zeros_like(self.std()) if draws is None else self.std() / math.sqrt(2 * draws)

    def modes(self, count: int, mask: Mask | None = None) -> Modes:
        """The leading principal components of the image or a region: what is least known.

        Args:
            count: how many.
            mask: (height, width), true inside the region; None for the image.

        Raises:
            InputError: ``count`` is not between 1 and the number of pixels less one.
        """
        return leading_modes(self.covariance_product, self.std(), count, mask)

    def log_prob(self, image: Image, patch: int | None = None) -> float:
        """Log-density of an image under the Gaussian around ``image``, nats.

        Args:
            image: (height, width).
            patch: None for the joint density of all pixels; p for the sum of the joint densities
                of p x p patches side by side (those at the border may be smaller), 1 for the
                pixels' marginals.

        Raises:
            InputError: an image of another shape, or ``patch`` below 1.
            ComputationError: a covariance is not positive definite.
        """
        if image.shape != self.image.shape:
            raise InputError(
                f"expected an image of shape {tuple(self.image.shape)}, got {tuple(image.shape)}"
            )
        error = (image.double() - self.image.double()).to(self.image.device)
        if patch == 1:
            return -nll_per_pixel(self.image, self.std(), image.to(self.image)) * image.numel()
        total = 0.0
        for group in patches(*error.shape, patch):
            for index in group.to(error.device):
                mask = torch.zeros(error.numel(), dtype=torch.bool, device=error.device)
                mask[index] = True
                covariance = self.covariance(mask.reshape(error.shape))
                total += float(normal_log_density(error.reshape(-1)[index], covariance))
        return total


def positive_definite(covariance: Tensor, least: float) -> Tensor:
    """A covariance whose eigenvalues are at least ``least``, where rounding has made it indefinite.

    Gram bases of single precision are so by 3e-9 of the prior's variance, which is more than the
    floor of the std where that variance is a thousand times the image's.
    """
    if not bool(torch.linalg.cholesky_ex(covariance).info):
        return covariance
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=least)) @ vectors.mT


def select(covariance: Tensor, mask: Mask | None) -> Tensor:
    """The rows and columns of the pixels in a mask."""
    if mask is None:
        return covariance
    index = mask.reshape(-1).nonzero()[:, 0]
    return covariance[index][:, index]


def saved(tensors: dict[str, Tensor], solution: Solution) -> dict[str, Tensor]:
    """Tensors as they are kept on disk, with the certificate: float32, the covariance float64.

    Its smallest eigenvalues lie at RESOLUTION², which the rounding of float32 can swallow.
    """
    certificate = {
        "worst_residual": torch.tensor(solution.worst_residual),
        "converged": torch.tensor(float(solution.converged)),
    }
    return {
        name: value.to(torch.float64 if name == "covariance" else torch.float32).cpu().contiguous()
        for name, value in (tensors | certificate).items()
    }
