"""Adam without its class in torch, which loads torch's compiler: seconds of every run."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Adam (Kingma and Ba 2015) in torch's fused kernel, on the slopes in ``.grad`` of weights.

    Args:
        weights: by name; each step changes them.
        betas: decay of the two moments.

    Attributes:
        moments: number of steps and both moments of every weight, by name of the moment and of the
            weight: all that the next step depends on.
    """

    def __init__(self, weights: Mapping[str, Tensor], betas: tuple[float, float]):
        self.weights = dict(weights)
        self.betas = betas
        self.moments = {
            "step": {n: w.new_zeros((), dtype=torch.float32) for n, w in self.weights.items()},
            "exp_avg": {n: torch.zeros_like(w) for n, w in self.weights.items()},
            "exp_avg_sq": {n: torch.zeros_like(w) for n, w in self.weights.items()},
        }

    def forget_slopes(self) -> None:
        """Begin to add up slopes anew."""
        for weight in self.weights.values():
            weight.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step of that learning rate."""
        sloped = {name: w for name, w in self.weights.items() if w.grad is not None}
        steps, means, squares = ([one[n] for n in sloped] for one in self.moments.values())
        adam(
            list(sloped.values()),
            [weight.grad for weight in sloped.values()],
            means,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
