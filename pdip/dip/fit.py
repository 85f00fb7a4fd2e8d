"""The deep image prior fitted to one scan, with its own stopping rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from pdip.dip.noise import estimate_noise_std
from pdip.dip.stopping import Discrepancy, HeldOutRays
from pdip.dip.total_variation import total_variation
from pdip.dip.unet import UNet
from pdip.errors import ComputationError, InputError
from pdip.ray import fbp
from pdip.ray.cgls import cgls
from pdip.typing import Image, Sinogram

TV_RATE = 0.3  # λ image_scale / σ²: the prior's rate on edges relative to the image's range
AVERAGING_STEPS = 100  # the fitted weights are an exponential average over about so many steps
CHECK_EVERY = 25
COLLAPSED_CONTRAST = 1e-3  # std of the image over its scale, below which the output is stuck
SCALE_ITERATIONS = 5
MAX_CLIPPED_FRACTION = 0.005
CLIPPED_ABOVE = 0.98


@dataclass(frozen=True)
class DIPFit:
    """A network fitted to one scan.

    Attributes:
        image: ``x* = f(θ*)``, (height, width), 1/mm.
        network: the architecture; its own weights are not used.
        network_input: z, (height, width).
        params: θ*, by parameter name.
        noise_std: σ of a ray of weight 1, given or estimated.
        tv_weight: λ of the objective.
        stop_reason: one sentence: why the fit ended where it did.
        history: ``step``, ``mean_squared_residual`` and ``objective`` at every check.
        assumptions: what was assumed for the user.
        alternatives: the other restarts, fitted side by side.
    """

    image: Image
    network: UNet
    network_input: Image
    params: dict[str, Tensor]
    noise_std: float
    tv_weight: float
    stop_reason: str
    history: dict[str, list]
    assumptions: tuple[str, ...] = ()
    alternatives: tuple[DIPFit, ...] = field(default=())

    @property
    def restarts(self) -> tuple[DIPFit, ...]:
        """All fits, this one first."""
        return (self, *self.alternatives)


def fit_dip(
    scan,
    ray,
    network: UNet | None = None,
    *,
    noise_std: float | None = None,
    tv_weight: float | None = None,
    learning_rate: float = 3e-4,
    max_steps: int = 5000,
    stop: str = "discrepancy",
    restarts: int = 3,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> DIPFit:
    """Fit ``min_θ ½‖W^{1/2}(A f(θ; z) - y)‖² + λ TV(f(θ; z))`` from several random starts.

    Adam on the weights, all restarts side by side; θ* is the running average of the last steps
    at the moment of stopping. z is the FBP image over the network's image scale.

    Args:
        scan: the scan.
        ray: its ray transform.
        network: the architecture (None: ``UNet()`` with its image scale set from the data). Its
            weights are the first restart's start; the others are drawn anew.
        noise_std: σ of a ray of weight 1 (None: estimated from the scan).
        tv_weight: λ (None: ``0.3 σ² / image_scale``).
        learning_rate: of Adam.
        max_steps: the fit ends here at the latest.
        stop: ``"discrepancy"`` ends a restart when its mean squared residual falls to the noise
            level, ``"held_out"`` when the error on a tenth of the rays, withheld, has passed its
            minimum.
        restarts: number of fits.
        seed: of the first restart; the others count up from it.
        progress: called as ``progress(step, max_steps, text)``.

    Raises:
        InputError: a setting out of range.
        ComputationError: every restart collapsed to a constant image.
    """
    _check_settings(noise_std, tv_weight, learning_rate, max_steps, stop, restarts)
    assumptions = []
    if noise_std is None:
        noise_std, how = estimate_noise_std(scan, ray)
        assumptions.append(how)
    problem = _Problem.of(scan, ray, noise_std)
    if network is None:
        scale = problem.image_scale()
        network = UNet(image_scale=scale, seed=seed)
        assumptions.append(f"the network's image scale was set to {scale:.4g} 1/mm from the data")
    rule = {"discrepancy": Discrepancy, "held_out": HeldOutRays}[stop]
    fits = _restarts(
        problem, network, tv_weight, learning_rate, max_steps, rule, restarts, seed, progress
    )
    if _clipped(fits) and not all(fit.stop_reason.startswith("reached") for fit in fits):
        network = _rescaled(network, 1.5, seed)
        assumptions.append(
            f"the fit clipped bright pixels, so the image scale was raised to "
            f"{network.image_scale:.4g} 1/mm and the fit repeated"
        )
        fits = _restarts(
            problem, network, tv_weight, learning_rate, max_steps, rule, restarts, seed, progress
        )
    fits = [replace(fit, assumptions=tuple(assumptions)) for fit in fits]
    return replace(fits[0], alternatives=tuple(fits[1:]))


@dataclass(frozen=True)
class _Problem:
    """The data term: what is measured, on the ray transform's device and in its precision."""

    ray: object
    sinogram: Sinogram
    weights: Sinogram
    noise_std: float

    @classmethod
    def of(cls, scan, ray, noise_std: float) -> _Problem:
        place = {"dtype": ray.dtype, "device": ray.device}
        sinogram = scan.sinogram.to(**place)
        weights = torch.ones_like(sinogram) if scan.weights is None else scan.weights.to(**place)
        return cls(ray, sinogram, weights, noise_std)

    def image_scale(self) -> float:
        """Largest pixel of a smooth reconstruction: five steps of CGLS, or the noise level."""
        target = float((self.weights > 0).sum()) * self.noise_std**2
        iterates = cgls(
            self.ray,
            self.sinogram,
            iterations=SCALE_ITERATIONS,
            weights=self.weights,
            stop_residual=target,
        )
        return float(iterates[-1].max())

    def network_input(self, image_scale: float) -> Image:
        return fbp(self.ray, self.sinogram * (self.weights > 0)) / image_scale

    def squared_residual(self, image: Image, weights: Sinogram) -> Tensor:
        """``‖W^{1/2}(A x - y)‖²`` of each image of a batch."""
        residual = self.ray.forward(image) - self.sinogram
        return (weights * residual.square()).sum((-2, -1))


