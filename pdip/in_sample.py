"""What the rays that a result is made of say of it, without a second fit."""

from __future__ import annotations

import torch

from pdip.calibration.held_out import HeldOut, WithheldRays, held_out_scores
from pdip.calibration.leave_one_out import LeftOut, Precision, leave_rays_out, leave_views_out
from pdip.calibration.whiteness import Correlation, whiteness
from pdip.posterior import Mixture
from pdip.posterior.image_posterior import ImagePosterior
from pdip.result import Result
from pdip.scan import Scan
from pdip.withholding import used_rays

SIMULATED_RESIDUALS = 200


def _parts(posterior: ImagePosterior) -> tuple[ImagePosterior, ...]:
    return posterior.posteriors if isinstance(posterior, Mixture) else (posterior,)


def _precision(part) -> Precision:
    """K⁻¹ of the whitened rays of one restart's posterior."""
    covariance, model = part.data.covariance(part.model), part.model
    if model.measurement.compression is None:
        root = part.data.weights.sqrt()
        return Precision.exact(root[:, None] * covariance * root)
    basis = part.data.basis(model)
    return Precision.compressed(basis, covariance, float(model.noise_variance))


def leave_one_out_scores(result: Result) -> dict[str, HeldOut]:
    """Rays and views of the result predicted from its others, moments of the restarts' mixture.

    Optimistic: the features of the network were learned from all rays.
    """
    parts = _parts(result.posterior)
    data, noise = parts[0].data, result.noise_std_by_evidence**2
    view = data.index // data.sinogram.shape[-1]
    found: dict[str, list[LeftOut]] = {"rays": [], "views": []}
    for part in parts:
        precision = _precision(part)
        residual = part.data.weights.sqrt() * part.data.residual_of_zero_weights(part.model)
        found["rays"].append(leave_rays_out(precision, residual))
        found["views"].append(leave_views_out(precision, residual, view))
    scored = {}
    for kind, left_out in found.items():
        errors = torch.stack([one.error for one in left_out])
        variance = torch.stack([one.variance for one in left_out]).mean(0)
        variance = variance + errors.var(0, unbiased=False)
        scored[kind] = held_out_scores(
            WithheldRays(
                errors.mean(0) / data.weights.sqrt(),
                (variance - noise).clamp(min=0) / data.weights,
                noise / data.weights,
                view,
            )
        )
    return scored


def residual_whiteness(scan: Scan, result: Result) -> dict[str, Correlation]:
    """The residual of the whole scan beside residuals of data drawn from the model."""
    part = _parts(result.posterior)[0]
    data, generator = part.data, torch.Generator().manual_seed(0)
    whitened = data.weights.sqrt() * data.residual(result.image)
    draws = _precision(part).sample(SIMULATED_RESIDUALS, generator)
    maps = draws.new_zeros(len(draws) + 1, scan.sinogram.numel())
    maps[:, data.index] = torch.cat([whitened[None], draws])
    maps = maps.reshape(-1, *scan.sinogram.shape)
    return whiteness(maps[0], maps[1:], used_rays(scan).to(maps.device))
