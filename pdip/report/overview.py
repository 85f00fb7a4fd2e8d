"""One figure of a run: reconstruction and std, and with a truth where they are wrong."""

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from pdip.report.canvas import blank_figure
from pdip.scan import ImageGrid
from pdip.typing import Image

IMAGE_MAP, ERROR_MAP, RATIO_MAP = "gray", "viridis", "cividis"
RATIO_STEPS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
PANEL_INCHES = 3.7
UNIT = "1/mm"
FAR_APART = 3.0
"""Ratio of the largest std and |error| from which each has its own colours."""


@dataclass(frozen=True)
class Panel:
    """One picture: values, title, colour map, limits and the label of its colour bar."""

    values: np.ndarray
    title: str
    colours: str
    low: float
    high: float
    label: str = UNIT
    steps: tuple[float, ...] = ()


def draw_overview(image: Image, std: Image, truth: Image | None, grid: ImageGrid) -> Figure:
    """Reconstruction and std; with a truth also the truth, |error| and |error| / std.

    Truth and reconstruction share one window. Std and |error| share another, so that equal colours
    mean equal values, unless one of them would be almost uniform in it. All colour maps are ordered
    in lightness and safe for colour-blind eyes.

    Args:
        image: (height, width), 1/mm.
        std: (height, width), 1/mm.
        truth: (height, width), 1/mm, or None.
        grid: for the axes in mm.

    Returns:
        the figure, not yet saved.
    """
    rows = panels(*(None if x is None else x.detach().cpu().numpy() for x in (image, std, truth)))
    columns = max(len(row) for row in rows)
    figure = blank_figure(PANEL_INCHES * columns, 0.3 + 0.84 * PANEL_INCHES * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    half_height, half_width = (side / 2 for side in grid.size_mm)
    extent = (-half_width, half_width, -half_height, half_height)
    for row, row_axes in zip(rows, axes, strict=True):
        for axis in row_axes[len(row) :]:
            axis.axis("off")
        for panel, axis in zip(row, row_axes, strict=False):
            draw_panel(figure, axis, panel, extent)
        row_axes[0].set_ylabel("y (mm)")
    for axis in axes[-1][: len(rows[-1])]:
        axis.set_xlabel("x (mm)")
    return figure


def panels(image: np.ndarray, std: np.ndarray, truth: np.ndarray | None) -> list[list[Panel]]:
    """The pictures of the overview, row by row."""
    if truth is None:
        low, high = window(image)
        return [
            [
                Panel(image, "reconstruction", IMAGE_MAP, low, high),
                Panel(std, "standard deviation", ERROR_MAP, 0.0, window(std)[1]),
            ]
        ]
    low, high = window(truth)
    error = np.abs(image - truth)
    ratio = error / np.maximum(std, np.finfo(np.float32).tiny)
    largest_std, largest_error = shared_limits(std, error)
    scale = "" if largest_std == largest_error else ", own colours"
    inside = float((ratio <= 1.96).mean())
    return [
        [
            Panel(image, "reconstruction", IMAGE_MAP, low, high),
            Panel(std, f"standard deviation{scale}", ERROR_MAP, 0.0, largest_std),
            Panel(
                ratio, f"|error| / std, {100 * inside:.0f} % < 1.96", RATIO_MAP,
                RATIO_STEPS[0], RATIO_STEPS[-1], "standard deviations", RATIO_STEPS,
            ),
        ],
        [
            Panel(truth, "reference", IMAGE_MAP, low, high),
            Panel(error, f"|error|{scale}", ERROR_MAP, 0.0, largest_error),
        ],
    ]  # fmt: skip


def shared_limits(std: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Where the colours of std and |error| end: at one value, or far apart each at its own."""
    ends = window(std)[1], window(error)[1]
    return ends if max(ends) > FAR_APART * min(ends) else (max(ends), max(ends))


def window(values: np.ndarray) -> tuple[float, float]:
    """Limits of a colour scale that a few extreme pixels do not decide."""
    low, high = (float(v) for v in np.quantile(values, [0.001, 0.999]))
    return (low, high) if high > low else (low, low + max(abs(low), 1e-12))


def draw_panel(figure: Figure, axis, panel: Panel, extent: tuple[float, ...]) -> None:
    """One picture with its title and colour bar."""
    shown = {"cmap": panel.colours, "extent": extent, "interpolation": "nearest"}
    if panel.steps:
        norm = BoundaryNorm(panel.steps, 256, extend="max")
        picture = axis.imshow(panel.values, norm=norm, **shown)
    else:
        picture = axis.imshow(panel.values, vmin=panel.low, vmax=panel.high, **shown)
    beyond = (panel.values.min() < panel.low, panel.values.max() > panel.high)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    bar = {} if panel.steps else {"extend": extend.get(beyond, "both")}
    figure.colorbar(picture, ax=axis, label=panel.label, shrink=0.9, **bar)
    axis.set_title(panel.title)
