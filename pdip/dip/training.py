"""Restarts of one network fitted to one scan: warm start, Adam, averaging, collapse, clipping."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from pdip.dip.start import SMALL_PIXELS, DataTerm, Start
from pdip.dip.total_variation import total_variation
from pdip.dip.unet import UNet
from pdip.errors import ComputationError
from pdip.typing import Image

GROWTH_STEPS = 500  # the learning rate grows by its first value every so many steps
AVERAGING_STEPS = 100  # the fitted weights are an exponential average over about so many steps
CHECK_EVERY = 25
WARM_STEPS = 300
WARM_RATE = 3e-3
WARM_RAMP = 30
WARM_BETAS = (0.9, 0.99)
ATTEMPTS = 4
COLLAPSED_CONTRAST = 1e-3  # std of the image over its scale, below which the output is stuck
CLIPPED_ABOVE = 0.97  # of the image scale
CLIPPED_FRACTION = 0.001  # more pixels than this above it, and far from the noise level: clipped
CLIPPED_LEVEL = 3.0  # noise variances


@dataclass(frozen=True)
class Training:
    """How networks are fitted, the same for all restarts.

    Attributes:
        data: the data term; the rule says which of its rays the fit may see.
        start: the image the networks see, and whether they are first fitted to it.
        tv_weight: λ.
        learning_rate: of Adam in the first step.
        max_steps: a fit ends here at the latest.
        rule: a class of :data:`~pdip.dip.stopping.STOPPING_RULES`.
        seed: of the first restart.
        progress: called as ``progress(step, max_steps, text)``.
    """

    data: DataTerm
    start: Start
    tv_weight: float
    learning_rate: float
    max_steps: int
    rule: type
    seed: int
    progress: Callable[[int, int, str], None] | None


@dataclass(frozen=True)
class Trained:
    """One network's fit: its image, weights, history, and why it ended."""

    image: Image
    network: UNet
    params: dict[str, Tensor]
    stop_reason: str
    history: dict[str, list]


def train_restarts(training: Training, network: UNet, count: int) -> list[Trained] | None:
    """Fit ``count`` networks; those that collapse start again from other weights, more slowly.

    Returns:
        the fits, at least one; None if the network's output clips.

    Raises:
        ComputationError: all of them collapsed, again and again.
    """
    fits: list[Trained] = []
    networks = [network] + [network.like(seed=training.seed + i) for i in range(1, count)]
    for attempt in range(ATTEMPTS):
        new = _train_together(training, networks)
        if new is None:
            return None
        fits += [fit for fit in new if fit is not None]
        missing = count - len(fits)
        if not missing:
            return fits
        first = training.seed + count * (attempt + 1)
        networks = [network.like(seed=first + i) for i in range(missing)]
        training = replace(training, learning_rate=training.learning_rate / 2)
    if fits:
        return fits
    raise ComputationError(
        "every restart of the fit collapsed to a constant or non-finite image; lower the learning "
        "rate or use activation 'none'"
    )


def _train_together(training: Training, networks) -> list[Trained | None] | None:
    """One fit per network; None for a fit that collapsed, or for all if the output clips.

    On a GPU all in one batch, on a CPU a thread for each: there the batched convolutions of
    several small networks take twice as long as the networks one by one on one core each.
    """
    ray, cores = training.data.ray, torch.get_num_threads()
    small = math.prod(ray.domain_shape) <= SMALL_PIXELS
    if ray.device.type != "cpu" or (len(networks) == 1 and not small):
        return train_side_by_side(training, networks)
    workers = min(cores, len(networks))
    progress = _ProgressOfSlowest(training.progress, len(networks))

    def train_one(number: int) -> list[Trained | None] | None:
        torch.set_num_threads(1 if small else cores // workers)
        own = replace(training, progress=partial(progress, number))
        fits = train_side_by_side(own, [networks[number]])
        progress.steps[number] = training.max_steps
        return fits

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(train_one, number) for number in range(len(networks))]
        try:
            fits = [future.result() for future in futures]
        except BaseException:
            progress.cancelled = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(cores)
    return None if None in fits else [fit for (fit,) in fits]


