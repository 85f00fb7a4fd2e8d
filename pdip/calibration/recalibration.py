"""Factors for the std of an image, and for the noise, that withheld rays make most likely."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pdip.calibration.held_out import WithheldRays
from pdip.calibration.view_bands import ViewBand, quantile_of
from pdip.errors import InputError

NOISE = ("free", "given")
RANGE = (0.05, 20.0)
"""Factors that are searched."""
LARGEST_RATIO = 4.0
"""Of the ends of an interval that still determines a factor."""
STEPS = 40
PRECISION = 1e-6
"""Of log factors, at which the search ends."""


@dataclass(frozen=True)
class Scales:
    """Factors of the std that withheld rays ask for; above 1 it is too narrow.

    Attributes:
        scales: of each part of the image, with its 95 % interval.
        noise: the factor of σ; exactly 1 where the noise was given.
    """

    scales: tuple[ViewBand, ...]
    noise: ViewBand

    @property
    def determined(self) -> bool:
        """Whether the rays say how large every factor is, to a factor of 2 either way."""
        return all(is_determined(scale) for scale in self.scales)


def is_determined(scale: ViewBand) -> bool:
    """Whether the interval is narrow and does not end where the search does."""
    return all(ends_inside(scale)) and scale.high <= LARGEST_RATIO * scale.low


def ends_inside(scale: ViewBand) -> tuple[bool, bool]:
    """Whether the lower and the upper end of an interval lie within the factors searched."""
    return scale.low > RANGE[0] * 1.01, scale.high < RANGE[1] / 1.01


def fitted_scales(
    rays: WithheldRays, parts: Tensor | None = None, *, noise: str = "free"
) -> Scales:
    """Maximum likelihood of the scales s and of σ from withheld rays, ray by ray.

    ``e_i ~ N(0, sᵀ C_i s + β² σ² / w_i)`` with C_i the covariances of what the parts of the image
    add to ray i; one part with the signal variance a as C gives ``s² a + β² σ² / w``. The
    correlations between rays are left out (composite likelihood, Varin, Reid and Firth 2011):
    those of a real misfit are not those of the posterior. Found by Fisher scoring in the logs.

    The interval has Student's t with views - 1 degrees of freedom and the larger standard error of
    the spread between views and of the likelihood's own.

    Args:
        rays: what was withheld.
        parts: C, (parts, parts, rays) float64; None for the whole image as one part.
        noise: "free": σ is found along with the scales, so that a misfit cannot hide in a noise
            level that was chosen too high; "given": as it is.

    Raises:
        InputError: another word for the noise.

    Example:
        >>> e = torch.randn(600, generator=torch.Generator().manual_seed(0)).double()
        >>> a, view = torch.linspace(0, 8, 600).double(), torch.arange(600) % 30
        >>> rays = WithheldRays((4 * a + 1).sqrt() * e, a, torch.ones_like(a), view)
        >>> found = fitted_scales(rays).scales[0]
        >>> found.low < 2 < found.high
        True
    """
    if noise not in NOISE:
        raise InputError(f"expected the noise to be 'free' or 'given', got {noise!r}")
    parts = rays.signal_variance[None, None] if parts is None else parts.double()
    likelihood = _Likelihood(
        parts, rays.noise_variance, rays.residual.square(), noise == "free"
    ).in_units_of_data()
    own = likelihood.best()
    spreads = zip(own[0].exp(), likelihood.spread(own, rays.view), strict=True)
    bands = [_band(float(best), float(log_std), rays.num_views) for best, log_std in spreads]
    count = len(parts)
    noise_band = bands[count] if noise == "free" else ViewBand(1.0, 1.0, 1.0, 0.0)
    return Scales(tuple(bands[:count]), noise_band)


def _band(value: float, log_std: float, num_views: int) -> ViewBand:
    """Symmetric in the log and within the factors searched: all of them from a single view."""
    if num_views < 2:
        return ViewBand(value, *RANGE, math.nan)
    ratio = math.exp(min(quantile_of(num_views) * log_std, 9.0))
    low, high = max(value / ratio, RANGE[0]), min(value * ratio, RANGE[1])
    return ViewBand(value, low, high, value * log_std)


@dataclass(frozen=True)
class _Likelihood:
    """The composite likelihood of log factors φ = (log s_1, ..., log s_K, log β)."""

    parts: Tensor
    noise: Tensor
    squared: Tensor
    noise_is_free: bool

    def in_units_of_data(self) -> _Likelihood:
        """The same with the mean squared residual as the unit: no step depends on units."""
        unit = self.squared.mean().clamp(min=torch.finfo(torch.float64).tiny)
        return replace(
            self, parts=self.parts / unit, noise=self.noise / unit, squared=self.squared / unit
        )

    def variance(self, logs: Tensor) -> tuple[Tensor, Tensor]:
        """``v`` (B, rays) and its derivative in φ, (B, factors, rays)."""
        count = len(self.parts)
        scales = logs[:, :count].exp()
        added = torch.einsum("jkn,bk->bjn", self.parts, scales) * scales[:, :, None]
        noise = self.noise.expand(len(logs), -1)
        if self.noise_is_free:
            noise = noise * (2 * logs[:, count:]).exp()
        variance = added.sum(1) + noise
        if not self.noise_is_free:
            return variance, 2 * added
        return variance, 2 * torch.cat([added, noise[:, None]], dim=1)

    def loss(self, logs: Tensor, often: Tensor) -> Tensor:
        """Negative log-likelihood of each resample, (B,)."""
        variance, _ = self.variance(logs)
        return 0.5 * (often * (variance.log() + self.squared / variance)).sum(1)

    def slope(self, logs: Tensor, often: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient (B, factors) and Fisher information (B, factors, factors)."""
        variance, derivative = self.variance(logs)
        relative = derivative / variance[:, None]
        misfit = often * (1 - self.squared / variance)
        gradient = 0.5 * (relative * misfit[:, None]).sum(-1)
        return gradient, 0.5 * (relative * often[:, None]) @ relative.mT

    @property
    def num_factors(self) -> int:
        return len(self.parts) + self.noise_is_free

    def best(self) -> Tensor:
        """The best log factors (1, factors), by damped Fisher scoring."""
        often, count = torch.ones_like(self.squared)[None], self.num_factors
        logs = often.new_zeros(1, count)
        damping, loss = often.new_full((len(often),), 1e-2), self.loss(logs, often)
        eye = torch.eye(count).to(logs)
        for _ in range(STEPS):
            gradient, information = self.slope(logs, often)
            size = information.diagonal(dim1=1, dim2=2).mean(1) + 1e-9
            ridge = (damping * size)[:, None, None] * eye
            step = torch.linalg.solve(information + ridge, gradient)
            tried = (logs - step.clamp(-1, 1)).clamp(math.log(RANGE[0]), math.log(RANGE[1]))
            new = self.loss(tried, often)
            better = new < loss
            logs = torch.where(better[:, None], tried, logs)
            loss = torch.where(better, new, loss)
            damping = torch.where(better, damping / 4, damping * 8).clamp(1e-9, 1e9)
            if float(step.abs().max()) < PRECISION:
                break
        return logs

    def spread(self, logs: Tensor, view: Tensor) -> Tensor:
        """Std of each log factor, (factors,), large where unknown: the larger of two.

        As if rays were independent, ``H⁻¹`` with the information H, and the sandwich ``H⁻¹ G H⁻¹``
        of the views' gradients, ``G = V/(V-1) Σ_v g_v g_vᵀ`` (Liang and Zeger 1986).
        """
        variance, derivative = self.variance(logs)
        relative = derivative[0] / variance
        information = 0.5 * relative @ relative.mT
        size = float(information.diagonal().max()) + 1e-12
        information.diagonal().add_(1e-12 * size)
        inverse = torch.linalg.inv(information)
        number = torch.unique(view, return_inverse=True)[1]
        views = int(number.max()) + 1
        gradients = 0.5 * relative * (1 - self.squared / variance[0])
        sums = gradients.new_zeros(len(gradients), views).index_add(1, number, gradients)
        among = inverse @ sums * math.sqrt(views / max(views - 1, 1))
        return torch.maximum(inverse.diagonal().clamp(min=0), among.square().sum(1)).sqrt()


def scale_map(number: Tensor, scales: Scales) -> Tensor:
    """The piecewise-constant map s(x) of factors, in the shape of the image.

    Args:
        number: the part that each pixel belongs to, (height, width) integers from 0.
        scales: one for each part.
    """
    values = torch.tensor([scale.value for scale in scales.scales], dtype=torch.float64)
    return values.to(number.device)[number]
