"""The one autograd rule of every engine: a linear map differentiates to itself and its adjoint.

For ``y = A x`` the Jacobian-vector product is ``A dx`` and the vector-Jacobian product ``Aᵀ dy``,
so an engine supplies the two raw maps and nothing else. Where an engine's adjoint is only an
approximation, such as ASTRA's CUDA backprojection B of its projection A, the pair is (A, B): the
gradient of ``A x`` is B, the gradient of ``B y`` is A, and tangents go through the map itself.
Source: PyTorch notes, "Extending torch.func with autograd.Function".
"""

from collections.abc import Callable

import torch
from torch import Tensor

RawMap = Callable[[Tensor], Tensor]


class LinearMap(torch.autograd.Function):
    """``LinearMap.apply(x, linear, adjoint)`` returns ``linear(x)`` with every derivative defined.

    ``linear`` and ``adjoint`` act on the trailing axes and accept any leading batch axes; that is
    what makes the vmap rule a move of one axis. Works under autograd to any order, ``torch.func``
    jvp, vjp and vmap, and their nestings.
    """

    @staticmethod
    def forward(values: Tensor, linear: RawMap, adjoint: RawMap) -> Tensor:
        return linear(values)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, ctx.linear, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx, cotangent: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        return LinearMap.apply(cotangent, ctx.adjoint, ctx.linear), None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        return LinearMap.apply(tangent, ctx.linear, ctx.adjoint)

    @staticmethod
    def vmap(info, in_dims, values: Tensor, linear: RawMap, adjoint: RawMap):  # pyright: ignore[reportIncompatibleMethodOverride]
        return LinearMap.apply(values.movedim(in_dims[0], 0), linear, adjoint), 0
