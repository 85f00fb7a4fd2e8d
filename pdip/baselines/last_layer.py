"""Only the last layer is uncertain: the exact model on the weights of the output block."""

from __future__ import annotations

from dataclasses import dataclass

from pdip.baselines.linearised import Linearised, exact_posterior, factorised_prior
from pdip.linearised import ParameterPrior, linearise

OUTPUT_BLOCK = "out"


@dataclass(frozen=True)
class LastLayer(Linearised):
    """The exact posterior of the output convolution's weights, all others held at the fit.

    ``N(0, s² I)`` on these weights, s² and the noise by the evidence (the last-layer Laplace
    approximation of Daxberger et al. 2021b, with the determinant over the rays).

    Example:
        >>> LastLayer()
        LastLayer()
    """

    def restart_posterior(self, scan, ray, restart, generator):
        prior = output_prior(restart.network)
        return exact_posterior(linearise(restart, ray, prior), scan)


def output_prior(network) -> ParameterPrior:
    """The factorised prior of the output block alone."""
    prior = factorised_prior(network)
    place = [group.name for group in prior.groups].index(OUTPUT_BLOCK)
    log_variance = prior.log_hyperparameters[place : place + 1]
    return ParameterPrior((prior.groups[place],), (prior.sizes[place],), log_variance)
