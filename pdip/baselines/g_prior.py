"""The g-prior: weights on the scale at which the rays see them, and one variance by EM."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.baselines.linearised import (
    Linearised,
    ScaledGroup,
    factorised_prior,
    pixel_rows,
    squared_columns,
    with_prior,
)
from pdip.errors import ComputationError, InputError
from pdip.evidence.data import Data
from pdip.linearised import LinearGaussianModel, ParameterPrior, linearise
from pdip.posterior import Posterior, relinearise
from pdip.typing import Params


@dataclass(frozen=True)
class GPrior(Linearised):
    """``θ_j ~ N(0, g d_j²)`` with ``d_j = 1/√(mean_i V_ij²)``, ``V = W^{1/2} A S J_h``.

    g by MacKay's updates ``g ← ‖θ̄‖²/γ``, θ̄ the posterior mean in units of d and
    ``γ = E‖V z‖²/σ²`` the effective dimension from posterior samples z (Antorán et al. 2023),
    both in the eigenbasis of the rays. Their fixed point maximises the evidence
    ``log N(r; 0, K)`` of the linear model, whose gradient in log g is ``½ (‖θ̄‖²/g - γ)``: the
    search stops where that is small. The noise is that of the fit.

    Args:
        num_samples: posterior samples behind γ, the same in every step; None for their limit, the
            trace.
        gradient_tolerance: of the gradient, nats.
        max_steps: updates of g at most.

    Raises:
        InputError: a setting out of range.
        ComputationError: g did not converge.

    Example:
        >>> GPrior(num_samples=16)
        GPrior(num_samples=16, gradient_tolerance=0.001, max_steps=10000)
    """

    num_samples: int | None = None
    gradient_tolerance: float = 1e-3
    max_steps: int = 10_000

    def __post_init__(self):
        if self.num_samples is not None and self.num_samples < 1:
            raise InputError(f"expected at least one sample, got {self.num_samples}")
        if not self.gradient_tolerance > 0 or self.max_steps < 1:
            raise InputError(
                f"expected a positive gradient_tolerance and at least one step, got "
                f"{self.gradient_tolerance} and {self.max_steps}"
            )

    def restart_posterior(self, scan, ray, restart, generator):
        model = linearise(restart, ray, factorised_prior(restart.network))
        data, rows = Data.of(scan, ray), pixel_rows(model)
        model = self.optimised(model, data, rows, generator)
        again = relinearise(model, scan)
        if again is not model:
            model = self.optimised(again, data, rows, generator)
        return Posterior(model, scan)

    def optimised(
        self, model: LinearGaussianModel, data: Data, rows: Params, generator: torch.Generator
    ) -> LinearGaussianModel:
        """The model under the g-prior of its slopes, at the g of highest evidence."""
        mean_square = squared_columns(model, data, rows) / data.num_rays
        model = with_prior(model, scaled_prior(model.prior, mean_square), rows)
        white = data.weights.sqrt()
        signal = model.signal_covariance()[data.index][:, data.index]
        values, vectors = torch.linalg.eigh(white[:, None] * signal * white)
        residual = vectors.mT @ (white * data.residual_of_zero_weights(model))
        search = MacKay(
            values.clamp(min=0),
            residual,
            float(model.noise_variance),
            None if self.num_samples is None else normal_pairs(self.num_samples, values, generator),
        )
        log_g = math.log(search.run(self.gradient_tolerance, self.max_steps))
        return model.at(torch.cat([torch.tensor([log_g]).double(), model.log_hyperparameters[1:]]))


@dataclass(frozen=True)
class MacKay:
    """The search for g with ``K = g U Λ Uᵀ + σ² I`` diagonal.

    Attributes:
        values: Λ, (rays,).
        residual: ``Uᵀ r`` of the linear model at zero weights, (rays,).
        noise_variance: σ².
        draws: standard normal draws for weights and noise, (2, samples, rays); None for the trace.
    """

    values: Tensor
    residual: Tensor
    noise_variance: float
    draws: Tensor | None

    def run(self, gradient_tolerance: float, max_steps: int) -> float:
        """The fixed point of ``g ← ‖θ̄‖²/γ`` from g = 1.

        Raises:
            ComputationError: it was not reached.
        """
        g, gradient = 1.0, math.inf
        for _ in range(max_steps):
            squared_mean, dimension = self.squared_mean(g), self.dimension(g)
            gradient = (squared_mean / g - dimension) / 2
            if abs(gradient) <= gradient_tolerance:
                return g
            g = squared_mean / dimension
            if not (g > 0 and math.isfinite(g)):
                break
        raise ComputationError(
            f"expected the variance g of the weights to converge, got {g:.2g} with a gradient of "
            f"{gradient:.2g} nats after at most {max_steps} steps; raise max_steps or use a fit "
            "that explains the scan"
        )

    def squared_mean(self, g: float) -> float:
        """``‖θ̄‖²`` in units of d."""
        solved = self.residual / (g * self.values + self.noise_variance)
        return float(g**2 * (self.values * solved.square()).sum())

    def dimension(self, g: float) -> float:
        """γ: ``tr(V Cov[θ] Vᵀ)/σ²``, or its estimate from samples."""
        gain = g * self.values / (g * self.values + self.noise_variance)
        if self.draws is None:
            return float(gain.sum())
        weights, noise = self.draws
        signal = (g * self.values).sqrt() * weights
        sample = signal - gain * (signal + math.sqrt(self.noise_variance) * noise)
        return float(sample.square().sum(1).mean()) / self.noise_variance


def scaled_prior(prior: ParameterPrior, mean_square: Tensor) -> ParameterPrior:
    """``N(0, g / mean_square)`` with g = 1; a weight that no ray sees is certain."""
    seen = mean_square > torch.finfo(torch.float32).eps ** 2 * mean_square.max()
    scale = torch.where(seen, mean_square, torch.inf).rsqrt()
    group = ScaledGroup("network", prior.parameters, scale)
    return ParameterPrior((group,), (len(scale),), torch.zeros(1, dtype=torch.float64))


def normal_pairs(num_samples: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal (2, num_samples, rays) float64."""
    draws = torch.randn(2, num_samples, len(like), generator=generator, dtype=torch.float64)
    return draws.to(like.device)