def _restarts(problem, network, tv_weight, learning_rate, max_steps, rule, count, seed, progress):
    """Fit ``count`` restarts; those that collapse start again from other weights, more slowly."""
    fits: list[DIPFit] = []
    networks = [network] + [_rescaled(network, 1.0, seed + i) for i in range(1, count)]
    for attempt in range(4):
        new = _fit_side_by_side(
            problem, networks, tv_weight, learning_rate / 2**attempt, max_steps, rule, seed, progress
        )
        fits += [fit for fit in new if fit is not None]
        missing = count - len(fits)
        if not missing:
            return fits
        first = seed + count * (attempt + 1)
        networks = [_rescaled(network, 1.0, first + i) for i in range(missing)]
    if fits:
        return fits
    raise ComputationError(
        "every restart of the fit collapsed to a constant image; lower the learning rate or use "
        "activation 'none'"
    )


def _fit_side_by_side(
    problem, networks, tv_weight, learning_rate, max_steps, rule, seed, progress
) -> list[DIPFit | None]:
    """One fit per network, batched with vmap; None for a fit that collapsed."""
    network = networks[0].to(dtype=problem.ray.dtype, device=problem.ray.device)
    z = problem.network_input(network.image_scale)
    if tv_weight is None:
        tv_weight = TV_RATE * problem.noise_std**2 / network.image_scale
    stacked, _ = stack_module_state([n.to(z) for n in networks])
    params = {name: value.detach().requires_grad_() for name, value in stacked.items()}
    average = {name: value.detach().clone() for name, value in params.items()}
    optimiser = torch.optim.Adam(params.values(), lr=learning_rate, fused=True)
    rules = [rule(problem, seed) for _ in networks]
    weights = rules[0].fitting_weights
    batched = vmap(lambda p: functional_call(network, p, (z,)))
    for step in range(1, max_steps + 1):
        image = batched(params)
        misfit = problem.squared_residual(image, weights) / 2
        objective = (misfit + tv_weight * total_variation(image)) / problem.noise_std**2
        optimiser.zero_grad()
        objective.sum().backward()
        optimiser.step()
        decay = 1 - 1 / min(AVERAGING_STEPS, step)
        torch._foreach_lerp_(
            list(average.values()), [p.detach() for p in params.values()], 1 - decay
        )
        if step % CHECK_EVERY == 0 or step == max_steps:
            with torch.no_grad():
                image = batched(average)
            for i, check in enumerate(rules):
                check.update(step, image[i], {k: v[i] for k, v in average.items()})
            if progress:
                level = max(check.level for check in rules)
                progress(step, max_steps, f"residual {level:.2f} of the noise variance")
            if all(check.finished for check in rules):
                break
    return [
        _record(problem, network, z, tv_weight, check, max_steps) for check in rules
    ]


def _record(problem, network, z, tv_weight, check, max_steps) -> DIPFit | None:
    if check.best_image.std() < COLLAPSED_CONTRAST * network.image_scale:
        return None
    return DIPFit(
        image=check.best_image,
        network=network,
        network_input=z,
        params=check.best_params,
        noise_std=problem.noise_std,
        tv_weight=tv_weight,
        stop_reason=check.reason(max_steps),
        history=check.history,
    )


def _rescaled(network: UNet, factor: float, seed: int) -> UNet:
    """The same architecture with new weights and ``factor`` times the image scale."""
    return UNet(**{**network.settings, "image_scale": factor * network.image_scale, "seed": seed})


def _clipped(fits: list[DIPFit]) -> bool:
    """Whether a sigmoid holds down too many bright pixels of any fit."""
    if fits[0].network.activation.name != "sigmoid":
        return False
    limit = CLIPPED_ABOVE * fits[0].network.image_scale
    return any((fit.image > limit).double().mean() > MAX_CLIPPED_FRACTION for fit in fits)


def _check_settings(noise_std, tv_weight, learning_rate, max_steps, stop, restarts) -> None:
    if noise_std is not None and not (noise_std > 0 and math.isfinite(noise_std)):
        raise InputError(f"expected a positive noise_std, got {noise_std}")
    if tv_weight is not None and not (tv_weight >= 0 and math.isfinite(tv_weight)):
        raise InputError(f"expected a non-negative tv_weight, got {tv_weight}")
    if not learning_rate > 0:
        raise InputError(f"expected a positive learning_rate, got {learning_rate}")
    if max_steps < 1 or restarts < 1:
        raise InputError(
            f"expected at least one step and one restart, got max_steps={max_steps} and "
            f"restarts={restarts}"
        )
    if stop not in ("discrepancy", "held_out"):
        raise InputError(f"expected stop 'discrepancy' or 'held_out', got {stop!r}")
