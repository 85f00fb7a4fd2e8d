"""Choose the hyperparameters: maximise the evidence, with a hyperprior, by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from pdip.errors import ComputationError
from pdip.evidence.data import Data
from pdip.evidence.objectives import NetworkWeights, Objective
from pdip.evidence.tv_predcp import TVPredCP
from pdip.linearised.model import LinearGaussianModel
from pdip.solvers import Cholesky, Solver
from pdip.typing import Scalar

BOUNDS = {"log_variance": (-16.0, 6.0), "log_lengthscale": (-2.5, 4.0)}
DEFAULT_HYPERPRIOR = TVPredCP()
OTHER_BOUNDS = (-30.0, 15.0)


@dataclass(frozen=True)
class EvidenceFit:
    """The model at its best hyperparameters, and how they were found.

    Attributes:
        model: the model there.
        log_evidence: the objective there, without the hyperprior, nats.
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


def log_evidence(
    model: LinearGaussianModel,
    scan,
    *,
    objective: Objective | None = None,
    solver: Solver | None = None,
) -> Scalar:
    """The log evidence of the model's hyperparameters, nats, differentiable in them."""
    data = Data.of(scan, model.ray)
    objective = (objective or NetworkWeights()).prepare(model, data)
    return objective.log_evidence(model, data, solver or Cholesky())


def optimise_evidence(
    model: LinearGaussianModel,
    scan,
    *,
    objective: Objective | None = None,
    hyperprior: TVPredCP | None = DEFAULT_HYPERPRIOR,
    solver: Solver | None = None,
    learn_noise: bool = True,
    gradient_tolerance: float = 0.1,
    max_evaluations: int = 300,
    progress: Callable[[int, int, str], None] | None = None,
) -> EvidenceFit:
    """Maximise ``log p(y | φ) + log p(φ)`` over the log hyperparameters by L-BFGS-B.

    Args:
        model: its hyperparameters are the starting point.
        scan: the scan.
        objective: which evidence (None: :class:`NetworkWeights`).
        hyperprior: ``log p(φ)``; None for none.
        solver: how K is solved (None: :class:`Cholesky`).
        learn_noise: also choose σ², else it stays as it is.
        gradient_tolerance: of the largest projected gradient component, nats.
        max_evaluations: of value and gradient.
        progress: called as ``progress(evaluation, max_evaluations, text)``.

    Raises:
        ComputationError: no hyperparameters with a positive definite K were found.
    """
    data, solver = Data.of(scan, model.ray), solver or Cholesky()
    objective = (objective or NetworkWeights()).prepare(model, data)
    start = model.log_hyperparameters
    free = torch.tensor([learn_noise or name != "log_noise_variance" for name in model.names])
    history: list[float] = []

    def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
        point = start.detach().clone()
        point[free] = torch.as_tensor(values).to(point)
        point.requires_grad_()
        try:
            with torch.enable_grad():
                candidate = model.at(point)
                value = objective.log_evidence(candidate, data, solver)
                if hyperprior is not None:
                    value = value + hyperprior.log_prob(candidate)
                (gradient,) = torch.autograd.grad(value, point)
        except ComputationError:
            if not history:
                raise
            return 1e12, np.zeros_like(values)
        history.append(float(value.detach()))
        if progress:
            progress(len(history), max_evaluations, f"log evidence {history[-1]:.1f}")
        return -history[-1], -gradient[free].cpu().numpy()

    bounds = [
        BOUNDS.get(name.rsplit(".")[-1], OTHER_BOUNDS)
        for name, is_free in zip(model.names, free, strict=True)
        if is_free
    ]
    result, gradient_norm = _minimise(
        evaluate, start[free].cpu().numpy(), bounds, gradient_tolerance, max_evaluations
    )
    best = start.detach().clone()
    best[free] = torch.as_tensor(result.x).to(best)
    fitted = model.at(best)
    with torch.no_grad():
        value = float(objective.log_evidence(fitted, data, solver))
    return EvidenceFit(
        model=fitted,
        log_evidence=value,
        converged=bool(result.success),
        gradient_norm=gradient_norm,
        num_evaluations=len(history),
        history={"objective": history},
    )


def _minimise(evaluate, start: np.ndarray, bounds, tolerance: float, max_evaluations: int):
    """scipy's result and the norm of its projected gradient.

    L-BFGS-B is started afresh where it stops above the tolerance: the curvature it remembers from
    far away can make its steps so long that the objective seems not to change.
    """
    lower, upper = np.array(bounds).T
    left, previous = max_evaluations, np.inf
    while True:
        result = minimize(
            evaluate,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={
                "maxfun": left,
                "maxiter": left,
                "maxcor": 30,
                "ftol": 1e-12,
                "gtol": tolerance,
            },
        )
        norm = float(np.abs(np.clip(result.x - result.jac, lower, upper) - result.x).max())
        left -= result.nfev
        stuck = previous - result.fun <= 1e-10 * abs(result.fun)
        if norm <= tolerance or stuck or left <= 0:
            return result, norm
        start, previous = result.x, result.fun
