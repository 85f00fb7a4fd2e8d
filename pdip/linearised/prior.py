"""Independent Gaussian priors over groups of network weights.

Every group's covariance is a combination of fixed patterns, ``Σ_b = Σ_c k_c(φ_b) P_c``, so that
whatever is linear in it (``J Σ Jᵀ``, the Gram bases) can be computed once per pattern and
recombined for any hyperparameters φ. A new prior is one :class:`PriorGroup`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from linear_operator.operators import LinearOperator
from torch import Tensor, nn

from pdip.errors import InputError
from pdip.linearised.covariance import ParameterCovariance
from pdip.typing import Params


class PriorGroup(ABC):
    """A block of weights that share the hyperparameters of one covariance.

    Attributes:
        name: the block's name.
        parameters: names of the network parameters in the group.
        hyperparameters: names of the entries of ``log_h``, all on log scale.
    """

    name: str
    parameters: tuple[str, ...]
    hyperparameters: tuple[str, ...]

    @property
    @abstractmethod
    def num_patterns(self) -> int: ...

    @abstractmethod
    def coefficients(self, log_h: Tensor) -> Tensor:
        """``k_c(φ)``, (patterns,), differentiable in ``log_h`` (hyperparameters,)."""

    @abstractmethod
    def apply_pattern(self, pattern: int, vector: Params) -> Params:
        """``P_c v`` on vectors (*batch, p_b)."""

    @abstractmethod
    def apply_root(self, log_h: Tensor, vector: Params) -> Params:
        """``L v`` with ``L Lᵀ = Σ_b``."""

    @abstractmethod
    def quadratic(self, log_h: Tensor, vector: Params) -> Tensor:
        """``vᵀ Σ_b⁻¹ v`` of one vector (p_b,), differentiable in ``log_h``."""

    def gram_bases(self, rows: Params) -> Tensor:
        """``R P_c Rᵀ`` for rows (k, p_b): (patterns, k, k) float64."""
        patterns = range(self.num_patterns)
        bases = torch.stack([(self.apply_pattern(c, rows) @ rows.mT).double() for c in patterns])
        return (bases + bases.mT) / 2  # of float32 rows only equal to rounding, which solvers see

    def apply(self, log_h: Tensor, vector: Params) -> Params:
        """``Σ_b v``."""
        k = self.coefficients(log_h).to(vector)
        return sum(k[c] * self.apply_pattern(c, vector) for c in range(self.num_patterns))


@dataclass(frozen=True)
class IIDGroup(PriorGroup):
    """``N(0, s_b² I)``: 1x1 convolutions, biases, norm parameters."""

    name: str
    parameters: tuple[str, ...]
    hyperparameters = ("log_variance",)
    num_patterns = 1

    def coefficients(self, log_h):
        return log_h[:1].exp()

    def apply_pattern(self, pattern, vector):
        return vector

    def apply_root(self, log_h, vector):
        return (log_h[0] / 2).exp().to(vector) * vector

    def quadratic(self, log_h, vector):
        return vector.to(log_h).square().sum() * torch.exp(-log_h[0])


@dataclass(frozen=True)
class MaternFilterGroup(PriorGroup):
    """3x3 filters, independent of each other, each with a Matérn-1/2 covariance over its stencil.

    ``cov(w_i, w_j) = σ_b² exp(-d_ij / ℓ_b)`` with d the distance of two stencil positions in
    pixels (Antorán et al. 2022, eq. 10). Six distances occur, hence six 0/1 patterns.
    """

    name: str
    parameters: tuple[str, ...]
    hyperparameters = ("log_variance", "log_lengthscale")

    @cached_property
    def distances(self) -> Tensor:
        """(6,): 0, 1, √2, 2, √5, 2√2."""
        return _stencil_distances().unique()

    @property
    def num_patterns(self) -> int:
        return len(self.distances)

    def coefficients(self, log_h):
        return torch.exp(log_h[0] - self.distances.to(log_h) * torch.exp(-log_h[1]))

    def coefficient_slopes(self, log_h: Tensor) -> Tensor:
        """``∂k_c / ∂ log ℓ``: (6,)."""
        return self.coefficients(log_h) * self.distances.to(log_h) * torch.exp(-log_h[1])

    def apply_pattern(self, pattern, vector):
        taps = (_stencil_distances() == self.distances[pattern]).to(vector)
        return self._on_filters(taps, vector)

    def gram_bases(self, rows):
        """As the base class, with a quarter of its arithmetic.

        In the symmetry-adapted basis U of the square every pattern is block diagonal, ``P_c = U
        T_c Uᵀ``, so that only 14 products ``X_a X_bᵀ`` of the transformed rows are needed, where
        the six patterns taken one by one cost 54.
        """
        basis = _symmetry_basis()
        transformed = rows.reshape(len(rows), -1, 9) @ basis.to(rows)
        columns = transformed.permute(2, 0, 1).contiguous()
        patterns = torch.stack([(_stencil_distances() == d).double() for d in self.distances])
        blocks = basis.mT @ patterns @ basis
        bases = torch.zeros(len(patterns), len(rows), len(rows), dtype=torch.float64)
        bases = bases.to(rows.device)
        for a in range(9):
            for b in range(a, 9):
                coefficients = blocks[:, a, b]
                if bool((coefficients.abs() < 1e-12).all()):
                    continue
                product = (columns[a] @ columns[b].mT).double()
                product = product if a == b else product + product.mT
                for c, coefficient in enumerate(coefficients.tolist()):
                    if abs(coefficient) > 1e-12:
                        bases[c].add_(product, alpha=coefficient)
        return bases

    def apply(self, log_h, vector):
        return self._on_filters(self.filter_covariance(log_h).to(vector), vector)

    def apply_root(self, log_h, vector):
        root = torch.linalg.cholesky(self.filter_covariance(log_h))
        return self._on_filters(root.mT.to(vector), vector)

    def quadratic(self, log_h, vector):
        filters = vector.to(log_h).reshape(-1, 9)
        scatter = filters.mT @ filters
        return torch.linalg.solve(self.filter_covariance(log_h), scatter).trace()

    def filter_covariance(self, log_h: Tensor) -> Tensor:
        """(9, 9) covariance of one filter."""
        return torch.exp(log_h[0] - _stencil_distances().to(log_h) * torch.exp(-log_h[1]))

    @staticmethod
    def _on_filters(matrix: Tensor, vector: Params) -> Params:
        return (vector.reshape(*vector.shape[:-1], -1, 9) @ matrix).reshape(vector.shape)


def _stencil_distances() -> Tensor:
    """(9, 9) Euclidean distances between the positions of a 3x3 stencil."""
    grid = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0)).double()
    return (grid[:, None] - grid[None]).square().sum(-1).sqrt()


def _symmetry_basis() -> Tensor:
    """(9, 9) orthonormal basis of 3x3 stencils adapted to the symmetries of the square.

    Columns in order of the irreducible representations: three invariant stencils (centre, edges,
    corners), one alternating over the edges, one alternating over the corners, two that change
    sign left to right, two that change sign top to bottom.
    """
    edge, corner = 1 / 2, 1 / 2
    half = 1 / 2**0.5
    stencils = [
        [0, 0, 0, 0, 1, 0, 0, 0, 0],
        [0, edge, 0, edge, 0, edge, 0, edge, 0],
        [corner, 0, corner, 0, 0, 0, corner, 0, corner],
        [0, edge, 0, -edge, 0, -edge, 0, edge, 0],
        [corner, 0, -corner, 0, 0, 0, -corner, 0, corner],
        [0, 0, 0, -half, 0, half, 0, 0, 0],
        [-corner, 0, corner, 0, 0, 0, -corner, 0, corner],
        [0, -half, 0, 0, 0, 0, 0, half, 0],
        [-corner, 0, -corner, 0, 0, 0, corner, 0, corner],
    ]
    return torch.tensor(stencils, dtype=torch.float64).mT


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
        return self._blockwise("apply", vector)

    def root_apply(self, vector: Params) -> Params:
        """``L v`` with ``L Lᵀ = Σ``: standard normal v becomes a draw from the prior."""
        return self._blockwise("apply_root", vector)

    def quadratic(self, vector: Params) -> Tensor:
        """``vᵀ Σ⁻¹ v``."""
        parts = zip(
            self.groups,
            self.split(self.log_hyperparameters),
            vector.split(list(self.sizes)),
            strict=True,
        )
        return sum(group.quadratic(log_h, v) for group, log_h, v in parts)

    def blocks(self, vector: Params) -> tuple[Tensor, ...]:
        """A parameter vector cut into the groups' parts, (*batch, p_b) each."""
        return vector.split(list(self.sizes), dim=-1)

    def _blockwise(self, method: str, vector: Params) -> Params:
        log_h = self.split(self.log_hyperparameters)
        parts = zip(self.groups, log_h, self.blocks(vector), strict=True)
        return torch.cat([getattr(group, method)(h, v) for group, h, v in parts], dim=-1)


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
        norms: also one iid group of all parameters of normalisation layers.
        variance: starting variance of every group.
        lengthscale: starting lengthscale in stencil pixels.

    Raises:
        InputError: a convolution with another kernel size, or nothing to put a prior on.
    """
    groups: list[PriorGroup] = []
    modules = dict(network.named_modules())
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
        groups.append(IIDGroup("biases", _biases(modules, nn.Conv2d)))
    if norms:
        names = tuple(
            f"{n}.{p}"
            for n, m in modules.items()
            if isinstance(m, nn.GroupNorm)
            for p in ("weight", "bias")
        )
        if names:
            groups.append(IIDGroup("norms", names))
    if not groups:
        raise InputError("expected a network with convolutions in its body, got none")
    tensors = dict(network.named_parameters())
    sizes = tuple(sum(tensors[name].numel() for name in g.parameters) for g in groups)
    start = {"log_variance": variance, "log_lengthscale": lengthscale}
    values = [start[h] for g in groups for h in g.hyperparameters]
    return ParameterPrior(tuple(groups), sizes, torch.tensor(values, dtype=torch.float64).log())


def _biases(modules: dict[str, nn.Module], kind: type) -> tuple[str, ...]:
    return tuple(
        f"{n}.bias" for n, m in modules.items() if isinstance(m, kind) and m.bias is not None
    )
