"""Restarts of one network fitted to one scan: warm start, Adam, averaging, collapse, clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

import torch
from torch import Tensor

from pdip.dip.descent import WARM_STEPS, Descent
from pdip.dip.networks import side_by_side
from pdip.dip.start import SMALL_PIXELS, DataTerm, Start
from pdip.dip.total_variation import total_variation
from pdip.dip.unet import UNet
from pdip.errors import ComputationError
from pdip.keeper import Keeper
from pdip.ranks import gather, share
from pdip.typing import Image

CHECK_EVERY = 25
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
        starts: what the networks begin with, one restart after another in turn.
        tv_weight: λ.
        learning_rate: of Adam in the first step; None for those of the starts.
        max_steps: a fit ends here at the latest.
        rule: a class of :data:`~pdip.dip.stopping.STOPPING_RULES`.
        seed: of the first restart.
        progress: called as ``progress(step, max_steps, text)``.
        keeper: keeps how far every fit is.
        before: weights by parameter name that the first restarts go on from, one set each, in
            place of drawn ones that are fitted to a warm start.
    """

    data: DataTerm
    starts: tuple[Start, ...]
    tv_weight: float
    learning_rate: float | None
    max_steps: int
    rule: type
    seed: int
    progress: Callable[[int, int, str], None] | None
    keeper: Keeper = Keeper()
    before: tuple[Mapping[str, Tensor], ...] = ()

    def within(self, name: str) -> Training:
        """The same with states kept in a place of that name."""
        return replace(self, keeper=self.keeper.within(name))


@dataclass(frozen=True)
class Trained:
    """One network's fit: its image, input, weights, history, and why it ended."""

    image: Image
    network: UNet
    network_input: Image
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
    fits: list[Trained | None] = [None] * count
    networks = [network] + [network.like(seed=training.seed + i) for i in range(1, count)]
    for drawn, weights in zip(networks, training.before, strict=False):
        drawn.load_state_dict(weights)
    slower = 1.0
    for attempt in range(ATTEMPTS):
        missing = [number for number in range(count) if fits[number] is None]
        if attempt:
            first = training.seed + count * attempt
            networks = [network.like(seed=first + i) for i in range(len(missing))]
        starts = [training.starts[number % len(training.starts)] for number in missing]
        if not attempt:
            starts = _without_warm_up(starts, len(training.before))
        part = training.within(f"{network.activation.name}.{attempt}")
        new = _train_together(part, starts, networks, slower)
        if new is None:
            return None
        for number, fit in zip(missing, new, strict=True):
            fits[number] = fit
        slower /= 2
        if None not in fits:
            break
    kept = [fit for fit in fits if fit is not None]
    if kept:
        return kept
    raise ComputationError(
        "every restart of the fit collapsed to a constant or non-finite image; lower the learning "
        "rate or use activation 'none'"
    )


def _without_warm_up(starts: list[Start], count: int) -> list[Start]:
    """The first ``count`` of them for networks that hold an image; equal ones stay one object."""
    held = {id(start): replace(start, warm=False) for start in starts[:count]}
    return [held[id(start)] for start in starts[:count]] + starts[count:]


def _train_together(training: Training, starts, networks, slower) -> list[Trained | None] | None:
    """One fit per network; None for a fit that collapsed, or for all if the output clips.

    On a GPU those of one start in one batch, on a CPU a thread for each: there the batched
    convolutions of several small networks take twice as long as one by one on one core each.
    Each rank trains its share of these jobs.
    """
    numbers = range(len(networks))
    if training.data.ray.device.type == "cpu":
        jobs = [[number] for number in numbers]
    else:
        distinct = {id(start): start for start in starts}.values()
        jobs = [[n for n in numbers if starts[n] is start] for start in distinct]
    jobs.sort(key=lambda job: starts[job[0]].warm)  # the longest fits first

    def train(job: int, progress) -> list[Trained | None] | None:
        own = replace(training.within(str(job)), progress=progress)
        of_job = [networks[number] for number in jobs[job]]
        return train_side_by_side(own, starts[jobs[job][0]], of_job, slower)

    fits = gather(_in_threads(train, share(range(len(jobs))), training))
    if any(of_job is None for of_job in fits):
        return None
    found: list[Trained | None] = [None] * len(networks)
    for job, of_job in zip(jobs, fits, strict=True):
        for number, fit in zip(job, of_job, strict=True):
            found[number] = fit
    return found


