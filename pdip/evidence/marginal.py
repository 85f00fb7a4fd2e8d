"""The density of the data under a model: its quadratic form and its volume, with their doubts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pdip.errors import ComputationError
from pdip.evidence.data import Data
from pdip.linearised.gram import pair_bases
from pdip.linearised.model import LinearGaussianModel
from pdip.solvers import CG, Factor, LowRankPlusNoise, Solver, log_quadrature
from pdip.solvers.conjugate_gradients import CGSolution
from pdip.typing import Scalar


@dataclass(frozen=True)
class Estimate:
    """A number and how well it is known.

    Attributes:
        value: differentiable in the hyperparameters.
        variance: of the value over the draw of random probes; 0 where there are none. Of a sum
            the largest it can be, as its parts may share their probes.
        worst_residual: the largest true relative residual of the solves behind it; 0 where
            matrices were factorised.
    """

    value: Scalar
    variance: float = 0.0
    worst_residual: float = 0.0

    def __add__(self, other: Estimate | Tensor) -> Estimate:
        if not isinstance(other, Estimate):
            return Estimate(self.value + other, self.variance, self.worst_residual)
        return Estimate(
            self.value + other.value,
            (self.standard_error + other.standard_error) ** 2,
            max(self.worst_residual, other.worst_residual),
        )

    def __mul__(self, factor: float) -> Estimate:
        return Estimate(factor * self.value, factor**2 * self.variance, self.worst_residual)

    def __sub__(self, other: Estimate) -> Estimate:
        return self + other * -1.0

    @property
    def standard_error(self) -> float:
        return math.sqrt(self.variance)


class Marginal(ABC):
    """``N(0, K)`` of the rays of positive weight, ``K = A (S J Σ Jᵀ S + τ² I) Aᵀ + σ² W⁻¹``."""

    @abstractmethod
    def misfit(self, residual: Tensor) -> Estimate:
        """``rᵀ K⁻¹ r`` of a residual (m,)."""

    @abstractmethod
    def log_volume(self) -> Estimate:
        """``log |2π K|``."""


def marginal(model: LinearGaussianModel, data: Data, solver: Solver) -> Marginal:
    """The marginal as the solver reaches it."""
    return (MatrixFree if solver.matrix_free else Assembled)(model, data, solver)


@dataclass(frozen=True)
class Assembled(Marginal):
    """K of the rays, or of their combinations with noise alone outside, from Gram bases."""

    model: LinearGaussianModel
    data: Data
    solver: Solver

    @cached_property
    def factor(self) -> Factor:
        return self.solver.factorise(self.data.covariance(self.model))

    def misfit(self, residual):
        inside, outside = self.data.reduce(self.model, residual)
        inside = self.factor.whiten(inside[:, None]).square().sum()
        return Estimate(inside + outside / self.model.noise_variance)

    def log_volume(self):
        volume = self.data.num_rays * math.log(2 * math.pi) + self.factor.log_determinant()
        if self.model.measurement.compression is not None:
            outside = self.data.num_rays - len(self.data.rows(self.model))
            volume = volume + outside * self.model.log_noise_variance
            volume = volume - self.data.weights.log().sum()
        return Estimate(volume)


@dataclass(frozen=True)
class MatrixFree(Marginal):
    """K by its action on rays scaled to equal noise, ``W^{1/2} K W^{1/2}``.

    Its passes are made in double precision: in single, the rounding of its largest eigenvalues
    alone leaves a relative residual near 1e-3. Gradients come from quadratic forms ``vᵀ K(φ) w``
    at solutions that are held fixed; each costs one VJP for v and one for w.
    """

    model: LinearGaussianModel
    data: Data
    solver: CG

    @cached_property
    def preconditioner(self) -> LowRankPlusNoise:
        data, model = self.data, self.model
        return LowRankPlusNoise.of(data.basis(model), data.covariance(model), model.noise_variance)

    @cached_property
    def _double(self) -> tuple[LinearGaussianModel, Data]:
        model = self.model.double()
        return model, self.data.double(model.ray)

    def apply(self, columns: Tensor) -> Tensor:
        """``W^{1/2} K W^{1/2} V`` on columns (m, j); no gradient in φ."""
        model, data = self._double
        with torch.no_grad():
            signal = data.signal(model, columns)
            return signal + self.model.noise_variance * columns

    def form(self, left: Tensor, right: Tensor) -> Tensor:
        """``vᵀ W^{1/2} K W^{1/2} w`` for pairs of columns (m, j), differentiable in φ: (j,)."""
        model, data = self._double
        images = data.backproject(left), data.backproject(right)
        rows = (model.jacobian.adjoint(model.slope * image) for image in images)
        signal = model.prior.coefficients() @ pair_bases(*rows, model.prior)
        nugget = model.nugget_variance * (images[0] * images[1]).sum((-2, -1)).double()
        return signal + nugget + model.noise_variance * (left * right).sum(0)

    def solve(self, residual: Tensor) -> CGSolution:
        """``(W^{1/2} K W^{1/2})⁻¹ W^{1/2} r`` of a residual (m,), converged or not."""
        near = self.preconditioner
        with torch.no_grad():
            whitened = (self.data.weights.sqrt() * residual)[:, None]
            return self.solver.solve_near(self.apply, whitened, near)

    def misfit(self, residual):
        found = self.solve(residual)
        solved, whitened = self._checked(found), (self.data.weights.sqrt() * residual)[:, None]
        value = 2 * (whitened * solved).sum() - self.form(solved, solved).sum()
        return Estimate(value, worst_residual=float(found.residuals.max()))

    def log_volume(self):
        near = self.preconditioner
        with torch.no_grad():
            probes = self.solver.probes(near)
            left = near.solve(probes)
            found = self.solver.solve(self.apply, probes, near)
            logs = torch.stack([log_quadrature(t) for t in found.tridiagonals]).to(probes)
            logs = (probes * left).sum(0) * logs
        slope = (self.form(self._checked(found), left) - near.form(left, left)).mean()
        constant = self.data.num_rays * math.log(2 * math.pi) - self.data.weights.log().sum()
        value = constant + near.log_determinant() + logs.mean() + (slope - slope.detach())
        return Estimate(value, float(logs.var() / len(logs)), float(found.residuals.max()))

    @staticmethod
    def _checked(found: CGSolution) -> Tensor:
        if not found.converged:
            raise ComputationError(
                f"conjugate gradients ended after {found.iterations} products with a relative "
                f"residual of {float(found.residuals.max()):.1e}; raise its max_iterations "
                "(--solver '{name: cg, max_iterations: 1000}') or use --solver projected"
            )
        return found.value
