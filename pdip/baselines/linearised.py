"""What the baselines around the same linearised network share: restarts, priors, dense rows."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pdip.baselines.baseline import Baseline
from pdip.dip import DIPFit
from pdip.errors import ComputationError, InputError
from pdip.evidence import Objective, optimise_evidence
from pdip.evidence.data import Data
from pdip.linearised import (
    IIDGroup,
    LinearGaussianModel,
    ParameterPrior,
    PriorGroup,
    gram_bases,
    statistical_linearisation,
    unet_prior,
)
from pdip.linearised.features import MAX_STORED_PIXELS
from pdip.linearised.measurement import Measurement
from pdip.posterior import Mixture, Posterior, relinearise
from pdip.posterior.image_posterior import ImagePosterior
from pdip.ray import RayTransform
from pdip.typing import Image, Params


class Linearised(Baseline):
    """A baseline that keeps the fit and its linearisation, and makes the inference otherwise.

    One posterior for each restart, pooled as the main path does.
    """

    def posterior(self, scan, ray, fit, *, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return Mixture(
            [self.restart_posterior(scan, ray, restart, generator) for restart in fit.restarts]
        )

    @abstractmethod
    def restart_posterior(
        self, scan, ray: RayTransform, restart: DIPFit, generator: torch.Generator
    ) -> ImagePosterior:
        """The posterior around one restart of the fit."""


@dataclass(frozen=True)
class ScaledGroup(PriorGroup):
    """``N(0, s_b² diag(d²))``: independent weights, each with a fixed scale d.

    Args:
        name: the block's name.
        parameters: names of its parameters.
        scale: d >= 0, (p_b,) float64; a weight of scale 0 is certain and not asked about.
    """

    name: str
    parameters: tuple[str, ...]
    scale: Tensor
    hyperparameters = ("log_variance",)
    num_patterns = 1

    def coefficients(self, log_h):
        return log_h[:1].exp()

    def apply_pattern(self, pattern, vector):
        return self.scale.square().to(vector) * vector

    def apply_root(self, log_h, vector):
        return ((log_h[0] / 2).exp() * self.scale).to(vector) * vector

    def gram_bases(self, rows):
        root = self.scale.to(rows) * rows
        gram = (root @ root.mT).double()
        return ((gram + gram.mT) / 2)[None]

    def quadratic(self, log_h, vector):
        free = self.scale > 0
        white = vector.to(log_h)[free] / self.scale[free].to(log_h)
        return white.square().sum() * torch.exp(-log_h[0])


def factorised_prior(network) -> ParameterPrior:
    """``N(0, s_b² I)`` on the weights of each U-Net block."""
    prior = unet_prior(network)
    groups = tuple(IIDGroup(group.name, group.parameters) for group in prior.groups)
    log_variance = [log_h[0] for log_h in prior.split(prior.log_hyperparameters)]
    return ParameterPrior(groups, prior.sizes, torch.stack(log_variance))


def optimised(
    model: LinearGaussianModel,
    scan,
    *,
    objective: Objective | None = None,
    learn_noise: bool = True,
) -> LinearGaussianModel:
    """The model at the hyperparameters of highest evidence, without a hyperprior.

    Args:
        model: where the search starts.
        scan: the scan.
        objective: which evidence; None for that of the main path.
        learn_noise: also choose the noise variance.

    Raises:
        ComputationError: the search did not converge.
    """
    found = optimise_evidence(
        model, scan, objective=objective, hyperprior=None, learn_noise=learn_noise
    )
    if not found.converged:
        raise ComputationError(
            f"expected the evidence to have a maximum, got a gradient of {found.gradient_norm:.2g} "
            f"nats after {found.num_evaluations} evaluations; use a fit that explains the scan"
        )
    return found.model


def exact_posterior(model: LinearGaussianModel, scan) -> Posterior:
    """The main path's posterior under the model's prior: evidence, new slopes, evidence."""
    model = optimised(model, scan)
    again = relinearise(model, scan)
    return Posterior(model if again is model else optimised(again, scan), scan)


def with_prior(
    model: LinearGaussianModel, prior: ParameterPrior, rows: Params
) -> LinearGaussianModel:
    """The same linearisation under another prior on the same weights; no network pass.

    Args:
        model: any.
        prior: of the same parameters in the same order.
        rows: :func:`pixel_rows` of the model.
    """
    latent = replace(model.features.latent, prior=prior, pixel_gram=gram_bases(rows, prior))
    features = replace(model.features, latent=latent)
    measurement = Measurement(features, model.ray)
    return replace(model, prior=prior, features=features, measurement=measurement)


def pixel_rows(model: LinearGaussianModel) -> Params:
    """J_h as a dense matrix, (pixels, params); one VJP for each pixel.

    Raises:
        InputError: more pixels than it is kept for.
    """
    pixels = model.image.numel()
    if pixels > MAX_STORED_PIXELS:
        raise InputError(
            f"expected at most {MAX_STORED_PIXELS} pixels for a dense Jacobian, got {pixels}; "
            "use a smaller image (--image-size)"
        )
    unit = torch.eye(pixels, dtype=model.image.dtype, device=model.image.device)
    return model.jacobian.adjoint(unit.reshape(-1, *model.image.shape))


def ray_rows(model: LinearGaussianModel, data: Data) -> Tensor:
    """``W^{1/2} A S``: the whitened rays as rows over h, (rays, pixels)."""
    rows = (data.rows(model) * model.slope).flatten(1)
    return data.weights.sqrt()[:, None].to(rows) * rows


def squared_columns(model: LinearGaussianModel, data: Data, rows: Params) -> Tensor:
    """``Σ_i (W^{1/2} A S J_h)_ij²`` of each weight j: (params,) float64."""
    rays = ray_rows(model, data)
    blocks = model.prior.blocks(rows)
    return torch.cat([(rays @ block).square().sum(0).double() for block in blocks])


def pushed(model: LinearGaussianModel, latent: Tensor) -> tuple[Image, Tensor]:
    """The covariance of h carried through the output activation, as the main path does.

    Args:
        model: supplies h* and the activation s.
        latent: posterior covariance of h, (pixels, pixels) float64.

    Returns:
        the slope ``E[s'(h)]``, (height, width), and the covariance ``S C S`` plus the variance
        that no slope explains, (pixels, pixels).
    """
    h = model.jacobian.pre_activation.double()
    variance = latent.diagonal().reshape(h.shape)
    _, slope, unexplained = statistical_linearisation(model.jacobian.network.image, h, variance)
    flat = slope.reshape(-1)
    covariance = flat[:, None] * latent * flat + torch.diag(unexplained.reshape(-1))
    return slope, covariance
