"""Langevin dynamics of the network's weights: noisy gradient steps that go on from the fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.func import functional_call

from pdip.baselines.baseline import Baseline
from pdip.baselines.samples import gaussian_of_samples
from pdip.dip import DIPFit, total_variation
from pdip.dip.start import DataTerm
from pdip.errors import InputError
from pdip.linearised import Jacobian, ParameterPrior, unet_prior
from pdip.posterior import ImagePosterior
from pdip.ray import RayTransform
from pdip.typing import Image, Params

POWER_ITERATIONS = 15


@dataclass(frozen=True)
class SGLD(Baseline):
    """Langevin dynamics (Welling & Teh 2011) on a deep image prior (Cheng et al. 2019).

    For the posterior ``exp(-E(θ) - ½ θᵀ Σ⁻¹ θ)`` of the fit's own objective over σ²,
    ``E = ½ ‖W^{1/2}(A f(θ) - y)‖²/σ² + λ/σ² TV(f(θ))``, a chain from every restart's weights takes
    the steps

    ``θ ← θ - ½ ε (Σ ∇E(θ) + θ) + √ε L ξ``, ``L Lᵀ = Σ``, ``ξ ~ N(0, I)``,

    the Langevin steps preconditioned with the covariance of the prior. As ε → 0 their stationary
    distribution is the posterior itself: the gradients are of the whole scan and E is in nats, so
    the temperature is 1 and the noise of a step follows from its length. The steps are stable up
    to ``ε = 4 / μ`` with μ the largest curvature of E relative to the prior, and
    ``ε = step_size / μ``. A direction of relative curvature κ forgets its beginning after some
    ``2 / (κ ε)`` steps: what the data leave open is explored only by chains much longer than μ.

    Args:
        num_steps: of each chain.
        burn_in: steps at the beginning of which no image is kept.
        thinning: every so many steps an image is kept.
        step_size: ε μ, between 0 and 4.

    Example:
        >>> SGLD(num_steps=500, burn_in=100).thinning
        10
    """

    num_steps: int = 1000
    burn_in: int = 250
    thinning: int = 10
    step_size: float = 1.0

    def posterior(self, scan, ray: RayTransform, fit: DIPFit, *, seed: int = 0) -> ImagePosterior:
        steps_fit = 0 <= self.burn_in < self.num_steps and self.thinning >= 1
        if not (steps_fit and 0 < self.step_size < 4):
            raise InputError(
                "expected 0 < step_size < 4, a thinning of at least 1 and 0 <= burn_in < num_steps,"
                f" got {self}"
            )
        data = DataTerm.of(scan, ray, fit.noise_std)
        generator = torch.Generator(ray.device).manual_seed(seed)
        images = torch.cat([self._chain(data, one, generator) for one in fit.restarts])
        return gaussian_of_samples(images, scan, ray, fit)

    def _chain(self, data: DataTerm, fit: DIPFit, generator: torch.Generator) -> Image:
        """The kept images of the chain from one fit: (samples, height, width)."""
        prior = fitted_prior(fit)
        jacobian = Jacobian(fit.network, fit.network_input, fit.params, prior.parameters)
        step = self.step_size / largest_curvature(data, jacobian, prior, generator)

        def image(params: Params) -> Image:
            weights = jacobian.params | jacobian.unflatten(params)
            return functional_call(fit.network, weights, (fit.network_input,))

        def energy(params: Params) -> Tensor:
            x = image(params)
            misfit = data.squared_residual(x) / 2 + fit.tv_weight * total_variation(x)
            return misfit / data.noise_std**2

        chain = islice(langevin(energy, jacobian.vector, prior, step, generator), self.num_steps)
        kept = islice(chain, self.burn_in, None, self.thinning)
        with torch.no_grad():
            return torch.stack([image(params) for params in kept])


def langevin(
    energy: Callable[[Params], Tensor],
    start: Params,
    prior: ParameterPrior,
    step: float,
    generator: torch.Generator,
) -> Iterator[Params]:
    """Endless ``θ ← θ - ½ ε (Σ ∇E(θ) + θ) + √ε L ξ`` from ``start``.

    For a quadratic E its stationary covariance is ``L (H (I - ε H / 4))⁻¹ Lᵀ`` with ``H = Lᵀ ∇²E L
    + I``, which is the posterior's for ε → 0.

    Args:
        energy: E of each chain of a batch.
        start: first θ of each chain, (*batch, params).
        prior: Σ and L.
        step: ε.
        generator: of ξ.
    """
    params = start.detach()
    while True:
        with torch.enable_grad():
            at = params.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(energy(at).sum(), at)
        noise = torch.randn(
            params.shape, generator=generator, dtype=params.dtype, device=params.device
        )
        drift = prior.covariance_apply(gradient) + params
        params = params - step / 2 * drift + math.sqrt(step) * prior.root_apply(noise)
        yield params


def fitted_prior(fit: DIPFit) -> ParameterPrior:
    """The main path's kind of prior at the variances that make the fitted weights most likely:
    ``σ_b² = θ_b*ᵀ R_b⁻¹ θ_b* / p_b`` with R_b the correlation of the block."""
    prior = unet_prior(fit.network, variance=1.0)
    vector = torch.cat([fit.params[name].reshape(-1) for name in prior.parameters])
    log_h = [values.clone() for values in prior.split(prior.log_hyperparameters)]
    for group, values, block in zip(prior.groups, log_h, prior.blocks(vector), strict=True):
        values[0] = (group.quadratic(values, block) / block.numel()).log()
    return prior.at(torch.cat(log_h))


def largest_curvature(
    data: DataTerm, jacobian: Jacobian, prior: ParameterPrior, generator: torch.Generator
) -> float:
    """The largest eigenvalue of ``W^{1/2} A J Σ Jᵀ Aᵀ W^{1/2} / σ² + I`` by power iteration."""
    root, slope = data.weights.sqrt(), jacobian.slope
    vector = torch.randn(root.shape, generator=generator, dtype=root.dtype, device=root.device)
    value = 0.0
    for _ in range(POWER_ITERATIONS):
        pulled = jacobian.adjoint(slope * data.ray.adjoint(root * vector / vector.norm()))
        pushed = jacobian.forward(prior.covariance_apply(pulled))
        vector = root * data.ray.forward(slope * pushed)
        value = float(vector.norm()) / data.noise_std**2
    return 1 + value
