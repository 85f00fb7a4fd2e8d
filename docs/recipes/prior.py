"""A weight prior: filters whose sum has a variance of its own.

``Σ = v (I - P) + u P`` for every 3x3 filter, with ``P = 11ᵀ/9`` the average over the stencil.
"""

from dataclasses import dataclass

import torch

from pdip.linearised import IIDGroup, ParameterPrior, PriorGroup


@dataclass(frozen=True)
class FilterSumGroup(PriorGroup):
    """Two fixed patterns, ``I - P`` and ``P``, weighted by ``v`` and ``u``."""

    name: str
    parameters: tuple[str, ...]
    hyperparameters = ("log_variance", "sum.log_variance")
    num_patterns = 2

    def coefficients(self, log_h):
        return log_h.exp()

    def apply_pattern(self, pattern, vector):
        filters = vector.unflatten(-1, (-1, 9))
        average = filters.mean(-1, keepdim=True).expand_as(filters)
        return (average if pattern else filters - average).flatten(-2)

    def apply_root(self, log_h, vector):
        v, u = (log_h / 2).exp().to(vector)
        return v * self.apply_pattern(0, vector) + u * self.apply_pattern(1, vector)

    def quadratic(self, log_h, vector):
        vector = vector.to(log_h)
        parts = [vector @ self.apply_pattern(pattern, vector) for pattern in range(2)]
        return torch.stack(parts) @ torch.exp(-log_h)


def filter_sum_prior(network, variance: float = 1e-2) -> ParameterPrior:
    """One group for each convolution of the network; called in place of ``unet_prior``."""
    groups, sizes = [], []
    for name, tensor in network.named_parameters():
        if name.endswith("weight"):
            kind = FilterSumGroup if tensor.shape[2:] == (3, 3) else IIDGroup
            groups.append(kind(name.removeprefix("body.").removesuffix(".weight"), (name,)))
            sizes.append(tensor.numel())
    count = sum(len(group.hyperparameters) for group in groups)
    start = torch.full((count,), variance, dtype=torch.float64).log()
    return ParameterPrior(tuple(groups), tuple(sizes), start)
