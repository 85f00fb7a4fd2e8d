"""Dropout that stays on: forward passes with random channels missing as posterior samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pdip.baselines.baseline import Baseline
from pdip.baselines.refit import refit
from pdip.baselines.samples import gaussian_of_samples
from pdip.dip import DIPFit, UNet
from pdip.errors import InputError
from pdip.posterior import ImagePosterior
from pdip.ray import RayTransform
from pdip.typing import Image

MOST_AT_ONCE = 128


@dataclass(frozen=True)
class MCDropout(Baseline):
    """Monte-Carlo dropout (Gal & Ghahramani 2016) in a deep image prior (Laves et al. 2020).

    The network is fitted with channels dropped at random after every 3x3 convolution, under the
    TV weight, noise level and stopping rule of the main path; the rule looks at the image without
    dropout. As many fits as the main path has give equal shares of the samples:
    ``x_n = f(θ* ∘ mask_n)``, ``C = Cov[x_n] + τ² I``.

    Args:
        probability: of a channel to be dropped, 0 <= p < 1.
        num_samples: N, at least 2.
        start: as for :func:`~pdip.dip.fit_dip`.
        max_steps: likewise.

    Example:
        >>> MCDropout(probability=0.1).num_samples
        2048
    """

    probability: float = 0.05
    num_samples: int = 2048
    start: str | None = None
    max_steps: int = 4000

    def posterior(self, scan, ray: RayTransform, fit: DIPFit, *, seed: int = 0) -> ImagePosterior:
        if not 0 <= self.probability < 1 or self.num_samples < 2:
            raise InputError(
                f"expected a dropout probability in [0, 1) and at least 2 samples, got "
                f"{self.probability} and {self.num_samples}"
            )
        fits = refit(
            scan,
            ray,
            fit,
            DropoutUNet(probability=self.probability, **fit.network.settings),
            restarts=len(fit.restarts),
            start=self.start,
            max_steps=self.max_steps,
            seed=seed,
        )
        share = -(-self.num_samples // len(fits))
        images = torch.cat([dropout_samples(one, share) for one in fits])
        return gaussian_of_samples(images, scan, ray, fit)


def dropout_samples(fit: DIPFit, count: int) -> Image:
    """Images of a fitted :class:`DropoutUNet` with channels dropped: (count, height, width)."""
    with torch.no_grad():
        batches = fit.network_input.expand(count, -1, -1).split(MOST_AT_ONCE)
        return torch.cat([functional_call(fit.network, fit.params, (z,)) for z in batches])


class DropoutUNet(UNet):
    """A U-Net that drops channels after every 3x3 convolution while it is in training mode.

    Args:
        probability: of a channel to be dropped.
        seed: of the initial weights and of the dropped channels.
        settings: all others of :class:`~pdip.dip.UNet`.
    """

    def __init__(self, *, probability: float, seed: int = 0, **settings):
        super().__init__(**settings, seed=seed)
        self.settings["probability"] = probability
        drop = ChannelDropout(probability, seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.register_forward_hook(drop)


class ChannelDropout:
    """``x_c m_c / (1 - p)`` with ``m_c ~ Bernoulli(1 - p)``, a forward hook.

    It draws from a generator of its own, so that fits side by side do not disturb each other, and
    leaves the names of the network's weights as they are.
    """

    def __init__(self, probability: float, seed: int):
        self.keep = 1 - probability
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        kept = torch.rand(output.shape[:2], generator=self.generator) < self.keep
        return output * (kept.to(output) / self.keep)[..., None, None]
