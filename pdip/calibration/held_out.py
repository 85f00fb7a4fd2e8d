"""How well the rays that were withheld from a reconstruction are predicted by it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.calibration.intervals import half_width
from pdip.calibration.view_bands import ViewBand, mean_bands
from pdip.errors import InputError
from pdip.typing import Mask, Sinogram

LEVELS = (0.5, 0.68, 0.9, 0.95)


@dataclass(frozen=True)
class WithheldRays:
    """Measured rays that a model did not see, and what it says of them.

    Attributes:
        residual: ``e = y - A x``, (rays,) float64.
        signal_variance: ``a``, the diagonal of ``A Cov Aᵀ``, (rays,) float64.
        noise_variance: ``σ² / w``, (rays,) float64.
        view: the view of each ray, (rays,) integers.
    """

    residual: Tensor
    signal_variance: Tensor
    noise_variance: Tensor
    view: Tensor

    @classmethod
    def of(
        cls,
        residual: Sinogram,
        signal_variance: Sinogram,
        noise_variance: Sinogram,
        withheld: Mask,
    ) -> WithheldRays:
        """The rays marked in sinograms (views, detectors).

        Raises:
            InputError: no ray is marked, or one has no finite residual or no positive variance.
        """
        parts = [x[withheld].double() for x in (residual, signal_variance, noise_variance)]
        if not len(parts[0]):
            raise InputError(
                "expected at least one withheld ray, got none; withhold a larger share"
            )
        finite = all(bool(torch.isfinite(part).all()) for part in parts)
        if not finite or bool((parts[1] < 0).any()) or not bool((parts[2] > 0).all()):
            raise InputError(
                "expected finite residuals, signal variances that are not negative and positive "
                "noise variances, got others; give the noise variance of each ray"
            )
        return cls(*parts, view=withheld.nonzero()[:, 0])

    @property
    def num_rays(self) -> int:
        return len(self.residual)

    @property
    def num_views(self) -> int:
        return len(self.view.unique())

    @property
    def variance(self) -> Tensor:
        """``a + σ² / w``."""
        return self.signal_variance + self.noise_variance

    @property
    def z(self) -> Tensor:
        """``e / √(a + σ² / w)``: standard normal where the error bars are right."""
        return self.residual / self.variance.sqrt()

    def at(self, scale: float = 1.0, noise_factor: float = 1.0) -> WithheldRays:
        """The same rays with the std of the image times ``scale``, σ times ``noise_factor``."""
        return WithheldRays(
            self.residual,
            scale**2 * self.signal_variance,
            noise_factor**2 * self.noise_variance,
            self.view,
        )


@dataclass(frozen=True)
class ResidualScores:
    """Scores of withheld rays under one prediction, with bands over views.

    Attributes:
        coverage: level -> share of rays inside their central interval of that probability.
        chi_squared: mean of z², 1 where the variances are right.
        nll: mean negative log-density of a ray, nats; lower is better.
    """

    coverage: dict[float, ViewBand]
    chi_squared: ViewBand
    nll: ViewBand


@dataclass(frozen=True)
class HeldOut:
    """Scores of withheld rays.

    Attributes:
        num_rays: how many.
        num_views: views that they come from.
        predicted: with the image's uncertainty and the noise.
        noise_only: with the noise alone, as if the image were certain.
        gain: by how many nats a ray is better predicted with the image's uncertainty than
            without; above 0 where it explains something.
    """

    num_rays: int
    num_views: int
    predicted: ResidualScores
    noise_only: ResidualScores
    gain: ViewBand


def held_out_scores(rays: WithheldRays) -> HeldOut:
    """Coverage, reduced χ² and log-density of withheld rays, with bands over views.

    Args:
        rays: what was withheld.

    Example:
        >>> one, view = torch.ones(6).double(), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> rays = WithheldRays(torch.tensor([0.1, -1, 0.5, 2, -0.3, 0.9]).double(), one, one, view)
        >>> round(held_out_scores(rays).predicted.coverage[0.68].value, 2)
        0.83
    """
    predicted = _scores(rays)
    certain = rays.at(scale=0.0)
    difference = negative_log_density(certain) - negative_log_density(rays)
    (gain,) = mean_bands(difference[None], rays.view)
    return HeldOut(rays.num_rays, rays.num_views, predicted, _scores(certain), gain)


def _scores(rays: WithheldRays) -> ResidualScores:
    z = rays.z
    inside = torch.stack([(z.abs() <= half_width(level)).double() for level in LEVELS])
    shares = mean_bands(inside, rays.view, kind="share")
    (chi_squared,) = mean_bands(z.square()[None], rays.view, kind="positive")
    (nll,) = mean_bands(negative_log_density(rays)[None], rays.view)
    return ResidualScores(dict(zip(LEVELS, shares, strict=True)), chi_squared, nll)


def negative_log_density(rays: WithheldRays) -> Tensor:
    """``½ (z² + log 2π v)`` of each ray, (rays,) nats."""
    return 0.5 * (rays.z.square() + (2 * math.pi * rays.variance).log())
