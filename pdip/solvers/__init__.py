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
    "log_quadrature",
]

SOLVERS = {"cholesky": Cholesky, "projected": Projected, "cg": CG}
