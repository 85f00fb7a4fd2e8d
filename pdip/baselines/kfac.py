"""Laplace with Kronecker-factored curvature: one product of two small matrices a convolution."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import unfold

from pdip.baselines.laplace import Curvature, Laplace
from pdip.baselines.linearised import ray_rows
from pdip.linearised import Jacobian, LinearGaussianModel
from pdip.typing import Params


@dataclass(frozen=True)
class KFAC(Laplace):
    """Posterior precision ``Γ_l ⊗ Ω_l / σ² + I / s_b²`` over the weights of convolution l.

    Ω is the mean over positions of the products of input patches, Γ the sum over rays and
    positions of those of the gradients of the outputs (Martens and Grosse 2015; Grosse and
    Martens 2016). The prior's precision is added in the eigenbasis of both (Immer et al.
    2021b); weights iid in each U-Net block, variances by the Laplace evidence with
    that determinant.

    Example:
        >>> KFAC()
        KFAC()
    """

    def curvature(self, model, data, rows):
        factors = kronecker_factors(model.jacobian, ray_rows(model, data))
        values, basis = {}, {}
        for name, pair in factors.items():
            inner, outer = (torch.linalg.eigh(factor) for factor in pair)
            values[name] = torch.outer(outer[0].clamp(min=0), inner[0].clamp(min=0))
            basis[name] = (inner[1], outer[1])
        return KroneckerCurvature(values, basis, rows)


@dataclass(frozen=True)
class KroneckerCurvature(Curvature):
    """``G_l = (U_Γ ⊗ U_Ω) Λ (U_Γ ⊗ U_Ω)ᵀ`` for each convolution.

    Attributes:
        values: Λ by parameter name, (outputs, inputs) float64.
        basis: U_Ω and U_Γ by parameter name.
        rows: J_h, (pixels, params).
    """

    values: Mapping[str, Tensor]
    basis: Mapping[str, tuple[Tensor, Tensor]]
    rows: Params

    def log_determinant(self, model):
        variance, noise = layer_variances(model), model.noise_variance
        return sum(torch.log1p(variance[n] * v / noise).sum() for n, v in self.values.items())

    def latent_covariance(self, model):
        variance, noise = layer_variances(model), model.noise_variance
        shapes = model.jacobian.shapes
        blocks = self.rows.split([prod(shape) for shape in shapes], dim=1)
        total = self.rows.new_zeros(len(self.rows), len(self.rows), dtype=torch.float64)
        for name, block, shape in zip(model.jacobian.names, blocks, shapes, strict=True):
            inner, outer = (vectors.to(block) for vectors in self.basis[name])
            std = (self.values[name] / noise + 1 / variance[name]).rsqrt().to(block)
            root = std * (outer.mT @ block.reshape(len(block), shape[0], -1) @ inner)
            total += (root.flatten(1) @ root.flatten(1).mT).double()
        return total


def layer_variances(model: LinearGaussianModel) -> dict[str, Tensor]:
    """``s_b²`` of the block of each convolution, by parameter name."""
    pairs = zip(model.prior.groups, model.prior.coefficients(), strict=True)
    return {name: variance for group, variance in pairs for name in group.parameters}


def kronecker_factors(jacobian: Jacobian, rows: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Ω and Γ of every convolution whose weights are differentiated.

    ``Ω = (1/T) Σ_t a_t a_tᵀ`` over the T positions of the output, a_t the patch of the input that
    it sees; ``Γ = Σ_i Σ_t δ_it δ_itᵀ`` with δ_it the gradient of row i of ``rows @ h`` by the
    output at t.

    Args:
        jacobian: of the network, in the weights of convolutions alone.
        rows: (rays, pixels).

    Returns:
        (inputs, inputs) and (outputs, outputs) float64, by parameter name.
    """
    body = deepcopy(jacobian.network.body)
    inputs, outputs = {}, {}

    def remember(name: str):
        def hook(module, arguments, output):
            inputs[name], outputs[name] = arguments[0].detach(), output

        return hook

    modules = {
        name: body.get_submodule(name.removeprefix("body.").removesuffix(".weight"))
        for name in jacobian.names
    }
    for name, module in modules.items():
        module.register_forward_hook(remember(name))
    point = {
        name.removeprefix("body."): value.clone().requires_grad_()
        for name, value in jacobian.params.items()
    }
    with torch.enable_grad():
        h = functional_call(body, point, (jacobian.network_input,))
    factors = {}
    for name, module in modules.items():
        patches = unfold(
            inputs[name], module.kernel_size, module.dilation, module.padding, module.stride
        )[0].double()
        channels = outputs[name].shape[1]
        factors[name] = (
            patches @ patches.mT / patches.shape[1],
            patches.new_zeros(channels, channels),
        )
    for chunk in rows.to(h).split(jacobian.chunk_size):
        cotangents = chunk.reshape(-1, *h.shape)
        tensors = list(outputs.values())
        gradients = torch.autograd.grad(
            h, tensors, cotangents, is_grads_batched=True, retain_graph=True
        )
        for name, gradient in zip(outputs, gradients, strict=True):
            columns = gradient[:, 0].transpose(0, 1).flatten(1)
            factors[name][1].add_((columns @ columns.mT).double())
    return factors
