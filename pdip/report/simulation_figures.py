"""Figures of many simulated scans: expected coverage, and repeated measurements of one truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pdip.report.calibration_figure import DASHES, FAINT
from pdip.report.canvas import COLOURS, blank_figure
from pdip.report.overview import ERROR_MAP, PANEL_INCHES, Panel, draw_panel, window


def draw_expected_coverage(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Expected coverage against credibility; calibrated within the grey band (± 2 errors).

    Args:
        curves: name -> fields of a ``pdip.calibration.ExpectedCoverage`` as lists, at most six.

    Returns:
        the figure, not yet saved.
    """
    figure = blank_figure(PANEL_INCHES, PANEL_INCHES)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], **FAINT)
    for (name, curve), colour, dashes in zip(curves.items(), COLOURS, DASHES, strict=False):
        levels, error = (np.array([0, *curve[key], 0]) for key in ("levels", "standard_error"))
        levels[-1] = 1
        axis.plot(
            levels,
            [0, *curve["empirical"], 1],
            label=name.replace("_", " "),
            color=colour,
            linestyle=dashes,
        )
        axis.fill_between(levels, levels - 2 * error, levels + 2 * error, color="0.9", zorder=0)
    axis.set(xlabel="credibility", ylabel="share of simulated scans inside")
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.legend(frameon=False, loc="lower right")
    return figure


def draw_repeated_noise(found: Mapping[str, Any], pixel_mm: float) -> Figure:
    """Claimed std beside the spread over the noise and their error, all of one colour scale.

    Numbers are root mean squares over pixels, 1/mm.

    Args:
        found: fields of a ``pdip.calibration.RepeatedNoise`` with its maps as lists of rows.
        pixel_mm: side of a pixel.

    Returns:
        the figure, not yet saved.
    """
    titles = {
        "claimed_map": f"claimed std ({found['claimed']:.2g})",
        "spread_map": f"spread over noise ({found['spread']:.2g})",
        "error_map": f"RMS error ({found['error']:.2g})",
    }
    maps = {name: np.array(found[name]) for name in titles}
    largest = max(window(values)[1] for values in maps.values())
    figure = blank_figure(3 * PANEL_INCHES, 0.9 * PANEL_INCHES)
    height, width = (side * pixel_mm / 2 for side in maps["claimed_map"].shape)
    for axis, (name, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        panel = Panel(maps[name], title, ERROR_MAP, 0.0, largest)
        draw_panel(figure, axis, panel, (-width, width, -height, height))
        axis.set(xlabel="x (mm)", ylabel="y (mm)")
    return figure
