"""Networks fitted to one scan side by side: warm start, Adam, averaging, collapse, clipping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pdip.dip.descent import WARM_STEPS, Descent
from pdip.dip.networks import side_by_side
from pdip.dip.start import DataTerm, Start
from pdip.dip.total_variation import total_variation
from pdip.dip.unet import UNet
from pdip.keeper import Keeper
from pdip.typing import Image

CHECK_EVERY = 25
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
    if descent.step < 0:
        _warm_up(training, descent, z, start.image)
    while descent.step < total and not descent.finished:
        image = network.image(descent.newest.bodies(z))
        misfit = data.squared_residual(image, seen) / 2
        objective = (misfit + training.tv_weight * total_variation(image)) / data.noise_std**2
        descent.advance(objective.sum())
        if descent.step % CHECK_EVERY == 0:
            if _checked_and_stuck(training, descent, network, z):
                return None
            if training.keeper.due or descent.finished or descent.step == total:
                training.keeper.keep(descent.state())
    if descent.step % CHECK_EVERY:
        training.keeper.keep(descent.state())  # unchecked, as a longer fit has it at this step
        if _checked_and_stuck(training, descent, network, z):
            return None
    return [_trained(network, z, rule, total) for rule in rules]


def _checked_and_stuck(training: Training, descent: Descent, network: UNet, z: Image) -> bool:
    """Let the stopping rules see the averaged images; True where the output clips them all."""
    with torch.no_grad():
        image = network.image(descent.average.bodies(z))
    descent.check(image)
    level = max(rule.level for rule in descent.rules)
    if training.progress:
        said = f"residual {level:.2f} of the noise variance"
        training.progress(descent.step, training.max_steps, said)
    stalled = all(rule.stalls for rule in descent.rules)
    return level > CLIPPED_LEVEL and stalled and _clips(network, image)


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
    with torch.no_grad():
        images = descent.newest.network.image(descent.newest.bodies(z))
    for rule, image in zip(descent.rules, images, strict=True):
        rule.begin(image)


def _trained(network: UNet, z: Image, rule, max_steps: int) -> Trained | None:
    if not rule.best_image.std() >= COLLAPSED_CONTRAST * network.image_scale:  # nan too
        return None
    reason = rule.reason(max_steps)
    return Trained(rule.best_image, network, z, rule.best_params, reason, rule.history)


def _clips(network: UNet, images: Image) -> bool:
    """Whether a sigmoid holds down bright pixels of any image."""
    bright = clipped(network, images).double().mean((-2, -1))
    return bool((bright > CLIPPED_FRACTION).any())


def clipped(network: UNet, images: Image) -> Tensor:
    """Pixels at the end of what a sigmoid can put out."""
    if network.activation.name != "sigmoid":
        return torch.zeros_like(images, dtype=torch.bool)
    return images > CLIPPED_ABOVE * network.image_scale