class _ProgressOfSlowest:
    """Tells the progress of several fits as that of the slowest, and ends them when cancelled."""

    def __init__(self, progress: Callable[[int, int, str], None] | None, count: int):
        self.progress = progress
        self.steps = [0] * count
        self.cancelled = False
        self.lock = Lock()

    def __call__(self, number: int, step: int, total: int, text: str) -> None:
        if self.cancelled:
            raise ComputationError("the fit was cancelled")
        with self.lock:
            before = min(self.steps)
            self.steps[number] = step
            if self.progress and min(self.steps) > before:
                self.progress(min(self.steps), total, text)


def train_side_by_side(training: Training, networks) -> list[Trained | None] | None:
    """One fit per network, batched with vmap; None for a fit that collapsed, or for all if the
    output clips."""
    data, total = training.data, training.max_steps
    network = deepcopy(networks[0]).to(dtype=data.ray.dtype, device=data.ray.device)
    seen = training.rule.fitting_weights(data, training.seed)
    rules = [training.rule(data, training.seed, training.start.noise_share) for _ in networks]
    z = training.start.image / network.image_scale
    stacked, _ = stack_module_state([deepcopy(n).to(z) for n in networks])
    params = {name: value.detach().requires_grad_() for name, value in stacked.items()}
    if training.start.warm:
        _warm_up(network, params, z, training.start.image)
    average = {name: value.detach().clone() for name, value in params.items()}
    optimiser = torch.optim.Adam(params.values(), lr=training.learning_rate, fused=True)
    growth = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 + step / GROWTH_STEPS)
    for step in range(1, total + 1):
        image = network.image(_bodies(network, params, z))
        misfit = data.squared_residual(image, seen) / 2
        objective = (misfit + training.tv_weight * total_variation(image)) / data.noise_std**2
        optimiser.zero_grad()
        objective.sum().backward()
        optimiser.step()
        growth.step()
        newest = [p.detach() for p in params.values()]
        torch._foreach_lerp_(list(average.values()), newest, 1 / min(AVERAGING_STEPS, step))
        if step % CHECK_EVERY == 0 or step == total:
            with torch.no_grad():
                image = network.image(_bodies(network, average, z))
            for i, rule in enumerate(rules):
                rule.update(step, image[i], {k: v[i] for k, v in average.items()})
            level = max(rule.level for rule in rules)
            if training.progress:
                training.progress(step, total, f"residual {level:.2f} of the noise variance")
            stuck = level > CLIPPED_LEVEL and all(rule.stalls for rule in rules)
            if stuck and _clips(network, image):
                return None
            if all(rule.finished for rule in rules):
                break
    return [_trained(network, rule, total) for rule in rules]


def _warm_up(network: UNet, params: dict[str, Tensor], z: Image, target: Image) -> None:
    """Fit the networks to an image before their output activation, where no slope dies."""
    h = network.pre_activation(target)
    optimiser = torch.optim.Adam(params.values(), lr=WARM_RATE, betas=WARM_BETAS, fused=True)
    cosine = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (
            min(1.0, (step + 1) / WARM_RAMP) * (1 + math.cos(math.pi * step / WARM_STEPS)) / 2
        ),
    )
    for _ in range(WARM_STEPS):
        optimiser.zero_grad()
        (_bodies(network, params, z) - h).square().sum().backward()
        optimiser.step()
        cosine.step()


def _bodies(network: UNet, params: dict[str, Tensor], z: Image) -> Tensor:
    """``body(z)`` for every network of a stack of parameters: (networks, height, width)."""
    values = {name.removeprefix("body."): value for name, value in params.items()}
    if len(next(iter(values.values()))) == 1:  # without the cost of vmap
        alone = {name: value[0] for name, value in values.items()}
        return functional_call(network.body, alone, (z,))[None]
    return vmap(lambda one: functional_call(network.body, one, (z,)))(values)


def _trained(network: UNet, rule, max_steps: int) -> Trained | None:
    if not rule.best_image.std() >= COLLAPSED_CONTRAST * network.image_scale:  # nan too
        return None
    reason = rule.reason(max_steps)
    return Trained(rule.best_image, network, rule.best_params, reason, rule.history)


def _clips(network: UNet, images: Image) -> bool:
    """Whether a sigmoid holds down bright pixels of any image."""
    if network.activation.name != "sigmoid":
        return False
    bright = (images > CLIPPED_ABOVE * network.image_scale).double().mean((-2, -1))
    return bool((bright > CLIPPED_FRACTION).any())
