"""Networks of one architecture trained side by side: their weights and what they put out."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from pdip.dip.unet import UNet
from pdip.typing import Image


def side_by_side(
    networks: Sequence[UNet], z: Image, memory_format: torch.memory_format
) -> OneNetwork | StackedNetworks:
    """Copies of networks of one architecture, in the precision and on the device of z."""
    copies = [deepcopy(network).to(z) for network in networks]
    if len(copies) > 1:
        return StackedNetworks(copies)
    return OneNetwork(copies[0].to(memory_format=memory_format))


@final
class OneNetwork:
    """One network, called as the module it is.

    Calling it otherwise costs a tenth of a step on a small image.
    """

    def __init__(self, network: UNet):
        self.network = network
        self.weights: list[Tensor] = list(self.network.parameters())

    def bodies(self, z: Image) -> Tensor:
        """``body(z)``, (1, height, width)."""
        return self.network.body(z)[None]

    def params(self, number: int) -> dict[str, Tensor]:
        """The weights of one network by name."""
        named = self.network.named_parameters()
        return {name: value.detach().contiguous() for name, value in named}


@final
class StackedNetworks:
    """Several networks in one batch with vmap."""

    def __init__(self, networks: Sequence[UNet]):
        self.network = networks[0]
        stacked, _ = stack_module_state(list(networks))
        self.names = list(stacked)
        self.weights: list[Tensor] = [v.detach().requires_grad_() for v in stacked.values()]

    def bodies(self, z: Image) -> Tensor:
        """``body(z)`` of each network, (networks, height, width)."""
        names = [name.removeprefix("body.") for name in self.names]
        values = dict(zip(names, self.weights, strict=True))
        return vmap(lambda one: functional_call(self.network.body, one, (z,)))(values)

    def params(self, number: int) -> dict[str, Tensor]:
        """The weights of one network by name."""
        pairs = zip(self.names, self.weights, strict=True)
        return {name: values[number].detach() for name, values in pairs}
