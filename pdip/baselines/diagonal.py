"""Laplace with the diagonal of the curvature: every weight on its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pdip.baselines.laplace import Curvature, Laplace
from pdip.baselines.linearised import squared_columns
from pdip.linearised import LinearGaussianModel
from pdip.typing import Params


@dataclass(frozen=True)
class Diagonal(Laplace):
    """Posterior precision ``diag(Vᵀ V)/σ² + Σ⁻¹`` over the weights, ``V = W^{1/2} A S J_h``.

    Weights iid in each U-Net block, variances by the Laplace evidence with the
    determinant of that diagonal.

    Example:
        >>> Diagonal()
        Diagonal()
    """

    def curvature(self, model, data, rows):
        return DiagonalCurvature(squared_columns(model, data, rows), rows)


@dataclass(frozen=True)
class DiagonalCurvature(Curvature):
    """``G = diag(g)``.

    Attributes:
        values: g, (params,) float64.
        rows: J_h, (pixels, params).
    """

    values: Tensor
    rows: Params

    def log_determinant(self, model):
        return torch.log1p(prior_variances(model) * self.values / model.noise_variance).sum()

    def latent_covariance(self, model):
        root = self.rows * self.variances(model).sqrt().to(self.rows)
        return (root @ root.mT).double()

    def variances(self, model: LinearGaussianModel) -> Tensor:
        """Posterior variance of each weight: (params,) float64."""
        return 1 / (self.values / model.noise_variance + 1 / prior_variances(model))


def prior_variances(model: LinearGaussianModel) -> Tensor:
    """``s_b²`` of the block of each weight: (params,) float64."""
    prior = model.prior
    sizes = torch.tensor(prior.sizes, device=prior.log_hyperparameters.device)
    return prior.coefficients().repeat_interleave(sizes)
