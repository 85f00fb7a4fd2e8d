"""The Jacobian of the fitted network as a linear map from parameters to images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from pdip.errors import ComputationError, out_of_memory
from pdip.ranks import mapped
from pdip.typing import Image, Params

MEMORY_BUDGET_BYTES = {"cpu": 450_000_000, "cuda": 4_000_000_000}
"""Of one chunk. On a CPU larger tensors go back to the system after every layer."""
MOST_AT_ONCE = {"cpu": 16, "cuda": 256}  # more only fill the caches of a CPU, and keep ranks idle
ACTIVATIONS_PER_PIXEL_CHANNEL = 24  # what one vector keeps alive in a pass, measured on the U-Nets


class Jacobian:
    """``J_h = ∂h/∂θ`` at ``params`` of the network before its output activation, never stored.

    Multiplied by :attr:`slope`, the derivative of the activation, it is that of the image.

    ``forward`` is one Jacobian-vector product (JVP), ``adjoint`` one vector-Jacobian product
    (VJP); both take any leading batch axes and work in chunks that fit ``memory_budget_bytes``,
    of which every rank of a run with several processes computes a share (:mod:`pdip.ranks`).

    Args:
        network: a network with ``body(z)`` and ``image(h)``, ``f = image ∘ body``.
        network_input: z, (height, width).
        params: values of all parameters of the network by name.
        names: the parameters that are differentiated, in this order, flattened row-major.
        memory_budget_bytes: bound on the working memory of one chunk; None for 450 MB on a CPU and
            4 GB on a GPU.
    """

    def __init__(
        self,
        network: nn.Module,
        network_input: Image,
        params: Mapping[str, Tensor],
        names: tuple[str, ...],
        *,
        memory_budget_bytes: int | None = None,
    ):
        self.network = network
        self.network_input = network_input
        self.params = {name: value.detach() for name, value in params.items()}
        self.names = tuple(names)
        kind = network_input.device.type
        self.memory_budget_bytes = memory_budget_bytes or MEMORY_BUDGET_BYTES[kind]

    @property
    def shapes(self) -> list[torch.Size]:
        return [self.params[name].shape for name in self.names]

    @property
    def domain_shape(self) -> tuple[int]:
        return (sum(prod(shape) for shape in self.shapes),)

    @property
    def range_shape(self) -> torch.Size:
        return self.network_input.shape

    @cached_property
    def pre_activation(self) -> Image:
        """h* = body(z) at the fit, before the output activation."""
        return self._body(self.params)

    @cached_property
    def slope(self) -> Image:
        """``∂ image / ∂ h`` at the fit, elementwise."""
        h = self.pre_activation.detach().requires_grad_()
        with torch.enable_grad():
            total = self.network.image(h).sum()
        return torch.autograd.grad(total, h)[0]

    def forward(self, vector: Params) -> Image:
        """``J_h v``: (*batch, params) to (*batch, height, width).

        In the layers of differentiated parameters the others get zeros as tangents: torch takes a
        convolution whose bias has none through Python, a third of the time of a small pass.
        """
        layers = {name.rpartition(".")[0] for name in self.names}
        point = {n: v for n, v in self.params.items() if n.rpartition(".")[0] in layers}
        still = {name: torch.zeros_like(value) for name, value in point.items()}

        def push(v: Tensor) -> Tensor:
            return jvp(self._body, (point,), (still | self.unflatten(v),))[1]

        return self._in_chunks(push, vector, 1, self.range_shape)

    def adjoint(self, image: Image) -> Params:
        """``J_hᵀ u``: (*batch, height, width) to (*batch, params).

        By autograd itself: :func:`torch.func.vjp` loads torch's compiler, seconds of every run.
        """
        point = {name: self.params[name].detach().requires_grad_() for name in self.names}
        with torch.enable_grad():
            h = self._body(point)
        options = {"retain_graph": True, "materialize_grads": True}

        def pull(u: Tensor) -> Tensor:
            slopes = torch.autograd.grad(h, list(point.values()), u, **options)
            return torch.cat([slope.flatten() for slope in slopes])

        return self._in_chunks(pull, image, 2, self.domain_shape)

    def double(self) -> Jacobian:
        """The same in double precision."""
        return Jacobian(
            deepcopy(self.network).double(),
            self.network_input.double(),
            {name: value.double() for name, value in self.params.items()},
            self.names,
            memory_budget_bytes=self.memory_budget_bytes,
        )

    def flatten(self, tensors: Mapping[str, Tensor]) -> Params:
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def unflatten(self, vector: Params) -> dict[str, Tensor]:
        """One vector (params,) as named tensors."""
        parts = vector.split([prod(shape) for shape in self.shapes])
        return {n: v.view(s) for n, v, s in zip(self.names, parts, self.shapes, strict=True)}

    @property
    def vector(self) -> Params:
        """θ*, flattened like the domain."""
        return self.flatten(self.params)

    @property
    def chunk_size(self) -> int:
        """Vectors that go through the network at once within the memory budget."""
        channels = max((shape[0] for shape in self.shapes), default=1)
        activations = ACTIVATIONS_PER_PIXEL_CHANNEL * channels * self.network_input.numel()
        bytes_per_vector = (activations + 2 * self.domain_shape[0]) * self.vector.element_size()
        most = MOST_AT_ONCE[self.network_input.device.type]
        return max(1, min(most, self.memory_budget_bytes // bytes_per_vector))

    def _body(self, point: Mapping[str, Tensor]) -> Image:
        values = {name.removeprefix("body."): v for name, v in {**self.params, **point}.items()}
        return functional_call(self.network.body, values, (self.network_input,))

    def _in_chunks(self, function, batch: Tensor, core_axes: int, core_shape) -> Tensor:
        leading = batch.shape[: batch.ndim - core_axes]
        flat = batch.reshape(-1, *batch.shape[batch.ndim - core_axes :]).to(self.vector.dtype)
        if len(flat) == 0:
            return flat.new_zeros(*leading, *core_shape)
        with torch.no_grad():
            out = mapped(halving(vmap(function)), flat.split(self.chunk_size), core_shape)
        return out.reshape(*leading, *core_shape)


def halving(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function of a chunk; where memory runs out, that of its halves.

    Raises:
        ComputationError: there is no memory for a single vector.
    """

    def careful(chunk: Tensor) -> Tensor:
        try:
            return function(chunk)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        if len(chunk) == 1:
            raise ComputationError(
                "there is no memory for a pass of one vector through the network; use fewer "
                "channels, fewer pixels (--image-size) or another device"
            )
        if chunk.is_cuda:
            torch.cuda.empty_cache()
        return torch.cat([careful(half) for half in chunk.chunk(2)])

    return careful
