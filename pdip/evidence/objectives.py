"""Log evidence of the hyperparameters: four answers to what the data say about them.

With ``K = A J Σ Jᵀ Aᵀ + σ² W⁻¹`` assembled from Gram bases, every value below costs one
factorisation and no network pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.dip.total_variation import total_variation
from pdip.errors import InputError
from pdip.evidence.data import Data
from pdip.evidence.marginal import Estimate, marginal
from pdip.linearised.model import LinearGaussianModel
from pdip.solvers import Solver


class Objective(ABC):
    """A function of the model's hyperparameters to maximise, in nats."""

    def prepare(self, model: LinearGaussianModel, data: Data) -> Objective:
        """What does not depend on the hyperparameters, computed once."""
        return self

    def groups(self, data: Data) -> tuple[Data, ...]:
        """Parts of the data that a compression must not mix."""
        return (data,)

    @abstractmethod
    def estimate(self, model: LinearGaussianModel, data: Data, solver: Solver) -> Estimate:
        """The log evidence at the model's hyperparameters, differentiable in them."""


@dataclass(frozen=True)
class Profile(Objective):
    """Evidence of the linear model itself: ``log N(r; 0, K)``.

    ``r = y - A (x* - J θ*)``, the linear model's residual at zero weights, so that its own
    optimum and not the network's weights are judged (Antorán et al. 2022b, recommendation 1).
    """

    def estimate(self, model, data, solver):
        return log_normal(data.residual_of_zero_weights(model), model, data, solver)


@dataclass(frozen=True)
class NetworkWeights(Objective):
    """Laplace evidence at the network's own weights θ*.

    ``-½ ‖W^{1/2}(y - A x*)‖²/σ² - ½ θ*ᵀ Σ⁻¹ θ* - ½ log|K| - (m/2) log 2π``
    (Antorán et al. 2022a, eq. 15): the Gaussian evidence with its quadratic form split at θ*.
    """

    def estimate(self, model, data, solver):
        return weights_evidence(
            data.residual(model.image), model.jacobian.vector, model, data, solver
        )


@dataclass(frozen=True)
class LinearisedWeights(Objective):
    """As :class:`NetworkWeights`, with θ moved towards the optimum of the linear TV objective.

    ``min_θ ½ ‖W^{1/2}(A (x* + J(θ - θ*)) - y)‖² + λ TV(x* + J(θ - θ*))``, by a fixed
    number of Adam steps from θ*; nothing checks that they reached the optimum.

    Args:
        tv_weight: λ.
        steps: Adam steps, one JVP and one VJP each.
        learning_rate: of Adam.

    Raises:
        InputError: a number out of range.
    """

    tv_weight: float = 0.0
    steps: int = 500
    learning_rate: float = 1e-4

    def __post_init__(self):
        if not (self.tv_weight >= 0 and self.steps >= 1 and self.learning_rate > 0):
            raise InputError(
                "expected a non-negative tv_weight, at least one of steps and a positive "
                f"learning_rate, got tv_weight={self.tv_weight}, steps={self.steps} and "
                f"learning_rate={self.learning_rate}"
            )

    def prepare(self, model, data):
        start = model.jacobian.vector
        offset = torch.zeros_like(start)
        optimiser = torch.optim.Adam([offset], lr=self.learning_rate)
        for _ in range(self.steps):
            image = model.image + model.slope * model.jacobian.forward(offset)
            with torch.enable_grad():
                image.requires_grad_()
                misfit = data.squared_residual(image) / 2
                loss = misfit + self.tv_weight * total_variation(image)
                (gradient,) = torch.autograd.grad(loss, image)
            offset.grad = model.jacobian.adjoint(model.slope * gradient)
            optimiser.step()
        image = model.image + model.slope * model.jacobian.forward(offset)
        return _AtWeights(start + offset, image)

    def estimate(self, model, data, solver):
        return self.prepare(model, data).estimate(model, data, solver)


@dataclass(frozen=True)
class _AtWeights(Objective):
    """The Laplace evidence at given weights and their image."""

    params: Tensor
    image: Tensor

    def estimate(self, model, data, solver):
        return weights_evidence(data.residual(self.image), self.params, model, data, solver)


@dataclass(frozen=True)
class Conditional(Objective):
    """Predictive density of withheld rays given the others, ``log p(y_h | y_f)``.

    The difference of two profile evidences. The network must have been fitted without the
    withheld rays, which then are an unbiased witness of the features J.

    Args:
        held_out: (views, detectors) bool, True for withheld rays.
    """

    held_out: Tensor

    def groups(self, data):
        fitted, withheld = data.without(self.held_out), data.without(~self.held_out)
        if not (fitted.num_rays and withheld.num_rays):
            raise InputError("expected some rays withheld and some not, got all or none")
        return fitted, withheld

    def estimate(self, model, data, solver):
        fitted, _ = self.groups(data)
        joint = log_normal(data.residual_of_zero_weights(model), model, data, solver)
        return joint - log_normal(fitted.residual_of_zero_weights(model), model, fitted, solver)


def log_normal(residual: Tensor, model, data: Data, solver: Solver) -> Estimate:
    """``log N(r; 0, K)`` over the rays of positive weight."""
    density = marginal(model, data, solver)
    return (density.misfit(residual) + density.log_volume()) * -0.5


def weights_evidence(residual: Tensor, params: Tensor, model, data: Data, solver) -> Estimate:
    """The Laplace evidence of :class:`NetworkWeights` at any weights."""
    if model.log_nugget_variance is not None:
        raise InputError(
            "the evidence at given weights says nothing of a nugget; use the profile or the "
            "conditional objective with it"
        )
    misfit = (residual.square() * data.weights).sum() / model.noise_variance
    complexity = model.prior.quadratic(params)
    return (marginal(model, data, solver).log_volume() + misfit + complexity) * -0.5


OBJECTIVES = {
    "network_weights": NetworkWeights,
    "linearised_weights": LinearisedWeights,
    "profile": Profile,
    "conditional": Conditional,
}
