"""Preconditioned conjugate gradients for many right-hand sides, and what Lanczos learns of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
STAGNATION = 0.5  # a restart that leaves more than this share of the residual is the last


@dataclass(frozen=True)
class CGSolution:
    """Result of ``K X = B`` by conjugate gradients.

    Attributes:
        value: X, (n, k).
        residuals: the true ``‖K x - b‖ / ‖b‖`` of every column, (k,).
        converged: whether all of them are within the tolerance.
        iterations: products with K of the column that took most.
        directions: search directions of the first column, (n, its iterations).
        tridiagonals: for each column the Lanczos matrix of ``P^{-1/2} K P^{-1/2}`` that starts
            from ``P^{-1/2} (b - K x₀)`` (Golub & Meurant 2010, sec. 4.1).
    """

    value: Tensor
    residuals: Tensor
    converged: bool
    iterations: int
    directions: Tensor
    tridiagonals: list[Tensor]


def conjugate_gradients(
    apply: Map,
    columns: Tensor,
    precondition: Map,
    *,
    tolerance: float,
    max_iterations: int,
    start: Tensor | None = None,
) -> CGSolution:
    """Solve ``K X = B``, all columns at once; one that has converged takes no more products.

    The residual that the recurrence carries along drifts away from the true one. The true one
    decides: a column above the tolerance starts again from where it is, until that no longer
    helps.

    Args:
        apply: ``V -> K V`` on columns (n, j), symmetric positive definite.
        columns: B, (n, k).
        precondition: ``V -> P⁻¹ V`` on columns, symmetric positive definite, near ``K⁻¹``.
        tolerance: of ``‖K x - b‖ / ‖b‖``.
        max_iterations: products with K a column at the most.
        start: X₀, (n, k); None for zero.
    """
    size = columns.norm(dim=0)
    size = torch.where(size > 0, size, 1.0)
    value = torch.zeros_like(columns) if start is None else start.clone()
    residual = columns.clone() if start is None else columns - apply(value)
    error, used, first = residual.norm(dim=0) / size, 0, None
    while used < max_iterations and bool((error > tolerance).any()):
        active = (error > tolerance).nonzero()[:, 0]
        run = _Run(apply, precondition, value, residual, active)
        while len(run.columns) and used < max_iterations:
            run.step(tolerance * size)
            used += 1
        first = first or run
        residual[:, active] = columns[:, active] - apply(value[:, active])
        before, error = error, residual.norm(dim=0) / size
        if bool((error[active] > STAGNATION * before[active]).all()):
            break
    return CGSolution(
        value=value,
        residuals=error,
        converged=bool((error <= tolerance).all()),
        iterations=used,
        directions=columns[:, :0] if first is None else first.directions(),
        tridiagonals=[] if first is None else [first.tridiagonal(j) for j in range(len(size))],
    )


class _Run:
    """One recurrence from given residuals; ``value`` is updated in place."""

    def __init__(self, apply: Map, precondition: Map, value, residual, columns: Tensor) -> None:
        self.apply, self.precondition = apply, precondition
        self.value, self.columns = value, columns
        self.residual = residual[:, columns]
        self.direction = precondition(self.residual)
        self.product = (self.residual * self.direction).sum(0)
        count = value.shape[1]
        self.steps: list[list[float]] = [[] for _ in range(count)]
        self.turns: list[list[float]] = [[] for _ in range(count)]
        self.of_first: list[Tensor] = []

    def step(self, enough: Tensor) -> None:
        """One product with K for every column that is not done."""
        if int(self.columns[0]) == 0:
            self.of_first.append(self.direction[:, 0])
        image = self.apply(self.direction)
        step = self.product / (self.direction * image).sum(0)
        self.value[:, self.columns] += step * self.direction
        self.residual = self.residual - step * image
        preconditioned = self.precondition(self.residual)
        product = (self.residual * preconditioned).sum(0)
        turn = product / self.product
        for column, s, t in zip(*(x.tolist() for x in (self.columns, step, turn)), strict=True):
            self.steps[column].append(s)
            self.turns[column].append(t)
        going = self.residual.norm(dim=0) > enough[self.columns]
        self.columns, self.product = self.columns[going], product[going]
        self.residual = self.residual[:, going]
        self.direction = (preconditioned + turn * self.direction)[:, going]

    def directions(self) -> Tensor:
        return torch.stack(self.of_first, 1) if self.of_first else self.value[:, :0]

    def tridiagonal(self, column: int) -> Tensor:
        steps = torch.tensor(self.steps[column], dtype=torch.float64)
        turns = torch.tensor(self.turns[column], dtype=torch.float64)[:-1]
        diagonal = 1 / steps
        diagonal[1:] += turns / steps[:-1]
        beside = turns.sqrt() / steps[:-1]
        return torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)
