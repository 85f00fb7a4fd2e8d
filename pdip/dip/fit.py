"""The deep image prior fitted to one scan, with its own stopping rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from pdip.dip.noise import estimate_noise_std
from pdip.dip.stopping import STOPPING_RULES
from pdip.dip.total_variation import total_variation
from pdip.dip.unet import UNet
from pdip.errors import ComputationError, InputError
from pdip.ray import fbp
from pdip.ray.cgls import cgls
from pdip.typing import Image, Sinogram

TV_RATE = 0.3  # λ image_scale / σ²: the prior's rate on edges relative to the image's range
GROWTH_STEPS = 500  # the learning rate grows by its first value every so many steps
AVERAGING_STEPS = 100  # the fitted weights are an exponential average over about so many steps
CHECK_EVERY = 25
SCALE_ITERATIONS = 5
COLLAPSED_CONTRAST = 1e-3  # std of the image over its scale, below which the output is stuck
CLIPPED_ABOVE = 0.97  # of the image scale
CLIPPED_FRACTION = 0.001  # more pixels than this above it, and far from the noise level: clipped
CLIPPED_LEVEL = 3.0  # noise variances
UNDER_FITTED_LEVEL = 4.0
OVER_FITTED_LEVEL = 0.3
LARGEST_RESTARTED_PIXELS = 1600
COARSEST_PIXELS = 7  # the U-Net goes down to about so many pixels a side


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
        history: ``step`` and ``mean_squared_residual`` (``held_out_mean_squared_error`` with
            ``stop="held_out"``) at every check.
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
    network: UNet | Mapping | None = None,
    *,
    noise_std: float | None = None,
    tv_weight: float | None = None,
    learning_rate: float = 2e-4,
    max_steps: int = 4000,
    stop: str = "discrepancy",
    restarts: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> DIPFit:
    """Fit ``min_θ ½‖W^{1/2}(A f(θ; z) - y)‖² + λ TV(f(θ; z))`` from several random starts.

    Adam on the weights, all restarts side by side, with a learning rate that grows linearly (its
    first value is added every 500 steps): small steps while the image takes shape, large ones for
    its details. θ* is the running average of about the last 100 steps. z is the FBP image over
    the network's image scale.

    Args:
        scan: the scan.
        ray: its ray transform.
        network: the architecture. None: a sigmoid :class:`UNet` of as many scales as the grid has
            room for, its image scale set from the data; if that clips bright pixels, one without
            output activation. A mapping: keywords of :class:`UNet` to use in it. A given network's
            weights are the first restart's start.
        noise_std: σ of a ray of weight 1 (None: estimated from the scan).
        tv_weight: λ (None: ``0.3 σ² / image_scale``).
        learning_rate: of Adam in the first step.
        max_steps: the fit ends here at the latest.
        stop: ``"discrepancy"`` ends a restart when its mean squared residual falls to the noise
            level or no longer falls, ``"held_out"`` when the error on a tenth of the rays,
            withheld, has passed its minimum.
        restarts: number of fits (None: 3 up to 1 600 pixels, 1 beyond).
        seed: of the first restart; the others count up from it.
        progress: called as ``progress(step, max_steps, text)``.

    Raises:
        InputError: a setting out of range.
        ComputationError: every restart collapsed to a constant image, or a given sigmoid network
            clips bright pixels.
    """
    _check_settings(noise_std, tv_weight, learning_rate, max_steps, stop, restarts)
    assumptions = []
    if noise_std is None:
        noise_std, how = estimate_noise_std(scan, ray)
        assumptions.append(how)
    problem = _Problem.of(scan, ray, noise_std)
    if restarts is None:
        restarts = 3 if math.prod(ray.domain_shape) <= LARGEST_RESTARTED_PIXELS else 1
        assumptions.append(f"the network was fitted from {restarts} random start(s)")
    free_to_unbound = not isinstance(network, UNet) and "activation" not in (network or {})
    if not isinstance(network, UNet):
        network, assumed = problem.network(seed, network or {})
        assumptions += assumed
    schedule = _Schedule(tv_weight, learning_rate, max_steps, STOPPING_RULES[stop], seed, progress)
    fits = _restarts(problem, network, schedule, restarts)
    if fits is None and free_to_unbound:
        network = network.like(activation="none", seed=seed)
        assumptions.append(
            "the sigmoid clipped bright pixels, so the fit was repeated without output activation"
        )
        fits = _restarts(problem, network, schedule, restarts)
    if fits is None:
        raise ComputationError(
            f"the sigmoid clips pixels above {network.image_scale:.4g} 1/mm and the fit is stuck; "
            "raise image_scale or use activation 'none'"
        )
    assumptions += _doubts(problem, fits)
    fits = [replace(fit, assumptions=tuple(assumptions)) for fit in fits]
    return replace(fits[0], alternatives=tuple(fits[1:]))


@dataclass(frozen=True)
class _Schedule:
    """How a fit proceeds, the same for all restarts."""

    tv_weight: float | None
    learning_rate: float
    max_steps: int
    rule: type
    seed: int
    progress: Callable[[int, int, str], None] | None


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

    def network(self, seed: int, given: Mapping) -> tuple[UNet, list[str]]:
        """The architecture for this grid and these data, and what was chosen beyond ``given``."""
        settings = dict(given)
        assumed = []
        if "scales" not in given:
            octaves = round(math.log2(min(self.ray.domain_shape) / COARSEST_PIXELS))
            settings["scales"] = 1 + max(1, octaves)
            assumed.append(f"the U-Net has {settings['scales']} scales, as the grid has room for")
        if "image_scale" not in given:
            settings["image_scale"] = self.image_scale()
            assumed.append(
                f"the network's image scale was set to {settings['image_scale']:.4g} 1/mm from "
                "the data"
            )
        return UNet(**{"seed": seed, **settings}), assumed

    def network_input(self, image_scale: float, weights: Sinogram) -> Image:
        return fbp(self.ray, self.sinogram * (weights > 0)) / image_scale

    def squared_residual(self, image: Image, weights: Tensor) -> Tensor:
        """``‖W^{1/2}(A x - y)‖²`` of each image of a batch."""
        residual = self.ray.forward(image) - self.sinogram
        return (weights * residual.square()).sum((-2, -1))


def _restarts(problem, network, schedule, count) -> list[DIPFit] | None:
    """Fit ``count`` restarts; those that collapse start again from other weights, more slowly.

    None if the network's output clips.
    """
    fits: list[DIPFit] = []
    networks = [network] + [network.like(seed=schedule.seed + i) for i in range(1, count)]
    for attempt in range(4):
        new = _fit_side_by_side(problem, networks, schedule)
        if new is None:
            return None
        fits += [fit for fit in new if fit is not None]
        missing = count - len(fits)
        if not missing:
            return fits
        first = schedule.seed + count * (attempt + 1)
        networks = [network.like(seed=first + i) for i in range(missing)]
        schedule = replace(schedule, learning_rate=schedule.learning_rate / 2)
    if fits:
        return fits
    raise ComputationError(
        "every restart of the fit collapsed to a constant or non-finite image; lower the learning "
        "rate or use activation 'none'"
    )


def _fit_side_by_side(problem, networks, schedule) -> list[DIPFit | None] | None:
    """One fit per network, batched with vmap; None for a fit that collapsed, or for all if the
    output clips."""
    network = deepcopy(networks[0]).to(dtype=problem.ray.dtype, device=problem.ray.device)
    rules = [schedule.rule(problem, schedule.seed) for _ in networks]
    z = problem.network_input(network.image_scale, rules[0].fitting_weights)
    tv_weight = schedule.tv_weight
    if tv_weight is None:
        tv_weight = TV_RATE * problem.noise_std**2 / network.image_scale
    stacked, _ = stack_module_state([deepcopy(n).to(z) for n in networks])
    params = {name: value.detach().requires_grad_() for name, value in stacked.items()}
    average = {name: value.detach().clone() for name, value in params.items()}
    optimiser = torch.optim.Adam(params.values(), lr=schedule.learning_rate, fused=True)
    growth = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 + step / GROWTH_STEPS)
    batched = vmap(lambda p: functional_call(network, p, (z,)))
    for step in range(1, schedule.max_steps + 1):
        image = batched(params)
        misfit = problem.squared_residual(image, rules[0].fitting_weights) / 2
        objective = (misfit + tv_weight * total_variation(image)) / problem.noise_std**2
        optimiser.zero_grad()
        objective.sum().backward()
        optimiser.step()
        growth.step()
        newest = [p.detach() for p in params.values()]
        torch._foreach_lerp_(list(average.values()), newest, 1 / min(AVERAGING_STEPS, step))
        if step % CHECK_EVERY == 0 or step == schedule.max_steps:
            with torch.no_grad():
                image = batched(average)
            for i, check in enumerate(rules):
                check.update(step, image[i], {k: v[i] for k, v in average.items()})
            level = max(check.level for check in rules)
            if schedule.progress:
                text = f"residual {level:.2f} of the noise variance"
                schedule.progress(step, schedule.max_steps, text)
            finished = all(check.finished for check in rules)
            stuck = level > CLIPPED_LEVEL and all(check.stalls for check in rules)
            if stuck and _clips(network, image):
                return None
            if finished:
                break
    return [_record(problem, network, z, tv_weight, check, schedule.max_steps) for check in rules]


def _record(problem, network, z, tv_weight, check, max_steps) -> DIPFit | None:
    if not check.best_image.std() >= COLLAPSED_CONTRAST * network.image_scale:  # nan too
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


def _doubts(problem, fits: list[DIPFit]) -> list[str]:
    """Warnings about fits whose residual does not go with the noise level."""
    used = problem.weights > 0
    residuals = [float(problem.squared_residual(fit.image, problem.weights)) for fit in fits]
    levels = [residual / float(used.sum()) / problem.noise_std**2 for residual in residuals]
    if max(levels) > UNDER_FITTED_LEVEL:
        return [
            f"WARNING: a fit left a residual of {max(levels):.3g} times the noise variance; its "
            "error bars do not cover what the network failed to fit; raise max_steps or check the "
            "geometry"
        ]
    if min(levels) < OVER_FITTED_LEVEL:
        return [
            f"WARNING: the residual is only {min(levels):.2g} times the noise variance; the noise "
            "level is too high for this scan and the image is too smooth"
        ]
    return []


def _clips(network: UNet, images: Image) -> bool:
    """Whether a sigmoid holds down bright pixels of any image."""
    if network.activation.name != "sigmoid":
        return False
    bright = (images > CLIPPED_ABOVE * network.image_scale).double().mean((-2, -1))
    return bool((bright > CLIPPED_FRACTION).any())


def _check_settings(noise_std, tv_weight, learning_rate, max_steps, stop, restarts) -> None:
    if noise_std is not None and not (noise_std > 0 and math.isfinite(noise_std)):
        raise InputError(f"expected a positive noise_std, got {noise_std}")
    if tv_weight is not None and not (tv_weight >= 0 and math.isfinite(tv_weight)):
        raise InputError(f"expected a non-negative tv_weight, got {tv_weight}")
    if not learning_rate > 0:
        raise InputError(f"expected a positive learning_rate, got {learning_rate}")
    if max_steps < 1 or (restarts is not None and restarts < 1):
        raise InputError(
            f"expected at least one step and one restart, got max_steps={max_steps} and "
            f"restarts={restarts}"
        )
    if stop not in STOPPING_RULES:
        raise InputError(f"expected stop to be one of {', '.join(STOPPING_RULES)}, got {stop!r}")
