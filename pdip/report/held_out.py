"""What a reconstruction says of views that it did not use: scores, and their figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import norm

from pdip.calibration import coverage
from pdip.posterior import ImagePosterior
from pdip.report.canvas import COLOURS, blank_figure
from pdip.report.maps import draw_maps
from pdip.typing import Sinogram

PANEL = (3.5, 3.0)
CHUNK = 64
QUANTILES = 200
WIDEST = 8.0
"""Standard deviations on the axes of histogram and QQ plot; beyond, values pile up at the end."""


def held_out_scores(
    posterior: ImagePosterior,
    ray,
    sinogram: Sinogram,
    noise_std: float,
    *,
    num_samples: int = 512,
    generator: torch.Generator,
) -> dict[str, Any]:
    """How well a posterior predicts rays that it did not use.

    ``z = (y_h - A_h x) / √(diag(A_h Σ A_hᵀ) + σ²)``, the variance that of posterior samples pushed
    through the rays (relative error of a std: ``1 / √(2 num_samples)``). Where the linear Gaussian
    model of noise and object is right, z is standard normal.

    Args:
        posterior: of the image given other rays.
        ray: A_h, of the withheld views only.
        sinogram: y_h, (views, detectors).
        noise_std: σ of a ray, dimensionless.
        num_samples: posterior samples.
        generator: source of randomness.

    Returns:
        reduced chi-square (the mean of z²), mean and median |z|, coverage of the 95 % interval,
        the share of the predicted variance that is noise, root mean square error of the withheld
        rays over σ, and 200 evenly spaced ``quantiles`` of z.
    """
    predicted = ray.forward(posterior.image.to(ray.dtype)).double()
    total = torch.zeros_like(predicted)
    for start in range(0, num_samples, CHUNK):
        count = min(CHUNK, num_samples - start)
        draws = posterior.sample(count, generator=generator) - posterior.image
        total += ray.forward(draws.to(ray.dtype)).double().square().sum(0)
    variance = total / num_samples + noise_std**2
    error = sinogram.double() - predicted
    z = error / variance.sqrt()
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return {
        "rays": z.numel(),
        "reduced_chi_square": float(z.square().mean()),
        "mean_z": float(z.mean()),
        "median_absolute_z": float(z.abs().median()),
        "coverage_95": coverage(predicted, variance.sqrt(), sinogram.double()),
        "noise_share": noise_std**2 / float(variance.mean()),
        "error_over_noise": float(error.square().mean().sqrt()) / noise_std,
        "quantiles": np.quantile(z.cpu().numpy(), levels).tolist(),
    }


def draw_held_out(rows: Sequence[dict]) -> Figure:
    """One line for each scan: the maps, and histogram and QQ plot of z of the withheld rays.

    Args:
        rows: records as for :func:`~pdip.report.maps.draw_maps`, with ``half_mm`` and ``held_out``
            of :func:`held_out_scores`.
    """
    figure = blank_figure(6 * PANEL[0], PANEL[1] * len(rows))
    for row, axes in zip(rows, figure.subplots(len(rows), 6, squeeze=False), strict=True):
        draw_maps(figure, axes[:4], row, row["half_mm"])
        _draw_histogram(axes[4], row["held_out"])
        _draw_quantiles(axes[5], row["held_out"])
    return figure


def _draw_histogram(axis, held_out: dict) -> None:
    place = np.linspace(-WIDEST, WIDEST, 201)
    shown = np.clip(held_out["quantiles"], -WIDEST, WIDEST)
    axis.hist(shown, np.linspace(-WIDEST, WIDEST, 41), density=True, color=COLOURS[5])
    axis.plot(place, norm.pdf(place), color="black", label="calibrated")
    axis.set(xlabel="z of withheld rays", ylabel="density", yticks=[])
    axis.set_title(f"reduced χ² {held_out['reduced_chi_square']:.2f}")
    axis.legend(frameon=False, fontsize="small")


def _draw_quantiles(axis, held_out: dict) -> None:
    expected = norm.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES)
    axis.plot(expected, np.clip(held_out["quantiles"], -WIDEST, WIDEST), ".", color=COLOURS[0])
    axis.axline((0, 0), slope=1, color="black", linewidth=1)
    axis.set(xlabel="standard normal quantile", ylabel="quantile of z")
    axis.set_title(f"coverage of 95 %: {held_out['coverage_95']:.3f}")
