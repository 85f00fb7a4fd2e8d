"""Two runs beside each other in one figure."""

import numpy as np
from matplotlib.figure import Figure

from pdip.report.canvas import blank_figure
from pdip.report.overview import (
    ERROR_MAP,
    IMAGE_MAP,
    PANEL_INCHES,
    Panel,
    draw_panel,
    shared_limits,
    window,
)

DIFFERENCE_MAP = "RdBu_r"
"""Diverging, white at zero; red and blue are told apart by colour-blind eyes."""
LARGEST_RATIO = 4.0


def draw_comparison(first, second) -> Figure:
    """Both images, both stds, their difference, and that over the std of both together.

    The images share one window, and so do the stds unless they are far apart.

    Args:
        first, second: records with ``name``, ``image``, ``std`` (height, width; 1/mm) and ``grid``.

    Returns:
        the figure, not yet saved.
    """
    apart = second.image.astype(np.float64) - first.image
    ratio = apart / np.hypot(first.std.astype(np.float64), second.std)
    low, high = window(np.stack([first.image, second.image]))
    tops = shared_limits(first.std, second.std)
    scale = "" if tops[0] == tops[1] else ", own colours"
    most = window(np.abs(apart))[1]
    panels = [
        Panel(first.image, f"A: {_short(first.name)}", IMAGE_MAP, low, high),
        Panel(second.image, f"B: {_short(second.name)}", IMAGE_MAP, low, high),
        Panel(apart, "B − A", DIFFERENCE_MAP, -most, most),
        Panel(first.std, f"std of A{scale}", ERROR_MAP, 0.0, tops[0]),
        Panel(second.std, f"std of B{scale}", ERROR_MAP, 0.0, tops[1]),
        Panel(ratio, "(B − A) / std of both", DIFFERENCE_MAP, -LARGEST_RATIO, LARGEST_RATIO,
              "standard deviations"),
    ]  # fmt: skip
    figure = blank_figure(3 * PANEL_INCHES, 0.3 + 2 * 0.84 * PANEL_INCHES)
    half_height, half_width = (side / 2 for side in first.grid.size_mm)
    extent = (-half_width, half_width, -half_height, half_height)
    axes = figure.subplots(2, 3)
    for panel, axis in zip(panels, axes.flat, strict=True):
        draw_panel(figure, axis, panel, extent)
    for axis in axes[:, 0]:
        axis.set_ylabel("y (mm)")
    for axis in axes[1]:
        axis.set_xlabel("x (mm)")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"…{name[-29:]}"
