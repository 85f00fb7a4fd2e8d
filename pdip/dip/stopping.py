"""When a fit has seen enough: at the noise level, or where withheld rays begin to suffer."""

from typing import ClassVar

import torch
from torch import Tensor

from pdip.dip.start import DataTerm
from pdip.errors import InputError
from pdip.keeper import exact, part_of
from pdip.typing import Image, Sinogram

HELD_OUT_FRACTION = 0.1
PATIENCE_STEPS = 1000
STALL_AFTER = 1500
STALL_DECREASE = 0.2
LEVEL_STEPS = 500
LEAST_FALL = 0.8  # of the residual of the start, or nothing of the scan was fitted
CUT_SHARE = 1.05  # times the residual at which a fit is done: one that was cut is close to it
LEVEL_DECREASE = 0.05  # less than this in 500 steps, and the residual has levelled off


class _Stopping:
    """What both rules share: a history of (step, value), whether it still falls, the best fit."""

    numbers: ClassVar[tuple[str, ...]]
    history: dict[str, list]
    best_image: Image | None
    best_params: dict[str, Tensor]

    def begin(self, image: Image) -> None:
        """See the image of a network that was fitted to a warm start."""

    def state(self) -> dict[str, Tensor]:
        """All that the next update depends on, by name; nothing before the first one."""
        if self.best_image is None:
            return {}
        found = {name: getattr(self, name) for name in self.numbers}
        found |= {f"history.{name}": values for name, values in self.history.items()}
        found |= {f"best.{name}": value for name, value in self.best_params.items()}
        found["best_image"] = self.best_image
        return {name: exact(value) for name, value in found.items()}

    def go_on_from(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        if not state:
            return
        for name in self.numbers:
            setattr(self, name, state[name].tolist())
        self.history = {name: state[f"history.{name}"].tolist() for name in self.history}
        self.best_image = state["best_image"]
        self.best_params = part_of(state, "best.")

    @property
    def stalls(self) -> bool:
        """Whether the last 500 steps, after the first 1 500, gained less than a fifth."""
        steps, values = self.history.values()
        if not steps or steps[-1] < STALL_AFTER:
            return False
        before = self._values_500_steps_ago()
        return bool(before) and values[-1] > (1 - STALL_DECREASE) * before[-1]

    def _values_500_steps_ago(self) -> list[float]:
        """The values at all checks at least 500 steps before the last one."""
        steps, values = self.history.values()
        return [v for at, v in zip(steps, values, strict=True) if at <= steps[-1] - LEVEL_STEPS]


class Discrepancy(_Stopping):
    """Morozov's principle: stop at a noise-sized residual, or where it no longer falls.

    Where noise is strong a smooth start is at the noise level already; such a fit goes on until its
    residual has fallen by a fifth.

    Args:
        data: the data term of the fit.
        seed: unused; every rule is made alike.
        noise_share: the share of the noise variance that counts as the noise level.
    """

    numbers = ("finished", "levelled_off", "level", "noise_share")

    def __init__(self, data: DataTerm, seed: int, noise_share: float):
        self.data = data
        self.noise_share = noise_share
        self.finished = self.levelled_off = False
        self.level = float("inf")
        self.best_image: Image | None = None
        self.best_params: dict[str, Tensor] = {}
        self.history: dict[str, list] = {"step": [], "mean_squared_residual": []}

    @staticmethod
    def fitting_weights(data: DataTerm, seed: int) -> Sinogram:
        """The weights of the rays that the fit may see."""
        return data.weights

    def begin(self, image: Image) -> None:
        self.noise_share = min(self.noise_share, LEAST_FALL * self.data.level(image))

    def update(self, step: int, image: Image, params: dict[str, Tensor]) -> None:
        if self.finished:
            return
        level = self.data.level(image)
        self.history["step"].append(step)
        self.history["mean_squared_residual"].append(level * self.data.noise_std**2)
        if level < self.level or self.best_image is None:
            self.level = level
            self.best_image, self.best_params = image, {k: v.clone() for k, v in params.items()}
        earlier = self._values_500_steps_ago()
        self.levelled_off = bool(earlier) and self.level * self.data.noise_std**2 > (
            1 - LEVEL_DECREASE
        ) * min(earlier)
        self.finished = level <= self.noise_share or self.levelled_off

    def reason(self, max_steps: int) -> str:
        if self.levelled_off and self.level <= 1:
            return (
                f"levelled off at the noise level: mean squared residual {self.level:.2f} of the "
                f"noise variance after {self.history['step'][-1]} steps"
            )
        if self.levelled_off:
            return (
                f"levelled off: mean squared residual {self.level:.2f} times the noise variance "
                f"after {self.history['step'][-1]} steps; the rest is model error or noise that "
                "was underestimated"
            )
        if self.finished:
            return (
                f"reached the noise level: mean squared residual {self.level:.2f} of the noise "
                f"variance after {self.history['step'][-1]} steps"
            )
        ended = (
            f"stopped at max_steps={max_steps} with a mean squared residual {self.level:.2f} times"
        )
        if self.level <= 1:
            return f"{ended} the noise variance, that is at the noise level"
        if self.level <= CUT_SHARE * max(1.0, self.noise_share):
            return f"{ended} the noise variance, that is close to the noise level"
        return f"{ended} the noise variance: under-fitted, or the noise level is too low"


class HeldOutRays(_Stopping):
    """Stop 1000 steps after the error on a withheld tenth of the rays was smallest.

    Args:
        data: the data term of the fit.
        seed: chooses the withheld rays, the same for all restarts.
        noise_share: unused; every rule is made alike.

    Raises:
        InputError: so few rays that none is withheld.
    """

    numbers = ("finished", "level", "best_step")

    def __init__(self, data: DataTerm, seed: int, noise_share: float):
        self.data = data
        self.testing_weights = data.weights - self.fitting_weights(data, seed)
        self.num_rays = int((self.testing_weights > 0).sum())
        if not self.num_rays:
            raise InputError(
                f"expected rays enough to withhold a tenth, got {data.num_rays} of positive "
                "weight; use stop='discrepancy'"
            )
        self.finished = False
        self.level = float("inf")
        self.best_step = 0
        self.best_image: Image | None = None
        self.best_params: dict[str, Tensor] = {}
        self.history: dict[str, list] = {"step": [], "held_out_mean_squared_error": []}

    @staticmethod
    def fitting_weights(data: DataTerm, seed: int) -> Sinogram:
        """The weights of the rays that the fit may see, 0 where they are withheld."""
        generator = torch.Generator().manual_seed(seed)
        withheld = torch.rand(data.weights.shape, generator=generator) < HELD_OUT_FRACTION
        return torch.where(withheld.to(data.weights.device), 0, data.weights)

    def update(self, step: int, image: Image, params: dict[str, Tensor]) -> None:
        if self.finished:
            return
        error = float(self.data.squared_residual(image, self.testing_weights)) / self.num_rays
        self.history["step"].append(step)
        self.history["held_out_mean_squared_error"].append(error)
        level = error / self.data.noise_std**2
        if level < self.level or self.best_image is None:
            self.level, self.best_step = level, step
            self.best_image, self.best_params = image, {k: v.clone() for k, v in params.items()}
        self.finished = step - self.best_step >= PATIENCE_STEPS

    def reason(self, max_steps: int) -> str:
        at = f"held-out rays were best after {self.best_step} steps ({self.level:.2f} of the noise"
        if self.finished:
            return f"reached the minimum: {at} variance)"
        return (
            f"stopped at max_steps={max_steps} before the held-out error had passed its "
            f"minimum for good: {at} variance)"
        )


STOPPING_RULES = {"discrepancy": Discrepancy, "held_out": HeldOutRays}
