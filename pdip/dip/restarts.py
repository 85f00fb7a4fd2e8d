"""Several restarts of one network: in threads, batches and ranks, again where one collapsed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from threading import Lock

import torch

from pdip.dip.start import SMALL_PIXELS, Start
from pdip.dip.training import Trained, Training, train_side_by_side
from pdip.dip.unet import UNet
from pdip.errors import ComputationError
from pdip.ranks import gather, share

ATTEMPTS = 4


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
        again = ".".join(["", *map(str, missing)]) if attempt else ""
        part = training.within(f"{network.activation.name}.{attempt}{again}")
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
