"""Use all data without assembling their covariance: conjugate gradients and Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.solvers.cholesky import Cholesky
from pdip.solvers.conjugate_gradients import CGSolution, Map, conjugate_gradients
from pdip.solvers.preconditioner import LowRankPlusNoise
from pdip.solvers.projected import Projected
from pdip.solvers.solution import Factor, Solver


@dataclass(frozen=True)
class CG(Solver):
    """Preconditioned conjugate gradients with K known by its action only.

    The preconditioner is the covariance of compressed data, ``P = Q C Qᵀ + σ² (I - Q Qᵀ)``. It
    follows every change of the hyperparameters without a network pass, and ``log|P|`` is exact;
    probes drawn from ``N(0, P)`` are left with what lies outside of Q, ``log|K| - log|P|``
    (stochastic Lanczos quadrature, Ubaru et al. 2017; preconditioned, Wenger et al. 2022b).

    Args:
        tolerance: largest true ``‖K x - b‖ / ‖b‖`` that counts as converged, below 1.
        max_iterations: products with K a column at the most.
        preconditioner: how Q is found.
        num_probes: random vectors of the log-determinant and its gradient.
        seed: of the probes; the same for every value of the hyperparameters.

    Raises:
        InputError: a number out of range.
    """

    tolerance: float = 1e-4
    max_iterations: int = 200
    preconditioner: Projected = Projected()
    num_probes: int = 8
    seed: int = 0

    compresses = True
    matrix_free = True

    def __post_init__(self):
        if not 0 < self.tolerance < 1 or self.max_iterations < 1 or self.num_probes < 2:
            raise InputError(
                "expected a tolerance between 0 and 1, at least one iteration and two probes, got "
                f"tolerance={self.tolerance}, max_iterations={self.max_iterations} and "
                f"num_probes={self.num_probes}"
            )

    @property
    def rounds(self) -> int:
        return self.preconditioner.rounds

    def compress(self, *arguments, **keywords) -> tuple[Tensor, float]:
        return self.preconditioner.compress(*arguments, **keywords)

    def limit(self, num_rays: int) -> int:
        return self.preconditioner.limit(num_rays)

    def coarse(self) -> CG:
        return replace(self, preconditioner=self.preconditioner.coarse())

    def factorise(self, covariance: Tensor) -> Factor:
        """Of the covariance of combinations of the data, which is small."""
        return Cholesky().factorise(covariance)

    def solve(
        self, apply: Map, columns: Tensor, preconditioner: LowRankPlusNoise, start=None
    ) -> CGSolution:
        """``K X = B`` for ``V -> K V`` on columns."""
        return conjugate_gradients(
            apply,
            columns,
            preconditioner.solve,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            start=start,
        )

    def solve_near(
        self, apply: Map, columns: Tensor, preconditioner: LowRankPlusNoise
    ) -> CGSolution:
        """As :meth:`solve`, from the last such solution where one is kept."""
        return self.solve(apply, columns, preconditioner)

    def warm(self) -> Solver:
        return WarmCG(**{f.name: getattr(self, f.name) for f in fields(self)})

    def probes(self, preconditioner: LowRankPlusNoise) -> Tensor:
        """Draws from ``N(0, P)``: (n, num_probes)."""
        generator = torch.Generator().manual_seed(self.seed)
        return preconditioner.sample(self.num_probes, generator)


@dataclass(frozen=True)
class WarmCG(CG):
    """CG for one search: each solve starts from that of the hyperparameters before."""

    last: dict[torch.Size, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def solve_near(self, apply, columns, preconditioner):
        start = self.last.get(columns.shape)
        solution = self.solve(apply, columns, preconditioner, start)
        self.last[columns.shape] = solution.value
        return solution


def log_quadrature(tridiagonal: Tensor) -> Tensor:
    """``e₁ᵀ log(T) e₁``: Gauss quadrature of the logarithm by a Lanczos matrix."""
    nodes, vectors = torch.linalg.eigh(tridiagonal)
    return (vectors[0].square() * nodes.clamp(min=torch.finfo(nodes.dtype).tiny).log()).sum()
