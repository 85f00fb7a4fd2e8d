"""Where a fit starts: the image that goes into the network, and what the network first becomes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pdip.dip.tv_reconstruction import tv_reconstruction
from pdip.ray import fbp
from pdip.ray.cgls import cgls
from pdip.typing import Image, Sinogram

SCALE_ITERATIONS = 5
SMALL_PIXELS = 1600
BOUNDED_PIXELS = 6400  # up to here the default output activation is a sigmoid
RAYS_PER_PIXEL = 0.5
ROUGH_ITERATIONS = 3  # of noise level and TV reconstruction


@dataclass(frozen=True)
class DataTerm:
    """What is measured, on the ray transform's device and in its precision.

    Attributes:
        ray: A.
        sinogram: y, (views, detectors).
        weights: W, (views, detectors).
        noise_std: σ of a ray of weight 1.
    """

    ray: object
    sinogram: Sinogram
    weights: Sinogram
    noise_std: float

    @classmethod
    def of(cls, scan, ray, noise_std: float) -> DataTerm:
        place = {"dtype": ray.dtype, "device": ray.device}
        sinogram = scan.sinogram.to(**place)
        weights = torch.ones_like(sinogram) if scan.weights is None else scan.weights.to(**place)
        return cls(ray, sinogram, weights, noise_std)

    @property
    def num_rays(self) -> int:
        """Rays of positive weight."""
        return int((self.weights > 0).sum())

    def squared_residual(self, image: Image, weights: Tensor | None = None) -> Tensor:
        """``‖W^{1/2}(A x - y)‖²`` of each image of a batch."""
        residual = self.ray.forward(image) - self.sinogram
        return ((self.weights if weights is None else weights) * residual.square()).sum((-2, -1))

    def level(self, image: Image) -> float:
        """Mean squared residual over the noise variance."""
        return float(self.squared_residual(image)) / self.num_rays / self.noise_std**2

    def smooth_maximum(self) -> float:
        """Largest pixel of a smooth reconstruction: five steps of CGLS, or the noise level."""
        iterates = cgls(
            self.ray,
            self.sinogram,
            iterations=SCALE_ITERATIONS,
            weights=self.weights,
            stop_residual=self.num_rays * self.noise_std**2,
        )
        return float(iterates[-1].max())


class Start(ABC):
    """What a fit begins with.

    Attributes:
        image: goes into the network, over its image scale; (height, width), 1/mm.
        image_scale: for a network that leaves it open, 1/mm.
        noise_std: σ as it is known once the image is.
        warm: whether the network is first fitted to ``image`` itself.
        tv_rate: λ image_scale / σ², the prior's rate on edges relative to the image's range.
        noise_share: the share of the noise variance at which a fit's residual is that of noise:
            free weights take up part of it before the image is complete.
    """

    image: Image
    image_scale: float
    noise_std: float
    noise_share: float
    warm: ClassVar[bool]
    tv_rate: ClassVar[float]

    @classmethod
    @abstractmethod
    def of(cls, data: DataTerm) -> Start:
        """The start for these data; ``data.noise_std`` is an estimate that may be corrected."""


@dataclass(frozen=True)
class FBPStart(Start):
    """Filtered backprojection into a network of random weights."""

    image: Image
    image_scale: float
    noise_std: float
    noise_share: float = 0.7
    warm = False
    tv_rate = 0.3

    @classmethod
    def of(cls, data):
        image = fbp(data.ray, data.sinogram * (data.weights > 0))
        return cls(image, data.smooth_maximum(), data.noise_std)


@dataclass(frozen=True)
class TVStart(Start):
    """The TV reconstruction into a network that is first fitted to it.

    Real scans hold errors that no image explains and no smooth model of the image shows: where
    the TV reconstruction leaves more than the noise level, its residual is the noise level. A fit
    is done where it explains the rays nearly as well as the TV reconstruction.
    """

    image: Image
    image_scale: float
    noise_std: float
    noise_share: float
    warm = True
    tv_rate = 1.0
    image_tv_rate: ClassVar[float] = 3.0
    more_residual: ClassVar[float] = 1.25

    @classmethod
    def of(cls, data):
        maximum = data.smooth_maximum()
        for _ in range(ROUGH_ITERATIONS):
            tv_weight = cls.image_tv_rate * data.noise_std**2 / maximum
            image = tv_reconstruction(data.ray, data.sinogram, data.weights, tv_weight)
            level = data.level(image)
            if level > 1:
                data, level = replace(data, noise_std=math.sqrt(level) * data.noise_std), 1.0
            else:
                break
        scale = max(float(image.max()), 1e-3 * maximum)
        return cls(image, scale, data.noise_std, cls.more_residual * level)


STARTS: dict[str, type[Start]] = {"fbp": FBPStart, "tv": TVStart}


def choose_start(ray, num_rays: int) -> str:
    """``"fbp"`` for small images of few rays, where the TV reconstruction is far off."""
    pixels = math.prod(ray.domain_shape)
    return "fbp" if pixels <= SMALL_PIXELS and num_rays < RAYS_PER_PIXEL * pixels else "tv"
