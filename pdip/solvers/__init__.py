"""Solvers as values: how covariances are solved and their determinants taken."""

from pdip.solvers.cholesky import Cholesky
from pdip.solvers.projected import Projected
from pdip.solvers.solution import Factor, Solution, Solver

__all__ = ["SOLVERS", "Cholesky", "Factor", "Projected", "Solution", "Solver", "choose_solver"]

SOLVERS = {"cholesky": Cholesky, "projected": Projected}
MAX_EXACT_RAYS = 1000


def choose_solver(num_rays: int) -> Solver:
    """Exact algebra up to 1 000 rays, on compressed data beyond."""
    return Cholesky() if num_rays <= MAX_EXACT_RAYS else Projected()
