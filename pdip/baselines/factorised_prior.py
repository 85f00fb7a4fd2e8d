"""The main path without its filters: independent weights and no hyperprior."""

from __future__ import annotations

from dataclasses import dataclass

from pdip.baselines.linearised import Linearised, exact_posterior, factorised_prior
from pdip.linearised import linearise


@dataclass(frozen=True)
class FactorisedPrior(Linearised):
    """The exact posterior under ``N(0, s_b² I)`` in each U-Net block.

    The Matérn covariance of the 3x3 filters gives way to the identity and TV-PredCP to none; all
    else is the main path (the "factorised Gaussian" of Antorán et al. 2022a).

    Example:
        >>> FactorisedPrior()
        FactorisedPrior()
    """

    def restart_posterior(self, scan, ray, restart, generator):
        prior = factorised_prior(restart.network)
        return exact_posterior(linearise(restart, ray, prior), scan)
