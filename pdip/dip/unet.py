"""The U-Net whose weights are the image model: the only file in which channel axes exist."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from pdip.errors import InputError
from pdip.scan.checks import check_seed
from pdip.typing import Image

LEAKY_SLOPE = 0.2
NORM_GROUPS = 4
EDGE = 0.03  # the inverse of an activation keeps this far from its bounds


class UNet(nn.Module):
    """Encoder-decoder network f(θ; z) from one image to one image of the same shape.

    ``image = image_scale · s(body(z))`` with 3x3 convolutions, LeakyReLU 0.2, stride-2
    convolutions down, bilinear x2 up, and 1x1 convolutions on the skips and the output
    (Ulyanov et al. 2018, in the sizes of Antorán et al. 2022). The blocks ``in``, ``down*``,
    ``up*``, ``skip*`` and ``out`` are the groups of the weight prior.

    Args:
        scales: number of resolutions, at least 1.
        channels: channels of every 3x3 block.
        skip_channels: channels of each skip connection, one number for all or one for each of
            the ``scales - 1`` levels from fine to coarse; 0 leaves that skip out.
        norm: ``"group"`` for group normalisation after every 3x3 convolution, ``"none"``.
        activation: output activation s: ``"sigmoid"`` (values in 0..1), ``"softplus"``
            (non-negative) or ``"none"``.
        image_scale: the value in 1/mm that an activation of 1 stands for.
        seed: seed of the initial weights.

    Raises:
        InputError: a size or a name that is not one of the above.
    """

    def __init__(
        self,
        scales: int = 3,
        channels: int = 32,
        *,
        skip_channels: int | Sequence[int] = 4,
        norm: str = "none",
        activation: str = "sigmoid",
        image_scale: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        check_network(scales, channels, skip_channels, image_scale, seed)
        if norm not in ("none", "group"):
            raise InputError(f"expected norm 'none' or 'group', got {norm!r}")
        skips = _per_level(skip_channels, scales - 1)
        self.settings = {
            "scales": scales,
            "channels": channels,
            "skip_channels": skip_channels,
            "norm": norm,
            "activation": activation,
            "image_scale": float(image_scale),
            "seed": seed,
        }
        self.image_scale = float(image_scale)
        self.activation = OutputActivation(activation)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = UNetBody(scales, channels, skips, norm)

    def forward(self, network_input: Image) -> Image:
        """Image in 1/mm, of the shape of ``network_input`` (..., height, width)."""
        return self.image(self.body(network_input))

    def like(self, **changes) -> "UNet":
        """A network of the same settings but for the given ones, with newly drawn weights."""
        return type(self)(**{**self.settings, **changes})

    def image(self, pre_activation: Image) -> Image:
        """The last step alone: ``image_scale · s(h)``, elementwise."""
        return self.image_scale * self.activation(pre_activation)

    def pre_activation(self, image: Image) -> Image:
        """The h of an image, kept where the activation still has a slope."""
        return self.activation.inverses[self.activation.name](image / self.image_scale)


class OutputActivation(nn.Module):
    """Elementwise output function by name: ``sigmoid``, ``softplus`` or ``none``."""

    functions = {"sigmoid": torch.sigmoid, "softplus": nn.functional.softplus, "none": lambda h: h}
    inverses = {
        "sigmoid": lambda s: torch.logit(s.clamp(EDGE, 1 - EDGE)),
        "softplus": lambda s: torch.log(torch.expm1(s.clamp(min=EDGE))),
        "none": lambda s: s,
    }

    def __init__(self, name: str):
        super().__init__()
        if name not in self.functions:
            raise InputError(
                f"expected activation to be one of {', '.join(self.functions)}, got {name!r}"
            )
        self.name = name

    def forward(self, pre_activation: Tensor) -> Tensor:
        return self.functions[self.name](pre_activation)


class UNetBody(nn.Module):
    """Everything of the U-Net before the output activation; children are the prior's blocks."""

    def __init__(self, scales: int, channels: int, skips: Sequence[int], norm: str):
        super().__init__()
        self.scales = scales
        self.add_module("in", Conv3x3s(1, channels, norm, strides=(1,)))
        for level in range(1, scales):
            self.add_module(f"down{level}", Conv3x3s(channels, channels, norm, strides=(2, 1)))
        for level in range(scales - 1, 0, -1):
            skip = skips[level - 1]
            if skip:
                self.add_module(f"skip{level}", nn.Conv2d(channels, skip, 1))
            self.add_module(f"up{level}", Conv3x3s(channels + skip, channels, norm, strides=(1, 1)))
        self.out = nn.Conv2d(channels, 1, 1)

    def forward(self, network_input: Image) -> Image:
        batch = network_input.shape[:-2]
        x = network_input.reshape(-1, 1, *network_input.shape[-2:])
        x = getattr(self, "in")(x)
        finer = []
        for level in range(1, self.scales):
            finer.append(x)
            x = getattr(self, f"down{level}")(x)
        for level in range(self.scales - 1, 0, -1):
            fine = finer.pop()
            x = upsample2(x)[..., : fine.shape[-2], : fine.shape[-1]]
            if hasattr(self, f"skip{level}"):
                x = torch.cat([x, getattr(self, f"skip{level}")(fine)], dim=-3)
            x = getattr(self, f"up{level}")(x)
        return self.out(x).reshape(*batch, *network_input.shape[-2:])


