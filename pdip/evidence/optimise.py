"""Choose the hyperparameters: maximise the evidence, with a hyperprior, by L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from pdip.errors import ComputationError, InputError
from pdip.evidence.data import Data
from pdip.evidence.objectives import NetworkWeights, Objective
from pdip.evidence.tv_predcp import Hyperprior, TVPredCP
from pdip.keeper import Keeper, exact, record_of, tensors_of
from pdip.linearised.choice import choice_of, with_choice
from pdip.linearised.model import LinearGaussianModel
from pdip.solvers import Cholesky, Projected, Solver
from pdip.typing import Scalar

BOUNDS = {"log_variance": (-16.0, 6.0), "log_lengthscale": (-2.5, 4.0)}
DEFAULT_HYPERPRIOR = TVPredCP()
OTHER_BOUNDS = (-30.0, 15.0)
USUAL_EVALUATIONS = 40  # of a search
NUMBERS = (
    "log_evidence", "standard_error", "worst_residual", "converged", "gradient_norm",
    "num_evaluations",
)  # fmt: skip


@dataclass(frozen=True)
class EvidenceFit:
    """The model at its best hyperparameters, and how they were found.

    Attributes:
        model: the model there.
        log_evidence: the objective there, without the hyperprior, nats.
        standard_error: of that number over random probes; 0 where it is exact.
        worst_residual: largest true relative residual of the iterative solves behind it; 0 where
            matrices were factorised.
        converged: the projected gradient fell below the tolerance, or the objective no longer
            changed in double precision.
        gradient_norm: largest absolute component of the projected gradient, nats.
        num_evaluations: evaluations of value and gradient.
        history: ``objective`` (with the hyperprior) at every evaluation.
    """

    model: LinearGaussianModel
    log_evidence: float
    converged: bool
    gradient_norm: float
    num_evaluations: int
    history: dict[str, list]
    standard_error: float = 0.0
    worst_residual: float = 0.0

    def state(self) -> dict[str, Tensor]:
        """All of it but the fit that the model was linearised around, by name."""
        found = {name: getattr(self, name) for name in NUMBERS} | self.history
        return choice_of(self.model) | {name: exact(value) for name, value in found.items()}

    @classmethod
    def of(cls, model: LinearGaussianModel, state: dict[str, Tensor]) -> EvidenceFit:
        """What :meth:`state` was of, given a model around the same fit."""
        numbers = {name: state[name].tolist() for name in NUMBERS}
        history = {"objective": state["objective"].tolist()}
        return cls(model=with_choice(model, state), history=history, **numbers)


def log_evidence(
    model: LinearGaussianModel,
    scan,
    *,
    objective: Objective | None = None,
    solver: Solver | None = None,
) -> Scalar:
    """The log evidence of the model's hyperparameters, nats, differentiable in them.

    A model whose data are compressed stays so, unless ``solver`` uses all of them.
    """
    data = Data.of(scan, model.ray)
    objective = (objective or NetworkWeights()).prepare(model, data)
    if solver is not None and solver.compresses != (model.measurement.compression is not None):
        model = data.observed(model, solver, *objective.groups(data))
    return objective.estimate(model, data, solver or Cholesky()).value


def optimise_evidence(
    model: LinearGaussianModel,
    scan,
    *,
    objective: Objective | None = None,
    hyperprior: Hyperprior | None = DEFAULT_HYPERPRIOR,
    solver: Solver | None = None,
    learn_noise: bool = True,
    gradient_tolerance: float = 0.1,
    max_evaluations: int = 300,
    progress: Callable[[int, int, str], None] | None = None,
    keeper: Keeper | None = None,
) -> EvidenceFit:
    """Maximise ``log p(y | φ) + log p(φ)`` over the log hyperparameters by L-BFGS-B.

    Args:
        model: its hyperparameters are the starting point.
        scan: the scan.
        objective: which evidence (None: that of the network's weights).
        hyperprior: ``log p(φ)``; None for none.
        solver: how K is solved (None: exactly, or on newly compressed data if the model's are). One
            that compresses the data does so anew for each of its rounds, or once from what a
            model was compressed to; the model that is returned keeps the last choice.
        learn_noise: also choose σ², else it stays as it is.
        gradient_tolerance: of the largest projected gradient component, nats.
        max_evaluations: of value and gradient, in each round; a line search goes on to its end.
        progress: called as ``progress(evaluation, usual number, text)``.
        keeper: keeps every finished round, and what it holds is not computed again.

    Raises:
        InputError: a tolerance that is not positive, or no evaluations.
        ComputationError: no hyperparameters with a positive definite K were found.
    """
    check_search(gradient_tolerance, max_evaluations)
    data = Data.of(scan, model.ray)
    if solver is None:
        solver = Cholesky() if model.measurement.compression is None else Projected()
    objective = (objective or NetworkWeights()).prepare(model, data)
    compressed = model.measurement.compression is not None
    rounds = 1 if compressed else solver.rounds
    history: list[float] = []
    end = SearchEnd(False, math.inf, torch.ones(len(model.names), dtype=torch.float64))
    keeper = keeper or Keeper()
    for number in range(rounds):
        place = keeper.within(f"round {number}")
        kept = place.recall()
        if kept is not None:
            model, history = with_choice(model, kept), kept["history"].tolist()
            end = record_of(SearchEnd, kept, torch.device("cpu"))
            continue
        told = partial(_told, progress, len(history), max_evaluations)
        used = solver if number == rounds - 1 else solver.coarse()
        model = data.observed(model, used, *objective.groups(data), tell=told)
        if solver.compresses:
            told("the first evaluation, with all that is computed once")
        search = _Search(data, objective, hyperprior, used.warm(), learn_noise, gradient_tolerance)
        model, end = search.run(model, history, end.scale, max_evaluations, progress)
        place.keep(choice_of(model) | tensors_of(end) | {"history": exact(history)})
    with torch.no_grad():
        found = objective.estimate(model, data, solver)
    return EvidenceFit(
        model=model,
        log_evidence=float(found.value),
        standard_error=found.standard_error,
        worst_residual=found.worst_residual,
        converged=end.converged,
        gradient_norm=end.gradient_norm,
        num_evaluations=len(history),
        history={"objective": history},
    )


def check_search(gradient_tolerance, max_evaluations) -> None:
    """Raise InputError where a number of :func:`optimise_evidence` is out of range."""
    if not gradient_tolerance > 0:
        raise InputError(f"expected a positive gradient_tolerance, got {gradient_tolerance}")
    if max_evaluations < 1:
        raise InputError(f"expected max_evaluations of at least 1, got {max_evaluations}")


def _told(progress, evaluations: int, more: int, text: str) -> None:
    """Progress between two evaluations."""
    if progress:
        progress(evaluations, evaluations + more, text)


@dataclass(frozen=True)
class SearchEnd:
    """How a search ended.

    Attributes:
        converged, gradient_norm: as of :class:`EvidenceFit`.
        scale: how far each hyperparameter reaches, as far as the search has learned: the square
            root of the diagonal of the inverse Hessian.
    """

    converged: bool
    gradient_norm: float
    scale: Tensor


@dataclass(frozen=True)
class _Search:
    """What is maximised, the same for every round."""

    data: Data
    objective: Objective
    hyperprior: Hyperprior | None
    solver: Solver
    learn_noise: bool
    gradient_tolerance: float

    def value(self, model: LinearGaussianModel) -> Scalar:
        value = self.objective.estimate(model, self.data, self.solver).value
        if self.hyperprior is None:
            return value
        return value + self.hyperprior.log_prob(model, self.data.num_rays)

    def run(
        self,
        model: LinearGaussianModel,
        history: list[float],
        scale: Tensor,
        max_evaluations: int,
        progress,
    ) -> tuple[LinearGaussianModel, SearchEnd]:
        """The model at the best hyperparameters; they are searched in units of ``scale``."""
        start, before = model.log_hyperparameters.detach(), len(history)
        free = torch.tensor([self.learn_noise or n != "log_noise_variance" for n in model.names])

        def at(values: np.ndarray) -> Tensor:
            point = start.clone()
            point[free] = torch.as_tensor(values).to(point)
            return point

        def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
            point = at(values).requires_grad_()
            try:
                with torch.enable_grad():
                    value = self.value(model.at(point))
                    (gradient,) = torch.autograd.grad(value, point)
            except ComputationError:
                if len(history) == before:
                    raise
                return 1e12, np.zeros_like(values)
            history.append(float(value.detach()))
            if progress:
                total = before + _usual_evaluations(len(history) - before, max_evaluations)
                progress(len(history), total, f"objective {history[-1]:.1f}")
            return -history[-1], -gradient[free].cpu().numpy()

        bounds = [
            BOUNDS.get(name.rsplit(".")[-1], OTHER_BOUNDS)
            for name, is_free in zip(model.names, free, strict=True)
            if is_free
        ]
        point, end = minimise(
            evaluate, start[free].cpu().numpy(), bounds, scale[free].numpy(),
            self.gradient_tolerance, max_evaluations,
        )  # fmt: skip
        return model.at(at(point)), replace(end, scale=scale.masked_scatter(free, end.scale))


def _usual_evaluations(count: int, most: int) -> int:
    """How many evaluations a search usually takes that has made so many; ``most`` is rare."""
    usual = USUAL_EVALUATIONS
    while usual < count:
        usual *= 2
    return min(usual, most)


def minimise(
    evaluate, start: np.ndarray, bounds, scale: np.ndarray, tolerance: float, max_evaluations: int
) -> tuple[np.ndarray, SearchEnd]:
    """Where a function is smallest, by L-BFGS-B on the variables in units of ``scale``.

    It is started afresh where it stops above the tolerance: the curvature it remembers from far
    away can make its steps so long that the objective seems not to change.
    """
    lower, upper = np.array(bounds).T
    left, previous, gradient = max_evaluations, np.inf, None

    def evaluate_scaled(values: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal gradient
        value, gradient = evaluate(scale * values)
        return value, scale * gradient

    def norm(point: np.ndarray, gradient: np.ndarray) -> float:
        return float(np.abs(np.clip(point - gradient, lower, upper) - point).max())

    def stop_where_converged(intermediate_result) -> None:  # the point evaluated last
        if norm(scale * intermediate_result.x, gradient) <= tolerance:
            raise StopIteration

    while True:
        result = minimize(
            evaluate_scaled,
            start / scale,
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([lower / scale, upper / scale], axis=1),
            callback=stop_where_converged,
            options={
                "maxfun": left,
                "maxiter": left,
                "maxcor": 30,
                "ftol": 1e-12,
                "gtol": tolerance * scale.min(),
            },
        )
        start = scale * result.x
        gradient_norm = norm(start, result.jac / scale)
        left -= result.nfev
        stuck = previous - result.fun <= 1e-10 * abs(result.fun)
        if gradient_norm <= tolerance or stuck or left <= 0:
            converged = bool(result.success) or gradient_norm <= tolerance
            reach = np.sqrt(np.diag(result.hess_inv.todense()))
            return start, SearchEnd(converged, gradient_norm, torch.from_numpy(scale * reach))
        previous = result.fun
