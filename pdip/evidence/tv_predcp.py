"""TV-PredCP: a hyperprior on the lengthscales that expects images of little total variation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.functional import jvp

from pdip.dip.total_variation import expected_total_variation, expected_total_variation_slope
from pdip.errors import InputError
from pdip.linearised.model import LinearGaussianModel
from pdip.typing import Scalar

SMALLEST_VARIANCE = 1e-14
SMALLEST_SLOPE = 1e-10


@runtime_checkable
class Hyperprior(Protocol):
    """A prior on the hyperparameters of a model."""

    def log_prob(self, model: LinearGaussianModel, num_rays: int) -> Scalar:
        """``log p(φ)`` up to a constant, differentiable in the model's hyperparameters; nats.

        Args:
            model: at these hyperparameters.
            num_rays: how many rays the evidence beside it sees, those of weight 0 not counted.
        """
        ...


@dataclass(frozen=True)
class TVPredCP:
    """An exponential prior on the expected TV of each block, carried over to its lengthscale.

    ``log p(log ℓ_b) = -λ κ_b + log |∂κ_b / ∂ log ℓ_b|`` with ``κ_b = E TV(x* + J_b θ_b)``,
    ``θ_b ~ N(0, Σ_b)``, other blocks at their mean (Nalisnick et al. 2021; Antorán et al. 2022a,
    eq. 12). κ is the closed form of a sum of folded normals, over all edges up to 1 600 pixels
    and beyond over 256 of them, evenly spread in order of ``|D x*|`` and scaled up. Where κ does
    not move with ℓ the Jacobian is bounded below, at 1e-10.

    Args:
        rate: λ in mm, nats for each 1/mm of total variation. None for
            ``180 000 ρ^{3/2} / (edges image_scale)`` with ρ = rays / edges: of the mean edge, so
            that the size of the image does not count, and rising with the rays an edge has, so
            that the prior stays wide where little is measured. 6 / image_scale at 28 x 28 pixels
            and 205 rays, 48 / image_scale at 820.
    """

    rate: float | None = None

    def __post_init__(self):
        if self.rate is not None and not 0 <= self.rate < math.inf:
            raise InputError(f"expected a finite, non-negative TV-PredCP rate, got {self.rate}")

    def log_prob(self, model: LinearGaussianModel, num_rays: int) -> Scalar:
        """Sum over the lengthscales, up to a constant; nats."""
        rate = self.rate
        if rate is None:
            edges, scale = model.features.num_edges, model.jacobian.network.image_scale
            rate = DEFAULT_RATE * (num_rays / edges) ** 1.5 / (edges * scale)
        total = torch.zeros((), dtype=torch.float64, device=model.features.edge_mean.device)
        for kappa, slope in self.expected_tv(model):
            total = total - rate * kappa + slope.abs().clamp(min=SMALLEST_SLOPE).log()
        return total

    def expected_tv(self, model: LinearGaussianModel) -> list[tuple[Tensor, Tensor]]:
        """``κ_b`` and ``∂κ_b / ∂ log ℓ_b`` for each lengthscale of a block."""
        features, prior = model.features, model.prior
        mean, weight = features.edge_mean, features.edge_weight
        out, start = [], 0
        for group, log_h in zip(prior.groups, prior.split(prior.log_hyperparameters), strict=True):
            bases = features.edge_variance[start : start + group.num_patterns]
            start += group.num_patterns
            for place, name in enumerate(group.hyperparameters):
                if name.rsplit(".")[-1] != "log_lengthscale":
                    continue
                along = torch.eye(len(log_h)).to(log_h)[place]
                k, k_slope = jvp(group.coefficients, log_h, along, create_graph=log_h.requires_grad)
                std = (k @ bases).clamp(min=SMALLEST_VARIANCE).sqrt()
                by_log_lengthscale = k_slope @ bases / (2 * std)
                slope = expected_total_variation_slope(mean, std) @ by_log_lengthscale
                out.append((weight * expected_total_variation(mean, std), weight * slope))
        return out


DEFAULT_RATE = 180_000.0
HYPERPRIORS = {"tv_predcp": TVPredCP, "none": lambda: None}
