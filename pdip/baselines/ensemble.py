"""The spread of fits from different random starts as the uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pdip.baselines.baseline import Baseline
from pdip.baselines.refit import refit
from pdip.baselines.samples import gaussian_of_samples
from pdip.dip import DIPFit
from pdip.errors import InputError
from pdip.posterior import ImagePosterior
from pdip.ray import RayTransform


@dataclass(frozen=True)
class Ensemble(Baseline):
    """Deep ensemble (Lakshminarayanan et al. 2017) of deep image priors.

    ``x̄ = mean_k x_k``, ``C = Σ_k (x_k - x̄)(x_k - x̄)ᵀ / (K - 1) + τ² I``. The main path's restarts
    are members; the missing ones are fitted like them.

    Args:
        members: K, at least 2.
        start: as for :func:`~pdip.dip.fit_dip`, of the members that are fitted.
        max_steps: likewise.

    Example:
        >>> Ensemble(members=10).members
        10
    """

    members: int = 5
    start: str | None = None
    max_steps: int = 4000

    def posterior(self, scan, ray: RayTransform, fit: DIPFit, *, seed: int = 0) -> ImagePosterior:
        if self.members < 2:
            raise InputError(f"expected an ensemble of at least 2 members, got {self.members}")
        fits = fit.restarts[: self.members]
        missing = self.members - len(fits)
        if missing:
            fits += refit(
                scan,
                ray,
                fit,
                fit.network,
                restarts=missing,
                start=self.start,
                max_steps=self.max_steps,
                seed=seed,
            )
        return gaussian_of_samples(torch.stack([one.image for one in fits]), scan, ray, fit)
