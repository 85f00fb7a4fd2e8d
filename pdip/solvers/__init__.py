"""Solvers as values: how covariances are solved and their determinants taken."""

from pdip.solvers.cg import CG, log_quadrature
from pdip.solvers.cholesky import Cholesky
from pdip.solvers.preconditioner import LowRankPlusNoise
from pdip.solvers.projected import Projected
from pdip.solvers.solution import Factor, Solution, Solver

__all__ = [
    "CG",
    "SOLVERS",
    "Cholesky",
    "Factor",
    "LowRankPlusNoise",
    "Projected",
    "Solution",
    "Solver",
    "choose_solver",
    "log_quadrature",
]

SOLVERS = {"cholesky": Cholesky, "projected": Projected, "cg": CG}
MAX_EXACT_RAYS = 1000


def choose_solver(num_rays: int) -> Solver:
    """Exact algebra up to 1 000 rays, on compressed data beyond."""
    return Cholesky() if num_rays <= MAX_EXACT_RAYS else Projected()
