"""Networks of one architecture trained side by side: their weights and what they put out."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from pdip.dip.start import Start
from pdip.dip.unet import UNet
from pdip.typing import Image


def side_by_side(networks: Sequence[UNet], z: Image, start: Start) -> OneNetwork | StackedNetworks:
    """Copies of networks of one architecture, in the precision and on the device of z."""
    copies = [deepcopy(network).to(z) for network in networks]
    if len(copies) > 1:
        return StackedNetworks(copies)
    order = torch.channels_last if start.channels_last else torch.contiguous_format
    return OneNetwork(copies[0].to(memory_format=order))


@final
class OneNetwork:
    """One network, called as the module it is.

    Calling it otherwise costs a tenth of a step on a small image.
    """

    def __init__(self, network: UNet):
        self.network = network
        self.weights: dict[str, Tensor] = dict(self.network.named_parameters())

    def bodies(self, z: Image) -> Tensor:
        """``body(z)``, (1, height, width)."""
        return self.network.body(z)[None]

    def params(self, number: int) -> dict[str, Tensor]:
        """The weights of one network by name."""
        plain = {"memory_format": torch.contiguous_format}  # strides too, as a file gives them back
        return {name: value.detach().clone(**plain) for name, value in self.weights.items()}


@final
class StackedNetworks:
    """Several networks in one batch with vmap."""

    def __init__(self, networks: Sequence[UNet]):
        self.network = networks[0]
        stacked, _ = stack_module_state(list(networks))
        self.weights = {name: v.detach().requires_grad_() for name, v in stacked.items()}

    def bodies(self, z: Image) -> Tensor:
        """``body(z)`` of each network, (networks, height, width)."""
        values = {name.removeprefix("body."): v for name, v in self.weights.items()}

        def body(one: dict[str, Tensor]) -> Tensor:
            return functional_call(self.network.body, one, (z,))

        return vmap(body, randomness="different")(values)

    def params(self, number: int) -> dict[str, Tensor]:
        """The weights of one network by name."""
        return {name: values[number].detach() for name, values in self.weights.items()}