class Conv3x3s(nn.Sequential):
    """3x3 convolutions in a row, one per stride, each with its norm and LeakyReLU."""

    def __init__(self, in_channels: int, channels: int, norm: str, strides: Sequence[int]):
        layers: list[nn.Module] = []
        for stride in strides:
            layers.append(nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1))
            if norm == "group":
                groups = NORM_GROUPS if channels % NORM_GROUPS == 0 else 1
                layers.append(nn.GroupNorm(groups, channels))
            layers.append(nn.LeakyReLU(LEAKY_SLOPE))
            in_channels = channels
        super().__init__(*layers)


def upsample2(x: Tensor) -> Tensor:
    """Bilinear x2 as two small matrix products, deterministic on every device.

    Equal to ``interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)``, whose
    backward pass on CUDA is not deterministic.
    """
    rows = _doubling(x.shape[-2], x.dtype, x.device)
    columns = _doubling(x.shape[-1], x.dtype, x.device)
    return rows @ x.contiguous() @ columns.mT  # else torch multiplies channel by channel


@lru_cache(maxsize=64)
def _doubling(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The (2n, n) matrix of linear interpolation at the half-pixel positions."""
    position = (torch.arange(2 * n, dtype=torch.float64) + 0.5) / 2 - 0.5
    position = position.clamp(0, n - 1)
    distance = (position[:, None] - torch.arange(n, dtype=torch.float64)).abs()
    return (1 - distance).clamp(min=0).to(dtype=dtype, device=device)


def check_network(scales, channels, skip_channels, image_scale, seed) -> None:
    """Raise InputError where a number of :class:`UNet` is out of range; None is chosen later."""
    if (scales is not None and scales < 1) or channels < 1:
        raise InputError(
            f"expected at least 1 scale and 1 channel, got scales={scales} and "
            f"channels={channels}; enlarge them"
        )
    if image_scale is not None and not image_scale > 0:
        raise InputError(f"expected a positive image_scale, got {image_scale}")
    if seed is not None:
        check_seed(seed)
    given = 1 if isinstance(skip_channels, int) else len(skip_channels)
    _per_level(skip_channels, given if scales is None else scales - 1)


def _per_level(skip_channels: int | Sequence[int], levels: int) -> list[int]:
    skips = [skip_channels] * levels if isinstance(skip_channels, int) else list(skip_channels)
    if len(skips) != levels or any(s < 0 for s in skips):
        raise InputError(
            f"expected {levels} non-negative skip_channels, one per level, got {skip_channels}"
        )
    return skips
