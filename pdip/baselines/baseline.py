"""What every baseline offers: a value that turns a fitted scan into a Gaussian on images."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from pdip.dip import DIPFit
from pdip.errors import InputError
from pdip.posterior import ImagePosterior, SavedPosterior
from pdip.posterior.image_posterior import RESOLUTION
from pdip.ray import RayTransform
from pdip.typing import Image


class Baseline(ABC):
    """A method to compare with: a frozen value whose fields are its settings.

    Every baseline sees what the main path sees, the scan and its fit, and answers with what the
    main path answers with; the floor of the std is that of the main path.
    """

    @abstractmethod
    def posterior(self, scan, ray: RayTransform, fit: DIPFit, *, seed: int = 0) -> ImagePosterior:
        """The method's Gaussian distribution of images given the scan.

        Args:
            scan: the scan that was fitted.
            ray: its ray transform.
            fit: the main path's fit, ``fit.restarts`` all of them; a method that fits by itself
                takes the noise level, the TV weight and the architecture from it.
            seed: of all random numbers of the method.

        Raises:
            InputError: the method cannot use this fit.
            ComputationError: it has no honest result.
        """


def gaussian(image: Image, covariance: Tensor, image_scale: float) -> SavedPosterior:
    """The Gaussian around an image as a posterior, with the main path's floor of the std.

    ``N(x, C + (5e-3 image_scale)² I)``

    Args:
        image: x, (height, width), 1/mm.
        covariance: C, (pixels, pixels) or, where it is diagonal, (pixels,), 1/mm².
        image_scale: the largest value of the network's image, ``fit.network.image_scale``.

    Raises:
        InputError: a covariance of another shape, or values that are not finite.
    """
    pixels = image.numel()
    if covariance.shape not in {(pixels,), (pixels, pixels)}:
        raise InputError(
            f"expected a covariance ({pixels}, {pixels}) or ({pixels},) of an image of {pixels} "
            f"pixels, got {tuple(covariance.shape)}"
        )
    if not bool(torch.isfinite(covariance).all() and torch.isfinite(image).all()):
        raise InputError("expected a finite image and covariance, got NaN or infinity")
    dense = covariance.double()
    dense = torch.diag(dense) if dense.ndim == 1 else (dense + dense.mT) / 2
    dense.diagonal().add_((RESOLUTION * image_scale) ** 2)
    std = dense.diagonal().sqrt().reshape(image.shape).to(image)
    return SavedPosterior({"image": image, "mean": image, "std": std, "covariance": dense})
