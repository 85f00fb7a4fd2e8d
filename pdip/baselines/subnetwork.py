"""A few weights with their full covariance, all others held at the fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pdip.baselines.diagonal import Diagonal, DiagonalCurvature
from pdip.baselines.linearised import (
    Linearised,
    ScaledGroup,
    exact_posterior,
    factorised_prior,
    with_prior,
)
from pdip.errors import InputError
from pdip.linearised import LinearGaussianModel, ParameterPrior


@dataclass(frozen=True)
class Subnetwork(Linearised):
    """The exact posterior of the weights that move the image most under a diagonal Laplace.

    Daxberger et al. (2021a) keep the weights of largest marginal variance ``v_j`` under
    :class:`~pdip.baselines.Diagonal`, the closest subnetwork it can see in weight space. Where
    blocks differ in their prior variance these fill a single block, so that here each counts with
    its share ``v_j ‖S J_j‖²`` of the variance of the image, which that distance stands for. Their
    posterior is computed in the space of the rays, so that any number of weights fits; variances
    of each block and the noise by the evidence.

    Args:
        num_weights: weights that stay uncertain; all of them where the network has fewer.

    Raises:
        InputError: not a single weight.

    Example:
        >>> Subnetwork(num_weights=500)
        Subnetwork(num_weights=500)
    """

    num_weights: int = 10_000

    def __post_init__(self):
        if self.num_weights < 1:
            raise InputError(f"expected at least 1 uncertain weight, got {self.num_weights}")

    def restart_posterior(self, scan, ray, restart, generator):
        model, curvature = Diagonal().laplace(scan, ray, restart)
        scale = largest(image_variances(model, curvature), self.num_weights)
        prior = masked(factorised_prior(restart.network), scale)
        start = with_prior(model.with_slope(model.jacobian.slope), prior, curvature.rows)
        return exact_posterior(start, scan)


def image_variances(model: LinearGaussianModel, curvature: DiagonalCurvature) -> Tensor:
    """``v_j ‖S J_j‖²``, what each weight adds to the variance of the image: (params,) float64."""
    rows = model.slope.reshape(-1, 1) * curvature.rows
    return curvature.variances(model) * rows.square().sum(0).double()


def largest(values: Tensor, count: int) -> Tensor:
    """1 at the places of the ``count`` largest values, else 0."""
    chosen = torch.zeros_like(values)
    chosen[values.topk(min(count, len(values))).indices] = 1
    return chosen


def masked(prior: ParameterPrior, scale: Tensor) -> ParameterPrior:
    """A prior of the same blocks with the variance of its weights times ``scale²``."""
    parts = zip(prior.groups, prior.blocks(scale), strict=True)
    groups = tuple(ScaledGroup(g.name, g.parameters, part) for g, part in parts)
    return replace(prior, groups=groups)
