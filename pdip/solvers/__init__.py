"""Solvers as values: how covariances are solved and their determinants taken."""

from pdip.solvers.cholesky import Cholesky
from pdip.solvers.solution import Factor, Solution, Solver

__all__ = ["Cholesky", "Factor", "Solution", "Solver"]
