"""Line drawings of a run for its page: how the scan was taken, and how its searches went.

Each is SVG text to put into HTML. Ink is ``currentColor``, so that it is dark on a light page and
light on a dark one.
"""

import hashlib
import io
import re
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, FancyArrowPatch, Rectangle

from pdip.report.canvas import COLOURS, blank_figure
from pdip.scan import FanBeam, ImageGrid, ParallelBeam

INK = "#010203"
"""Stands for ``currentColor``, which matplotlib does not know."""
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "pdip", "font.family": "sans-serif", "font.size": 10,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip
BLUE, ORANGE, GREEN = COLOURS[:3]
FIRST, LAST = BLUE, ORANGE
FEW = 20
"""Points of a line of which each is marked."""
SHOWN_SPAN = 6.0
"""Half widths of the field of view beyond which a source or a detector is drawn nearer."""


def svg(figure: Figure) -> str:
    """The figure as the text of one ``<svg>`` element without fixed size."""
    text = io.StringIO()
    with rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r' id="[a-zA-Z]+[0-9a-zA-Z]*_\d+"', "", drawing)  # nothing refers to them
    own = hashlib.sha256(drawing.encode()).hexdigest()[:8]  # of this drawing among those of a page
    drawing = re.sub(r'(id="|"#|url\(#)', rf"\g<1>{own}-", drawing)
    drawing = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawing).replace("xlink:href", "href")
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 role="img">', drawing, count=1)


def draw_histories(
    histories: Sequence[tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    level: tuple[float, str] | None = None,
    logarithmic: bool = False,
) -> str:
    """How a number went in each restart.

    Args:
        histories: (x, y) of each restart.
        xlabel, ylabel: with their units.
        level: a value to compare with and its name.
        logarithmic: whether the y axis is; all values are positive then.

    Returns:
        SVG.
    """
    with rc_context(STYLE):
        figure = blank_figure(6.4, 3.0)
        axis = figure.subplots()
        for number, (x, y) in enumerate(histories):
            label = f"restart {number + 1}" if len(histories) > 1 else None
            marker = "o" if len(x) < FEW else ""
            axis.plot(
                x, y, marker=marker, markersize=3, linewidth=1.4, label=label,
                color=COLOURS[number % len(COLOURS)],
            )  # fmt: skip
        if level is not None:
            axis.axhline(level[0], color=INK, linestyle=":", label=level[1])
        if logarithmic:
            axis.set_yscale("log")
        else:
            axis.ticklabel_format(axis="y", useOffset=False)
            _show_the_end(axis, [y for _, y in histories])
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
        return svg(figure)


def _show_the_end(axis: Axes, values: Sequence[Sequence[float]]) -> None:
    """Let the y axis begin where three quarters of the values lie: searches start far away."""
    every = np.concatenate([np.asarray(part, dtype=float) for part in values])
    every = every[np.isfinite(every)]
    if not every.size:
        return
    low, high = np.quantile(every, 0.25), every.max()
    margin = 0.1 * (high - low) or 1.0
    if every.min() < low - 4 * (high - low) - margin:
        axis.set_ylim(low - margin, high + margin)


def draw_geometry(geometry: ParallelBeam | FanBeam, grid: ImageGrid) -> str:
    """Source, detector, image, field of view, all views and the sense of rotation, in mm.

    A source or detector that is far away is drawn nearer, with a word on it.

    Args:
        geometry: of the scan.
        grid: of the image.

    Returns:
        SVG.
    """
    with rc_context(STYLE):
        figure = blank_figure(5.6, 5.0)
        axis = figure.subplots()
        seen = geometry.inscribed_grid(1).size_mm[0] / np.sqrt(2)
        height, width = grid.size_mm
        most = max(seen, np.hypot(height, width) / 2)
        axis.add_patch(
            Rectangle((-width / 2, -height / 2), width, height, fill=False, edgecolor=GREEN)
        )
        axis.add_patch(Circle((0, 0), seen, fill=False, edgecolor=INK, linestyle=":"))
        reach = _draw_views(axis, geometry, most)
        _draw_rotation(axis, geometry.angles_deg, reach)
        axis.plot([0], [0], "+", color=INK)
        axis.set(
            xlim=(-1.3 * reach, 1.3 * reach), ylim=(-1.3 * reach, 1.3 * reach), aspect="equal",
            xlabel="x (mm)", ylabel="y (mm)",
        )  # fmt: skip
        return svg(figure)


def _draw_views(axis: Axes, geometry: ParallelBeam | FanBeam, most: float) -> float:
    """First view with its rays and detector, and the place of the source in all; its distance."""
    fan = isinstance(geometry, FanBeam)
    limit = SHOWN_SPAN * most
    source = min(geometry.source_origin_mm, limit) if fan else 1.6 * most
    detector = min(geometry.origin_detector_mm, limit) if fan else 1.6 * most
    angles = geometry.angles_rad
    axis.plot(
        source * np.sin(angles), -source * np.cos(angles), "o", color=INK, alpha=0.45, markersize=3
    )
    edges = geometry.detector_mm[[0, -1]]
    edges = edges + np.sign(np.diff(edges))[0] * geometry.detector_pitch_mm * np.array([-0.5, 0.5])
    if fan:  # where a distance is shortened, the fan is as wide at the axis as it is
        at_axis = geometry.source_origin_mm / geometry.source_detector_mm
        edges = edges * at_axis * (source + detector) / source
    for view, colour in ((0, FIRST), (len(angles) - 1, LAST)):
        along = np.array([np.cos(angles[view]), np.sin(angles[view])])
        beam = np.array([np.sin(angles[view]), -np.cos(angles[view])])
        ends = -detector * beam + edges[:, None] * along
        starts = np.tile(source * beam, (2, 1)) if fan else ends + (source + detector) * beam
        for start, end in zip(starts, ends, strict=True):
            axis.plot(*zip(start, end, strict=True), color=colour, linewidth=0.8, alpha=0.7)
        axis.plot(*ends.T, color=colour, linewidth=3, solid_capstyle="butt")
        axis.plot(*(source * beam), "o", color=colour, markersize=6)
        if len(angles) == 1:
            break
    return float(max(source, np.hypot(detector, np.abs(edges).max())))


def _draw_rotation(axis: Axes, angles_deg: Sequence[float], reach: float) -> None:
    """The arc that the source runs over, with an arrow from the first view on."""
    low, high = min(angles_deg), max(angles_deg)
    radius = 1.12 * reach
    if high - low < 360:
        axis.add_patch(
            Arc((0, 0), 2 * radius, 2 * radius, theta1=low - 90, theta2=high - 90, color=INK)
        )
    else:
        axis.add_patch(Circle((0, 0), radius, fill=False, edgecolor=INK))
    if len(angles_deg) > 1 and angles_deg[1] != angles_deg[0]:
        sense = np.sign(angles_deg[1] - angles_deg[0])
        turn = np.deg2rad(angles_deg[0] + sense * np.array([0.0, min(25.0, max(high - low, 1.0))]))
        (from_x, to_x), (from_y, to_y) = radius * np.sin(turn), -radius * np.cos(turn)
        axis.add_patch(
            FancyArrowPatch(
                (from_x, from_y), (to_x, to_y), connectionstyle=f"arc3,rad={0.11 * sense}",
                arrowstyle="-|>", mutation_scale=16, color=FIRST, linewidth=2,
            )
        )  # fmt: skip
