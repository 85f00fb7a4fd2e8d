"""Independent Gaussian priors over groups of network weights, and the one for a U-Net."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from linear_operator.operators import LinearOperator
from torch import Tensor, nn

from pdip.errors import InputError
from pdip.linearised.covariance import ParameterCovariance
from pdip.linearised.prior_groups import IIDGroup, MaternFilterGroup, PriorGroup
from pdip.typing import Params


@dataclass(frozen=True)
class ParameterPrior:
    """``p(θ) = Π_b N(0, Σ_b(φ_b))`` with its current hyperparameters.

    Args:
        groups: the blocks, in the order of the parameter vector.
        sizes: number of weights of each block.
        log_hyperparameters: (h,) float64, the blocks' ``log_h`` one after another.
    """

    groups: tuple[PriorGroup, ...]
    sizes: tuple[int, ...]
    log_hyperparameters: Tensor

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the network parameters, in the order of the parameter vector."""
        return tuple(name for group in self.groups for name in group.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """``block.log_variance`` and so on, one for each entry of ``log_hyperparameters``."""
        return tuple(f"{g.name}.{h}" for g in self.groups for h in g.hyperparameters)

    def at(self, log_hyperparameters: Tensor) -> ParameterPrior:
        """The same prior with other hyperparameters."""
        return replace(self, log_hyperparameters=log_hyperparameters)

    def split(self, log_hyperparameters: Tensor) -> tuple[Tensor, ...]:
        """``log_h`` of each group."""
        return log_hyperparameters.split([len(g.hyperparameters) for g in self.groups])

    def coefficients(self) -> Tensor:
        """All groups' ``k_c``, concatenated: (sum of patterns,)."""
        parts = zip(self.groups, self.split(self.log_hyperparameters), strict=True)
        return torch.cat([group.coefficients(log_h) for group, log_h in parts])

    def covariance(self) -> LinearOperator:
        """Σ on flat parameters, (params, params) float64, matrix-free; no gradient in φ."""
        point = self.log_hyperparameters.detach()
        return ParameterCovariance(point, prior=self.at(point))

    def covariance_apply(self, vector: Params) -> Params:
        """``Σ v``, (*batch, params)."""
        return torch.cat([group.apply(h, v) for group, h, v in self._parts(vector)], dim=-1)

    def root_apply(self, vector: Params) -> Params:
        """``L v`` with ``L Lᵀ = Σ``: standard normal v becomes a draw from the prior."""
        return torch.cat([group.apply_root(h, v) for group, h, v in self._parts(vector)], dim=-1)

    def quadratic(self, vector: Params) -> Tensor:
        """``vᵀ Σ⁻¹ v``."""
        return sum(group.quadratic(h, v) for group, h, v in self._parts(vector))

    def blocks(self, vector: Params) -> tuple[Tensor, ...]:
        """A parameter vector cut into the groups' parts, (*batch, p_b) each."""
        return vector.split(list(self.sizes), dim=-1)

    def _parts(self, vector: Params) -> Iterator[tuple[PriorGroup, Tensor, Params]]:
        """Each group with its ``log_h`` and its part of the vector."""
        log_h = self.split(self.log_hyperparameters)
        return zip(self.groups, log_h, self.blocks(vector), strict=True)


def unet_prior(
    network: nn.Module,
    *,
    biases: bool = False,
    norms: bool = False,
    variance: float = 1e-2,
    lengthscale: float = 1.0,
) -> ParameterPrior:
    """One group for each U-Net block: Matérn-1/2 on 3x3 filters, iid on 1x1 convolutions.

    Args:
        network: a :class:`~pdip.dip.UNet` (or any module whose ``body`` has blocks of 3x3 and
            1x1 convolutions).
        biases: also one iid group of all biases of the convolutions.
        norms: also one iid group of all parameters of normalisation layers, of whatever kind.
        variance: starting variance of every group.
        lengthscale: starting lengthscale, in pixels of the 3x3 filters.

    Raises:
        InputError: weights of another layer or kernel size, which would count as certain, nothing
            to put a prior on, or a variance or lengthscale that is not positive.
    """
    check_prior(variance, lengthscale)
    groups: list[PriorGroup] = []
    modules = dict(network.named_modules())
    others = {
        f"{name}.{parameter}": module
        for name, module in modules.items()
        if not isinstance(module, nn.Conv2d)
        for parameter, _ in module.named_parameters(recurse=False)
    }
    for name, module in others.items():
        if network.get_parameter(name).ndim > 1:
            raise InputError(
                f"expected the weights of 3x3 or 1x1 convolutions, got {name} of a "
                f"{type(module).__name__}; write a PriorGroup for it"
            )
    for block, _ in network.body.named_children():
        prefix = f"body.{block}"
        convolutions = {
            name: module
            for name, module in modules.items()
            if isinstance(module, nn.Conv2d) and (name == prefix or name.startswith(prefix + "."))
        }
        for size, kind in (((3, 3), MaternFilterGroup), ((1, 1), IIDGroup)):
            weights = tuple(f"{n}.weight" for n, m in convolutions.items() if m.kernel_size == size)
            if weights:
                groups.append(kind(block, weights))
        odd = [n for n, m in convolutions.items() if m.kernel_size not in ((3, 3), (1, 1))]
        if odd:
            raise InputError(
                f"expected 3x3 or 1x1 convolutions, got {modules[odd[0]].kernel_size} in {odd[0]}; "
                "write a PriorGroup for it"
            )
    if biases:
        names = tuple(
            f"{n}.bias"
            for n, m in modules.items()
            if isinstance(m, nn.Conv2d) and m.bias is not None
        )
        if names:
            groups.append(IIDGroup("biases", names))
    if norms and others:
        groups.append(IIDGroup("norms", tuple(others)))
    if not groups:
        raise InputError("expected a network with convolutions in its body, got none")
    tensors = dict(network.named_parameters())
    sizes = tuple(sum(tensors[name].numel() for name in g.parameters) for g in groups)
    start = {"log_variance": variance, "log_lengthscale": lengthscale}
    values = [start[h] for g in groups for h in g.hyperparameters]
    return ParameterPrior(tuple(groups), sizes, torch.tensor(values, dtype=torch.float64).log())


def check_prior(variance, lengthscale) -> None:
    """Raise InputError where a starting value of :func:`unet_prior` is not positive."""
    for name, value in (("variance", variance), ("lengthscale", lengthscale)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"expected a positive prior {name}, got {value}")
