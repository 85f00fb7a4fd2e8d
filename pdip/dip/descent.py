"""Where fits are between two steps of Adam: all that the next step depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pdip.keeper import part_of
from pdip.typing import Image

GROWTH_STEPS = 500  # the learning rate grows by its first value every so many steps
AVERAGING_STEPS = 100  # the fitted weights are an exponential average over about so many steps
WARM_STEPS = 300
WARM_RATE = 3e-3
WARM_RAMP = 30
WARM_BETAS = (0.9, 0.99)


class Descent:
    """Adam on the weights of several networks, the running average, and the stopping rules.

    Steps below 0 are those to the start, with an Adam of their own; those of the fit follow.

    Args:
        params: the weights, stacked over networks, by name; leaves that Adam changes.
        rules: the stopping rule of each network.
        rate: of the fit's first step.
        warm: whether there are steps to the start.
    """

    def __init__(self, params: dict[str, Tensor], rules: Sequence, rate: float, warm: bool):
        self.params = params
        self.rules = tuple(rules)
        self.rate = rate
        self.step = -WARM_STEPS if warm else 0
        self.average: dict[str, Tensor] = {}
        self._begin_phase()

    @property
    def finished(self) -> bool:
        """Whether every rule has seen enough."""
        return all(rule.finished for rule in self.rules)

    def advance(self, objective: Tensor) -> None:
        """One step down the objective, and into the average."""
        self.step += 1
        self._adam.param_groups[0]["lr"] = self._rate()
        self._adam.zero_grad()
        objective.backward()
        self._adam.step()
        if self.step > 0:
            newest = [value.detach() for value in self.params.values()]
            share = 1 / min(AVERAGING_STEPS, self.step)
            torch._foreach_lerp_(list(self.average.values()), newest, share)
        if self.step == 0:
            self._begin_phase()

    def check(self, images: Image) -> None:
        """Let every rule see the image of its network at the averaged weights."""
        for number, (rule, image) in enumerate(zip(self.rules, images, strict=True)):
            rule.update(self.step, image, {k: v[number] for k, v in self.average.items()})

    def _rate(self) -> float:
        """The learning rate of the present step."""
        if self.step > 0:
            return self.rate * (1 + (self.step - 1) / GROWTH_STEPS)
        before = self.step - 1 + WARM_STEPS
        ramp, cosine = (before + 1) / WARM_RAMP, 1 + math.cos(math.pi * before / WARM_STEPS)
        return WARM_RATE * (min(1.0, ramp) * cosine / 2)

    def _begin_phase(self) -> None:
        """A new Adam for the steps that follow."""
        betas = WARM_BETAS if self.step < 0 else (0.9, 0.999)
        self._adam = torch.optim.Adam(self.params.values(), betas=betas, fused=True)
        self.average = {name: value.detach().clone() for name, value in self.params.items()}

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on, by name."""
        out = {"step": torch.tensor(self.step)}
        for name, value in self.params.items():
            out[f"params.{name}"] = value.detach()
            out[f"average.{name}"] = self.average[name]
            for moment, tensor in self._adam.state[value].items():
                out[f"adam.{moment}.{name}"] = tensor
        for number, rule in enumerate(self.rules):
            out |= {f"rule.{number}.{name}": value for name, value in rule.state().items()}
        return out

    def go_on_from(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        self.step = int(state["step"])
        self._begin_phase()
        device = next(iter(self.params.values())).device
        state = {name: value.to(device) for name, value in state.items()}
        with torch.no_grad():
            for name, value in self.params.items():
                value.copy_(state[f"params.{name}"])
                self.average[name] = state[f"average.{name}"]
                self._adam.state[value] = {
                    moment: state[f"adam.{moment}.{name}"]
                    for moment in ("step", "exp_avg", "exp_avg_sq")
                    if f"adam.{moment}.{name}" in state
                }
        for number, rule in enumerate(self.rules):
            rule.go_on_from(part_of(state, f"rule.{number}."))
