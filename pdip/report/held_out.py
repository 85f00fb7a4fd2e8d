"""What a reconstruction says of views that it did not use: scores, and their figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from pdip.calibration import WithheldRays, held_out_scores, z_quantiles
from pdip.report.canvas import COLOURS, blank_figure
from pdip.report.maps import draw_maps
from pdip.strict_json import strict

PANEL = (3.5, 3.0)
WIDEST = 8.0
"""Standard deviations on the axes of histogram and QQ plot; beyond, values pile up at the end."""


def held_out_record(rays: WithheldRays) -> dict[str, Any]:
    """The scores of withheld rays as plain data for JSON, with the quantiles of their z.

    Args:
        rays: what was withheld.

    Returns:
        :func:`pdip.calibration.held_out_scores` and ``z_quantiles`` of
        :func:`pdip.calibration.z_quantiles`.
    """
    std = rays.variance.sqrt()
    quantiles = z_quantiles(torch.zeros_like(std), std, rays.residual)
    return {**strict(held_out_scores(rays)), "z_quantiles": strict(quantiles)}


def draw_held_out(rows: Sequence[dict]) -> Figure:
    """One line for each scan: the maps, and histogram and QQ plot of z of the withheld rays.

    Args:
        rows: records as for :func:`~pdip.report.maps.draw_maps`, with ``half_mm`` and ``held_out``
            of :func:`held_out_record`.
    """
    figure = blank_figure(6 * PANEL[0], PANEL[1] * len(rows))
    for row, axes in zip(rows, figure.subplots(len(rows), 6, squeeze=False), strict=True):
        draw_maps(figure, axes[:4], row, row["half_mm"])
        _draw_histogram(axes[4], row["held_out"])
        _draw_quantiles(axes[5], row["held_out"])
    return figure


def _draw_histogram(axis, record: dict) -> None:
    place = np.linspace(-WIDEST, WIDEST, 201)
    shown = np.clip(record["z_quantiles"]["observed"], -WIDEST, WIDEST)
    axis.hist(shown, np.linspace(-WIDEST, WIDEST, 41), density=True, color=COLOURS[5])
    axis.plot(
        place, np.exp(-(place**2) / 2) / np.sqrt(2 * np.pi), color="black", label="calibrated"
    )
    axis.set(xlabel="z of withheld rays", ylabel="density", yticks=[])
    axis.set_title(f"reduced χ² {record['predicted']['chi_squared']['value']:.2f}")
    axis.legend(frameon=False, fontsize="small")


def _draw_quantiles(axis, record: dict) -> None:
    quantiles = record["z_quantiles"]
    shown = np.clip(quantiles["observed"], -WIDEST, WIDEST)
    axis.plot(quantiles["expected"], shown, ".", color=COLOURS[0])
    axis.axline((0, 0), slope=1, color="black", linewidth=1)
    axis.set(xlabel="standard normal quantile", ylabel="quantile of z")
    axis.set_title(f"coverage of 95 %: {record['predicted']['coverage']['0.95']['value']:.3f}")
