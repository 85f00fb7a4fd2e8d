"""What every solver offers: values that factorise, factors that solve, records that confess."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """Result of ``K X = B`` with its certificate.

    Attributes:
        value: X, (n, k).
        worst_residual: the largest true ``‖K x - b‖ / ‖b‖`` over the columns.
        converged: whether that is within the solver's tolerance.
    """

    value: Tensor
    worst_residual: float
    converged: bool


class Factor(ABC):
    """A matrix made ready for solves."""

    @abstractmethod
    def solve(self, columns: Tensor) -> Solution:
        """``K⁻¹ B`` for columns (n, k)."""

    @abstractmethod
    def whiten(self, columns: Tensor) -> Tensor:
        """``R B`` with ``Rᵀ R = K⁻¹``, so that ``‖R b‖² = bᵀ K⁻¹ b``."""

    @abstractmethod
    def log_determinant(self) -> Tensor:
        """``log |K|``."""


class Solver(ABC):
    """A frozen value that says how covariances are solved.

    Attributes:
        compresses: whether only some combinations of the data are used, chosen by ``compress``.
        matrix_free: whether all data are used all the same, through the action of their
            covariance; the combinations then only precondition.
        rounds: searches for hyperparameters, each on newly chosen combinations.
    """

    compresses: ClassVar[bool] = False
    matrix_free: ClassVar[bool] = False
    rounds: int = 1

    def compress(
        self,
        signal: Callable[[Tensor], Tensor],
        size: int,
        noise_variance: float,
        guess: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> tuple[Tensor, float]:
        """Orthonormal combinations of whitened data (m, k), and the signal variance outside."""
        raise NotImplementedError(f"{type(self).__name__} uses all data")

    def limit(self, num_rays: int) -> int:
        """The most combinations of so many rays that are conditioned on."""
        return num_rays

    def coarse(self) -> Solver:
        """The same solver for every round before the last, with less effort where that pays."""
        return self

    def warm(self) -> Solver:
        """The same solver for one search, where it may remember its last solution."""
        return self

    @abstractmethod
    def factorise(self, covariance: Tensor) -> Factor:
        """Prepare a symmetric positive definite matrix (n, n).

        Raises:
            ComputationError: it is not positive definite.
        """
