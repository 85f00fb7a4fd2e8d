"""What all figures share: a canvas without a window, colours, and lines with their error."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito (2008): told apart by colour-blind eyes."""
MARKERS = ("o", "s", "^", "D", "v", "P")


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, which needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_means(
    axis: Axes, lines: dict[str, dict[float, Sequence[float]]], *, xlabel: str, ylabel: str
) -> None:
    """For each name a line through the means of repeated values, with ± one standard error.

    Args:
        axis: where to draw.
        lines: name -> x -> the repeated values at x; a single value has no error bar.
        xlabel, ylabel: with their units.
    """
    for number, (name, points) in enumerate(lines.items()):
        places = sorted(points)
        means = [float(np.mean(points[x])) for x in places]
        errors = [
            float(np.std(points[x], ddof=1)) / len(points[x]) ** 0.5 if len(points[x]) > 1 else 0.0
            for x in places
        ]
        axis.errorbar(
            places, means, errors, label=name.replace("_", " "), capsize=2, markersize=4,
            color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
        )  # fmt: skip
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(frameon=False)
