"""Where fits are between two steps of Adam: all that the next step depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from pdip.dip.adam import Adam
from pdip.dip.networks import OneNetwork, StackedNetworks
from pdip.dip.start import Start
from pdip.keeper import part_of
from pdip.typing import Image

AVERAGING_STEPS = 100  # the fitted weights are an exponential average over about so many steps
WARM_STEPS = 300
WARM_RATE = 3e-3
WARM_RAMP = 30
WARM_BETAS = (0.9, 0.99)


class Descent:
    """Adam on the weights of several networks, the running average, and the stopping rules.

    Steps below 0 are those to the start, with an Adam of their own; those of the fit follow.

    Args:
        networks: with the first weights; Adam changes them.
        rules: the stopping rule of each network.
        rate: of the fit's first step.
        start: says how the rate grows, and whether there are steps to the start.

    Attributes:
        newest: the networks with the weights of the present step.
        average: those with the running average of the weights.
    """

    def __init__(
        self, networks: OneNetwork | StackedNetworks, rules: Sequence, rate: float, start: Start
    ):
        self.newest = networks
        self.rules = tuple(rules)
        self.rate = rate
        self.growth = start.growth
        self.step = -WARM_STEPS if start.warm else 0
        self._begin_phase()

    @property
    def finished(self) -> bool:
        """Whether every rule has seen enough."""
        return all(rule.finished for rule in self.rules)

    def advance(self, objective: Tensor) -> None:
        """One step down the objective, and into the average."""
        self.step += 1
        self._adam.forget_slopes()
        objective.backward()
        self._adam.step(self._rate())
        if self.step > 0:
            share = 1 / min(AVERAGING_STEPS, self.step)
            average, newest = (list(n.weights.values()) for n in (self.average, self.newest))
            with torch.no_grad():
                torch._foreach_lerp_(average, newest, share)
        if self.step == 0:
            self._begin_phase()

    def check(self, images: Image) -> None:
        """Let every rule see the image of its network at the averaged weights."""
        for number, (rule, image) in enumerate(zip(self.rules, images, strict=True)):
            rule.update(self.step, image, self.average.params(number))

    def _rate(self) -> float:
        """The learning rate of the present step."""
        if self.step > 0:
            return self.rate * self.growth(self.step - 1)
        before = self.step - 1 + WARM_STEPS
        ramp, cosine = (before + 1) / WARM_RAMP, 1 + math.cos(math.pi * before / WARM_STEPS)
        return WARM_RATE * (min(1.0, ramp) * cosine / 2)

    def _begin_phase(self) -> None:
        """A new Adam for the steps that follow."""
        betas = WARM_BETAS if self.step < 0 else (0.9, 0.999)
        self._adam = Adam(self.newest.weights, betas)
        self.average = deepcopy(self.newest)
        self.average.network.eval()  # dropout belongs to the steps, not to what is looked at

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on, by name."""
        out = {"step": torch.tensor(self.step)}
        for name, value in self.newest.weights.items():
            out[f"params.{name}"] = value.detach()
            out[f"average.{name}"] = self.average.weights[name].detach()
            for moment, of_weight in self._adam.moments.items():
                out[f"adam.{moment}.{name}"] = of_weight[name]
        for number, rule in enumerate(self.rules):
            out |= {f"rule.{number}.{name}": value for name, value in rule.state().items()}
        return out

    def go_on_from(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        self.step = int(state["step"])
        self._begin_phase()
        device = next(iter(self.newest.weights.values())).device
        state = {name: value.to(device) for name, value in state.items()}
        with torch.no_grad():
            for name, value in self.newest.weights.items():
                value.copy_(state[f"params.{name}"])
                self.average.weights[name].copy_(state[f"average.{name}"])
                for moment, of_weight in self._adam.moments.items():
                    if (kept := state.get(f"adam.{moment}.{name}")) is not None:
                        of_weight[name].copy_(kept)  # in the weight's order in memory
        for number, rule in enumerate(self.rules):
            rule.go_on_from(part_of(state, f"rule.{number}."))