def _in_threads(train: Callable, jobs: Sequence[int], training: Training) -> list:
    """``train(job, progress)`` of every job; None alone as soon as one of them is None."""
    ray, cores = training.data.ray, torch.get_num_threads()
    small = math.prod(ray.domain_shape) <= SMALL_PIXELS
    workers = max(1, min(cores, len(jobs))) if ray.device.type == "cpu" else 1
    progress = _MeanProgress(training.progress, len(jobs))

    def fit(place: int) -> list[Trained | None] | None:
        torch.set_num_threads(1 if small else cores // workers)
        found = train(jobs[place], partial(progress, place))
        progress.steps[place] = training.max_steps
        return found

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(fit, place) for place in range(len(jobs))]
        try:
            if any(future.result() is None for future in as_completed(futures)):
                return [None]
        finally:
            progress.cancelled = True
            pool.shutdown(wait=False, cancel_futures=True)
            torch.set_num_threads(cores)
    return [future.result() for future in futures]


class _MeanProgress:
    """Tells the progress of several fits as their mean, and ends them when cancelled."""

    def __init__(self, progress: Callable[[int, int, str], None] | None, count: int):
        self.progress = progress
        self.steps = [0] * count
        self.cancelled = False
        self.lock = Lock()

    def __call__(self, job: int, step: int, total: int, text: str) -> None:
        if self.cancelled:
            raise ComputationError("the fit was cancelled")
        with self.lock:
            before = sum(self.steps) // len(self.steps)
            self.steps[job] = step
            mean = sum(self.steps) // len(self.steps)
            if self.progress and (mean > before or step == 0):
                self.progress(mean, total, text)


def train_side_by_side(
    training: Training, start: Start, networks, slower: float = 1.0
) -> list[Trained | None] | None:
    """One fit per network, batched with vmap, all from one start.

    None for a fit that collapsed, or for all if the output clips.
    """
    data, total = training.data, training.max_steps
    seen = training.rule.fitting_weights(data, training.seed)
    rules = [training.rule(data, training.seed, start.noise_share) for _ in networks]
    z = start.image / networks[0].image_scale
    network = deepcopy(networks[0]).to(z)
    rate = slower * (training.learning_rate or start.learning_rate)
    descent = Descent(side_by_side(networks, z, start), rules, rate, start)
    kept = training.keeper.recall()
    if kept is not None:
        descent.go_on_from(kept)
    _warm_up(training, descent, z, start.image)
    while descent.step < total and not descent.finished:
        image = network.image(descent.newest.bodies(z))
        misfit = data.squared_residual(image, seen) / 2
        objective = (misfit + training.tv_weight * total_variation(image)) / data.noise_std**2
        descent.advance(objective.sum())
        if descent.step % CHECK_EVERY and descent.step < total:
            continue
        with torch.no_grad():
            image = network.image(descent.average.bodies(z))
        descent.check(image)
        level = max(rule.level for rule in rules)
        if training.progress:
            training.progress(descent.step, total, f"residual {level:.2f} of the noise variance")
        stuck = level > CLIPPED_LEVEL and all(rule.stalls for rule in rules)
        if stuck and _clips(network, image):
            return None
        if training.keeper.due or descent.finished or descent.step == total:
            training.keeper.keep(descent.state())
    return [_trained(network, z, rule, total) for rule in rules]


def _warm_up(training: Training, descent: Descent, z: Image, target: Image) -> None:
    """Fit the networks to an image before their output activation, where no slope dies."""
    h = descent.newest.network.pre_activation(target)
    while descent.step < 0:
        if descent.step % CHECK_EVERY == 0:
            if training.keeper.due:
                training.keeper.keep(descent.state())
            if training.progress:
                done = f"step {descent.step + WARM_STEPS} of {WARM_STEPS} to the start"
                training.progress(0, training.max_steps, done)
        descent.advance((descent.newest.bodies(z) - h).square().sum())


def _trained(network: UNet, z: Image, rule, max_steps: int) -> Trained | None:
    if not rule.best_image.std() >= COLLAPSED_CONTRAST * network.image_scale:  # nan too
        return None
    reason = rule.reason(max_steps)
    return Trained(rule.best_image, network, z, rule.best_params, reason, rule.history)


def _clips(network: UNet, images: Image) -> bool:
    """Whether a sigmoid holds down bright pixels of any image."""
    if network.activation.name != "sigmoid":
        return False
    bright = (images > CLIPPED_ABOVE * network.image_scale).double().mean((-2, -1))
    return bool((bright > CLIPPED_FRACTION).any())
