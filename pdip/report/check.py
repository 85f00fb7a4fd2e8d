"""What a calibration check shows: its part of ``summary.json`` and one figure."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri
from torch import Tensor

from pdip.calibration.intervals import half_width
from pdip.calibration.recalibration import Scales
from pdip.calibration.verdict import are_too_narrow, calls_for
from pdip.calibration.view_bands import mean_bands, resampled_views
from pdip.report.canvas import blank_figure
from pdip.report.overview import PANEL_INCHES
from pdip.strict_json import strict

CURVE = tuple(k / 20 for k in range(1, 20))
QUANTILES = np.linspace(0.01, 0.99, 41)
RESAMPLES = 200
LARGEST_Z = 4.0
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"


def check_warnings(found: Mapping[str, Any]) -> list[str]:
    """What the key ``calibration`` of ``summary.json`` warns of."""
    if not found["too_narrow"]:
        return []
    return [f"Measurements that the fit did not see say that {found['verdict']}."]


def check_summary(check) -> dict[str, Any]:
    """The key ``calibration`` of ``summary.json``.

    Args:
        check: a :class:`pdip.CalibrationCheck`.
    """
    return {
        "verdict": check.verdict,
        "too_narrow": are_too_narrow(check.scales),
        "grounds": check.grounds,
        "settings": asdict(check.design),
        "held_out": strict(check.held_out),
        "leave_one_out": {
            "note": "optimistic: the features were learned from all rays",
            **{kind: strict(scores) for kind, scores in check.leave_one_out.items()},
        },
        "whiteness": {
            "verdict": check.pattern,
            **{kind: _correlation(one) for kind, one in check.whiteness.items()},
        },
        "recalibration": {
            "applied": check.std is not None,
            "determined": check.scales.determined,
            **_scales(check.scales),
            "regions": None if check.region_scales is None else _scales(check.region_scales),
            "conformal": {
                **asdict(check.conformal),
                "note": "guaranteed for rays that could be exchanged for the withheld ones, as "
                "those withheld at random; approximate for whole views; not for pixels",
            },
        },
        "noise_std_by_evidence": check.result.noise_std_by_evidence,
        "log_evidence": check.result.log_evidence,
    }


def _scales(scales: Scales) -> dict[str, Any]:
    return {
        "scales": [asdict(scale) for scale in scales.scales],
        "noise_factor": asdict(scales.noise),
    }


def _correlation(one) -> dict[str, Any]:
    return {
        "white": one.white,
        "statistic": one.statistic,
        "limit": one.limit,
        "p_value": one.p_value,
        **{name: getattr(one, name).tolist() for name in ("values", "expected", "low", "high")},
    }


def draw_check(check) -> Figure:
    """Quantiles, coverage and map of the withheld rays' z-scores; correlation of the residual.

    Args:
        check: a :class:`pdip.CalibrationCheck`.

    Returns:
        the figure, not yet saved.
    """
    figure = blank_figure(2.6 * PANEL_INCHES, 2.3 * PANEL_INCHES)
    (quantiles, covered), (errors, correlated) = figure.subplots(2, 2)
    lines = {"as predicted": (check.rays, BLUE), "noise alone": (check.rays.at(scale=0.0), GREY)}
    if calls_for(check.scales):
        (scale,) = check.scales.scales
        rescaled = check.rays.at(scale.value, check.scales.noise.value)
        lines["recalibrated"] = (rescaled, ORANGE)
    for name, (rays, colour) in lines.items():
        _draw_quantiles(quantiles, rays.z, rays.view, name, colour)
        _draw_coverage(covered, rays.z, rays.view, name, colour)
    quantiles.plot((-LARGEST_Z, LARGEST_Z), (-LARGEST_Z, LARGEST_Z), "k:", linewidth=1)
    quantiles.set(
        xlim=(-2.5, 2.5), ylim=(-LARGEST_Z, LARGEST_Z), title="withheld rays: error / std",
        xlabel="quantile of N(0, 1)", ylabel="quantile of the rays (bands: 95 % over views)",
    )  # fmt: skip
    covered.plot((0, 1), (0, 1), "k:", linewidth=1)
    covered.set(
        xlim=(0, 1), ylim=(0, 1), title="withheld rays inside their intervals",
        xlabel="claimed share", ylabel="actual share",
    )  # fmt: skip
    quantiles.legend(frameon=False, loc="upper left")
    _draw_map(figure, errors, check)
    _draw_correlation(correlated, check.whiteness)
    return figure


def _draw_quantiles(axis: Axes, z: Tensor, view: Tensor, name: str, colour: str) -> None:
    often, number = (part.cpu().numpy() for part in resampled_views(view, resamples=RESAMPLES))
    own = z.cpu().numpy()
    drawn = [np.quantile(np.repeat(own, count[number].astype(int)), QUANTILES) for count in often]
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    place = ndtri(QUANTILES)
    axis.fill_between(place, low, high, color=colour, alpha=0.2, linewidth=0)
    axis.plot(place, np.quantile(own, QUANTILES), color=colour, label=name)


def _draw_coverage(axis: Axes, z: Tensor, view: Tensor, name: str, colour: str) -> None:
    inside = torch.stack([(z.abs() <= half_width(level)).double() for level in CURVE])
    bands = mean_bands(inside, view, kind="share")
    low, high = ([getattr(one, end) for one in bands] for end in ("low", "high"))
    axis.fill_between(CURVE, low, high, color=colour, alpha=0.2, linewidth=0)
    axis.plot(CURVE, [one.value for one in bands], color=colour, label=name)


def _draw_map(figure: Figure, axis: Axes, check) -> None:
    """z of every withheld ray; whole views one below the other, else where they are."""
    withheld = check.withheld.cpu()
    values = torch.full(withheld.shape, torch.nan, dtype=torch.float64)
    values[withheld] = check.rays.z.cpu()
    shown = withheld.any(1)
    picture = axis.imshow(
        values[shown].numpy(), cmap="RdBu_r", vmin=-LARGEST_Z, vmax=LARGEST_Z, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    axis.set_facecolor("0.85")
    figure.colorbar(picture, ax=axis, label="error / std", extend="both")
    axis.set(title="where they err", xlabel="detector", ylabel="view with withheld rays, from 0")
    axis.yaxis.get_major_locator().set_params(integer=True)
    views = shown.nonzero()[:, 0].tolist()
    axis.yaxis.set_major_formatter(
        lambda row, _: str(views[round(row)]) if 0 <= round(row) < len(views) else ""
    )


def _draw_correlation(axis: Axes, whiteness: Mapping[str, Any]) -> None:
    for (kind, one), colour in zip(whiteness.items(), (BLUE, ORANGE), strict=False):
        lags = np.arange(1, len(one.values) + 1)
        low, high = one.low.cpu(), one.high.cpu()
        axis.fill_between(lags, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(lags, one.values.cpu(), "o-", color=colour, markersize=4, label=f"along {kind}")
    axis.axhline(0, color="k", linestyle=":", linewidth=1)
    axis.set(
        title="correlation of the residual (bands: noise)", xlabel="rays apart",
        ylabel="correlation",
    )  # fmt: skip
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False)
