"""What the standard algorithm pays for one step of its search for hyperparameters.

It is a gradient search of 1 500 to 3 000 steps of Adam (Antorán et al. 2022), and every step forms
or solves with ``K = A J Σ Jᵀ Aᵀ + σ² I`` anew. Here a step is run twice with the Jacobian and the
projector of pdip itself, the second run timed, and multiplied by the number of steps. Left out, in
its favour: setting up, preconditioners, Adam itself.
"""

from dataclasses import dataclass
from math import prod

import torch

from benchmarks.passes import Meter
from pdip.evidence.data import Data
from pdip.evidence.marginal import MatrixFree
from pdip.linearised import LinearGaussianModel
from pdip.passes import Passes
from pdip.solvers import CG
from pdip.solvers.conjugate_gradients import conjugate_gradients
from pdip.stages import StageClock

STEPS = (1500, 3000)
ROWS = 1024  # rays of one measured step; more are multiplied up
PRODUCTS = 11  # with K, of one solve
PROBES = 10


@dataclass(frozen=True)
class StandardCost:
    """One step of the standard algorithm.

    Attributes:
        name: which of its forms.
        how: what was measured, and by what it was multiplied.
        step_seconds: wall-clock time of one step.
        step_cpu_seconds: its processor time, all threads.
        step_passes: network passes of one step.
        peak_memory_mb: of the process during what was measured.
    """

    name: str
    how: str
    step_seconds: float
    step_cpu_seconds: float
    step_passes: Passes
    peak_memory_mb: float

    def total_seconds(self, steps: int) -> float:
        return self.step_seconds * steps


def standard_costs(model: LinearGaussianModel, scan, meter: Meter) -> tuple[StandardCost, ...]:
    """Both forms of the standard algorithm on a model and all of its rays."""
    model, data = model.compressed(None), Data.of(scan, model.ray)
    used = min(data.num_rays, ROWS)
    scale = (data.num_rays / used) ** 2
    with torch.no_grad():
        rows = rows_of(model, used)
    how = "A J kept as a dense matrix, K formed and factorised"
    if scale > 1:
        how += f"; measured on {used} of {data.num_rays} rays, x {scale:.1f} as rays squared"
    clock = StageClock(meter)
    covariance_step(model, data, rows)
    with clock.stage("covariance"):
        covariance_step(model, data, rows)
    del rows
    generator = torch.Generator().manual_seed(0)
    hutchinson_step(model, data, generator)
    with clock.stage("hutchinson"):
        hutchinson_step(model, data, generator)
    return (
        _cost("covariance re-formed", how, "covariance", scale, clock, meter),
        _cost(
            "CG + Hutchinson",
            f"{PRODUCTS} products with K on {1 + PROBES} columns and one gradient",
            "hutchinson",
            1.0,
            clock,
            meter,
        ),
    )


def _cost(name, how, stage, scale, clock: StageClock, meter: Meter) -> StandardCost:
    return StandardCost(
        name=name,
        how=how,
        step_seconds=scale * clock.costs[stage].seconds,
        step_cpu_seconds=scale * meter.cpu_seconds[stage],
        step_passes=meter.passes[stage],
        peak_memory_mb=clock.costs[stage].peak_memory_mb,
    )


class SinglePrecision(MatrixFree):
    """K by passes in the precision of the model, as the standard algorithm makes them."""

    @property
    def _double(self):
        return self.model, self.data


def rows_of(model: LinearGaussianModel, count: int) -> torch.Tensor:
    """The first rows of ``A S J_h``, one VJP each: (count, params)."""
    ray, parts = model.ray, []
    for index in torch.arange(count).split(64):
        unit = torch.nn.functional.one_hot(index, prod(ray.range_shape)).to(model.image)
        images = ray.adjoint(unit.reshape(-1, *ray.range_shape))
        parts.append(model.jacobian.adjoint(model.slope * images))
    return torch.cat(parts)


def covariance_step(model: LinearGaussianModel, data: Data, rows: torch.Tensor) -> torch.Tensor:
    """Gradient of ``log|K| + rᵀ K⁻¹ r``, K formed from the rows of ``A J``: (hyperparameters,)."""
    residual = data.residual_of_zero_weights(model)[: len(rows), None]
    with torch.enable_grad():
        point = model.log_hyperparameters.detach().requires_grad_()
        here = model.at(point)
        signal = (rows @ here.prior.covariance_apply(rows).mT).double()
        noise = here.noise_variance * torch.eye(len(rows), dtype=torch.float64)
        factor = torch.linalg.cholesky(signal + noise)
        white = torch.linalg.solve_triangular(factor, residual, upper=False)
        value = 2 * factor.diagonal().log().sum() + white.square().sum()
        return torch.autograd.grad(value, point)[0]


def hutchinson_step(
    model: LinearGaussianModel, data: Data, generator: torch.Generator
) -> torch.Tensor:
    """The same gradient from conjugate gradients on r and on random signs: (hyperparameters,).

    ``tr(K⁻¹ ∂K)`` is the mean of ``uᵀ ∂K v`` with ``u = K⁻¹ v`` over probes v (Hutchinson).
    """
    probes = torch.randn(data.num_rays, PROBES, generator=generator, dtype=torch.float64).sign()
    columns = torch.cat([data.residual_of_zero_weights(model)[:, None], probes], dim=1)
    with torch.no_grad():
        solved = conjugate_gradients(
            SinglePrecision(model, data, CG()).apply,
            columns,
            lambda residuals: residuals,
            tolerance=1e-15,
            max_iterations=PRODUCTS - 1,  # the last product is that of the true residual
        ).value
    with torch.enable_grad():
        point = model.log_hyperparameters.detach().requires_grad_()
        partner = torch.cat([solved[:, :1], probes], dim=1)
        forms = SinglePrecision(model.at(point), data, CG()).form(solved, partner)
        return torch.autograd.grad(forms[1:].mean() - forms[0], point)[0]
