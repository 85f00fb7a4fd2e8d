"""The Laplace approximation with a curvature that is cheaper than the exact one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from pdip.baselines.baseline import gaussian
from pdip.baselines.linearised import Linearised, factorised_prior, optimised, pixel_rows, pushed
from pdip.evidence import Objective
from pdip.evidence.data import Data
from pdip.evidence.marginal import Estimate
from pdip.linearised import LinearGaussianModel, linearise
from pdip.typing import Params, Scalar


class Curvature(ABC):
    """An approximation G of the generalised Gauss-Newton matrix (GGN) at noise variance 1.

    ``G ≈ Vᵀ V`` with ``V = W^{1/2} A S J_h``, of a form that makes the two below cheap.
    """

    @abstractmethod
    def log_determinant(self, model: LinearGaussianModel) -> Scalar:
        """``log |I + Σ G / σ²|``, differentiable in the model's hyperparameters."""

    @abstractmethod
    def latent_covariance(self, model: LinearGaussianModel) -> Tensor:
        """``J_h (G / σ² + Σ⁻¹)⁻¹ J_hᵀ``: (pixels, pixels) float64."""


@dataclass(frozen=True)
class LaplaceEvidence(Objective):
    """The Laplace evidence at the network's weights θ* with a curvature of its own.

    ``-½ ‖W^{1/2}(y - A x*)‖²/σ² - ½ θ*ᵀ Σ⁻¹ θ* - ½ log |I + Σ G/σ²| - ½ log |2πσ² W⁻¹|``
    (Immer et al. 2021a); with the exact curvature it is
    :class:`~pdip.evidence.NetworkWeights`.

    Args:
        curvature: G.
    """

    curvature: Curvature

    def estimate(self, model, data, solver):
        misfit = (data.residual(model.image).square() * data.weights).sum() / model.noise_variance
        noise = data.num_rays * (math.log(2 * math.pi) + model.log_noise_variance)
        noise = noise - data.weights.log().sum()
        complexity = model.prior.quadratic(model.jacobian.vector)
        volume = self.curvature.log_determinant(model)
        return Estimate(-0.5 * (misfit + complexity + volume + noise))


class Laplace(Linearised):
    """Evidence, new slopes and evidence again, as on the main path, for one kind of curvature.

    Weights are iid in each U-Net block. The noise is that of the fit: the determinant of a
    curvature that leaves correlations out is so large that its evidence would call all of the
    data noise.
    """

    @abstractmethod
    def curvature(self, model: LinearGaussianModel, data: Data, rows: Params) -> Curvature:
        """G of a linearised network, for its present slopes.

        Args:
            model: its prior is iid in each block.
            data: the rays.
            rows: J_h, (pixels, params).
        """

    def restart_posterior(self, scan, ray, restart, generator):
        model, curvature = self.laplace(scan, ray, restart)
        _, covariance = pushed(model, curvature.latent_covariance(model))
        return gaussian(model.image, covariance, restart.network.image_scale)

    def laplace(self, scan, ray, restart) -> tuple[LinearGaussianModel, Curvature]:
        """The model at the hyperparameters of highest Laplace evidence, and its curvature."""
        model = linearise(restart, ray, factorised_prior(restart.network))
        data, rows = Data.of(scan, ray), pixel_rows(model)
        curvature = self.curvature(model, data, rows)
        model = _optimised(model, scan, curvature)
        if restart.network.activation.name == "none":
            return model, curvature
        slope, _ = pushed(model, curvature.latent_covariance(model))
        model = model.with_slope(slope.to(model.slope))
        curvature = self.curvature(model, data, rows)
        return _optimised(model, scan, curvature), curvature


def _optimised(model: LinearGaussianModel, scan, curvature: Curvature) -> LinearGaussianModel:
    return optimised(model, scan, objective=LaplaceEvidence(curvature), learn_noise=False)
