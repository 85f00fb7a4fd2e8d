"""Where a fit starts: the image that goes into the network, and what the network first becomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pdip.dip.tv_reconstruction import settled, tv_iterates
from pdip.errors import InputError
from pdip.ray import fbp
from pdip.ray.cgls import cgls
from pdip.scan.arc_gap import missing_arc
from pdip.typing import Image, Sinogram

SCALE_ITERATIONS = 5
SMALL_PIXELS = 1600
BOUNDED_PIXELS = 6400  # up to here the default output activation is a sigmoid
RAYS_PER_PIXEL = 0.5
NOISY_LEVEL = 64.0  # mean square of the measured values over the noise variance
ROUGH_ITERATIONS = 3  # of noise level and TV reconstruction
IMAGE_TV_RATE = 3.0  # λ image_scale / σ² of the TV reconstruction
TV_EFFORTS = ((1000, 3e-4), (4000, 3e-5), (16_000, 3e-6))  # iterations and tolerance
TV_SETTLED = 0.05  # a residual that more effort lowers by less is settled
GROWTH_STEPS = 500  # the learning rate grows by its first value every so many steps
MOST_HURRIED = 8.0  # first values; from 12 on some fits fall apart
MORE_RESIDUAL = 1.25  # of a fit than of the TV reconstruction


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
        """Largest pixel of a smooth reconstruction: five steps of CGLS, or the noise level.

        Raises:
            InputError: no pixel of it is positive.
        """
        iterates = cgls(
            self.ray,
            self.sinogram,
            iterations=SCALE_ITERATIONS,
            weights=self.weights,
            stop_residual=self.num_rays * self.noise_std**2,
        )
        maximum = float(iterates[-1].max()) if iterates else 0.0
        if not maximum > 0:
            raise InputError(
                "expected line integrals of an object that absorbs, got a scan whose smooth "
                "reconstruction has no positive pixel; check the sign and the noise level"
            )
        return maximum


@dataclass(frozen=True)
class Start:
    """What a fit begins with, and what goes with it.

    Attributes:
        image: goes into the network, over its image scale; (height, width), 1/mm.
        warm: whether the network is first fitted to ``image`` itself.
        image_scale: for a network that leaves it open, 1/mm.
        noise_std: σ as it is known once the image is.
        noise_share: the share of σ² at which a fit's residual is that of noise: free weights take
            up part of it before the image is complete.
        tv_rate: λ image_scale / σ², the prior's rate on edges relative to the image's range.
        learning_rate: of Adam in the first step.
        hurry_after: steps after which it grows with their fourth power, up to 8 first values.
        restarts: of an image small enough for more than one fit.
        channels_last: the order of one network's weights in memory; a tenth faster on a CPU, and
            rounds otherwise, which a fit of thousands of steps magnifies to 0.1 dB either way.
    """

    image: Image
    warm: bool
    image_scale: float
    noise_std: float
    noise_share: float
    tv_rate: float
    learning_rate: float
    hurry_after: float = math.inf
    restarts: int = 3
    channels_last: bool = False

    def growth(self, step: int) -> float:
        """The learning rate at a step over that of the first."""
        linear = 1 + step / GROWTH_STEPS
        return max(linear, min(linear + (step / self.hurry_after) ** 4, MOST_HURRIED))


Tell = Callable[[str], None]
"""Called with what has been done so far; a start can take minutes."""


def fbp_start(data: DataTerm, tell: Tell = lambda text: None) -> tuple[Start, ...]:
    """Filtered backprojection into networks of random weights."""
    image = fbp(data.ray, data.sinogram, weights=data.weights)
    start = Start(
        image=image,
        warm=False,
        image_scale=data.smooth_maximum(),
        noise_std=data.noise_std,
        noise_share=0.65,
        tv_rate=0.3,
        learning_rate=2e-4,
        hurry_after=1200,
        restarts=2,
        channels_last=True,
    )
    return (start,)


def tv_start(data: DataTerm, tell: Tell = lambda text: None) -> tuple[Start, ...]:
    """The TV reconstruction into networks that are first fitted to it.

    Real scans hold errors that no image explains and no smooth model of the image shows: where
    the TV reconstruction leaves more than the noise level, its residual is the noise level. A fit
    is done where it explains the rays nearly as well as the TV reconstruction.
    """
    maximum = data.smooth_maximum()
    zero = data.level(torch.zeros(data.ray.domain_shape).to(data.sinogram))
    for _ in range(ROUGH_ITERATIONS):
        image, level = _converged_tv(data, IMAGE_TV_RATE * data.noise_std**2 / maximum, tell)
        if level > zero / 2:
            raise InputError(
                "expected line integrals of an object that absorbs, got a scan of which no image "
                "without negative pixels explains even half; check the sign and the geometry, or "
                "use start 'fbp'"
            )
        if level <= 1:
            break
        data, level = replace(data, noise_std=math.sqrt(level) * data.noise_std), 1.0
    start = Start(
        image=image,
        warm=True,
        image_scale=float(image.max()),
        noise_std=data.noise_std,
        noise_share=MORE_RESIDUAL * level,
        tv_rate=1.0,
        learning_rate=3e-4,
    )
    return (start,)


def _converged_tv(data: DataTerm, tv_weight: float, tell: Tell) -> tuple[Image, float]:
    """The TV reconstruction and its level; what lies above the noise must not be haste."""
    iterates = tv_iterates(data.ray, data.sinogram, data.weights, tv_weight)
    level = math.inf
    for iterations, tolerance in TV_EFFORTS:
        before = level
        image = settled(iterates, iterations, tolerance, tell)
        level = data.level(image)
        if level <= 1 or level > (1 - TV_SETTLED) * before:
            break
    return image, level


def mixed_start(data: DataTerm, tell: Tell = lambda text: None) -> tuple[Start, ...]:
    """In turn from TV reconstruction and FBP: their errors differ, so their mean is better."""
    (warm,) = tv_start(data, tell)
    image = fbp(data.ray, data.sinogram, weights=data.weights)
    return warm, replace(warm, image=image, warm=False, learning_rate=4e-4)


STARTS: dict[str, Callable[[DataTerm, Tell], tuple[Start, ...]]] = {
    "fbp": fbp_start,
    "tv": tv_start,
    "mixed": mixed_start,
}


def choose_start(data: DataTerm, angles_deg: Sequence[float]) -> str:
    """``"fbp"`` for small images of few or very noisy rays, where the TV reconstruction is far off;
    ``"mixed"`` for other small images, whose fits are short, and for large ones where the views
    leave out an arc, as the two starts differ in what no ray has seen; ``"tv"`` for other large
    ones.

    Args:
        data: the rays.
        angles_deg: of all views.
    """
    empty = torch.zeros(data.ray.domain_shape).to(data.sinogram)
    if empty.numel() > SMALL_PIXELS:
        return "mixed" if missing_arc(angles_deg, data.weights) else "tv"
    few = data.num_rays < RAYS_PER_PIXEL * empty.numel()
    return "fbp" if few or data.level(empty) < NOISY_LEVEL else "mixed"
