"""Reconstructions to look at in a notebook: click a pixel or drag a box for its mean ± std.

Needs ipywidgets and, for the mouse, ipympl (``pip install -e '.[notebook]'``).
"""

import io
from base64 import b64encode
from collections.abc import Sequence

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backend_bases import LocationEvent, MouseButton, MouseEvent
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pdip.errors import InputError
from pdip.posterior import ImagePosterior
from pdip.report.canvas import COLOURS, blank_figure
from pdip.report.overview import ERROR_MAP, IMAGE_MAP, UNIT, Panel, draw_panel, window
from pdip.report.words import plus_minus
from pdip.scan import ImageGrid
from pdip.typing import Image

try:
    from ipympl.backend_nbagg import Canvas, FigureManager
except ImportError:
    Canvas = None

WITH_MOUSE = "Click a pixel or drag a box, or move the sliders of its rows and columns."
WITHOUT_MOUSE = "Move the sliders of rows and columns; with the package ipympl, click or drag."
Pixel = tuple[int, int]


class Viewer(ipywidgets.VBox):
    """Panels of a posterior, or of the slices of a stack; show it as the last line of a cell.

    Args:
        posterior: of the image, or one for each slice, all on ``grid``.
        grid: for the axes in mm.
        truth: (height, width), 1/mm, or one for each slice, or None; the threshold marks pixels by
            their error to it.

    Attributes:
        slice: which posterior is shown; hidden for a single one.
        threshold: marked are pixels with |error| / std above it; hidden without a truth.
        rows, columns: the box, its last row and column included; the mouse moves them.
        figure: reconstruction, std and the marked pixels, each with the box, to save.
        picture: the figure's interactive canvas, or a PNG of it without ipympl.
        sentence: mean ± std of the box, and what is marked.

    Raises:
        InputError: the truths are not as many or not as large as the images.
    """

    def __init__(
        self,
        posterior: ImagePosterior | Sequence[ImagePosterior],
        grid: ImageGrid,
        truth: Image | Sequence[Image] | None = None,
    ):
        alone = isinstance(posterior, ImagePosterior)
        self.posteriors, self.grid = [posterior] if alone else list(posterior), grid
        self._images = _stacked([p.image for p in self.posteriors])
        self._stds = _stacked([p.std() for p in self.posteriors])
        self._ratios = None
        if truth is not None:
            truths = _stacked([truth] if alone else truth)
            if truths.shape != self._images.shape:
                raise InputError(
                    "expected a truth (height, width) for each posterior, in all "
                    f"{self._images.shape}, got {truths.shape}"
                )
            self._ratios = np.abs(self._images - truths) / self._stds
        self._pressed: tuple[Axes, Pixel] | None = None

        self.slice = ipywidgets.IntSlider(max=len(self.posteriors) - 1, description="slice")
        self.rows, self.columns = map(_box_slider, ("rows", "columns"), grid.shape)
        self.threshold = ipywidgets.FloatSlider(
            value=1.96, min=0.5, max=4.0, step=0.02, description="|error|/std"
        )
        sliders = [self.rows, self.columns]
        if len(self.posteriors) > 1:
            sliders.insert(0, self.slice)
        if truth is not None:
            sliders.append(self.threshold)
        for slider in sliders:
            slider.observe(lambda _: self.refresh(), names="value")
        self.figure = self._drawn()
        self.picture = _picture(self.figure)
        self.sentence = ipywidgets.Label()
        self.refresh()
        row = ipywidgets.HBox(sliders, layout={"flex_flow": "row wrap"})
        hint = ipywidgets.Label(WITHOUT_MOUSE if Canvas is None else WITH_MOUSE)
        super().__init__([row, self.sentence, self.picture, hint])

    def box_mean(self) -> tuple[float, float]:
        """Mean of the box and its std, correlations of the pixels included, 1/mm."""
        (top, bottom), (left, right) = self.rows.value, self.columns.value
        posterior = self.posteriors[self.slice.value]
        weights = torch.zeros_like(posterior.image)
        weights[top : bottom + 1, left : right + 1] = 1
        return posterior.functional(weights / weights.sum())

    def refresh(self) -> None:
        """Bring figure and sentence up to the sliders; the numbers wait while the mouse drags."""
        number, threshold = self.slice.value, self.threshold.value
        numbers = "…"
        if self._pressed is None:
            numbers = f"{plus_minus(*self.box_mean())} {UNIT}"
        text = f"{_place(self.rows.value, self.columns.value)}: {numbers}"
        panels = [self._images[number], self._stds[number]]
        if self._ratios is not None:
            ratio = self._ratios[number]
            panels.append(_beyond(ratio, threshold))
            self.figure.axes[2].set_title(f"|error| / std > {threshold:.2f}")
            share = (ratio > threshold).mean()
            text += f"; {share:.1%} of the pixels lie beyond {threshold:.2f} std"
        for values, axis in zip(panels, self.figure.axes, strict=False):  # then the colour bars
            axis.images[0].set_data(values)
            axis.patches[0].set_bounds(*self._bounds_mm())
        self.sentence.value = text
        if Canvas is None:
            self.picture.value = self._png()
        else:
            self.picture.draw_idle()

    def _drawn(self) -> Figure:
        """All panels and boxes; the slices share the limits of the colours."""
        images, stds = np.concatenate(self._images), np.concatenate(self._stds)
        panels = [
            Panel(images, "reconstruction", IMAGE_MAP, *window(images)),
            Panel(stds, "standard deviation", ERROR_MAP, 0.0, window(stds)[1]),
        ]
        if self._ratios is not None:
            beyond = _beyond(np.concatenate(self._ratios), self.threshold.min)
            name = "|error| / std"  # the threshold follows
            panels.append(Panel(beyond, name, ERROR_MAP, 0.0, 2.0, "standard deviations beyond"))
        figure = blank_figure(2.9 * len(panels), 2.6)
        figure.get_layout_engine().set(wspace=0.06)
        half_height, half_width = (side / 2 for side in self.grid.size_mm)
        axes = figure.subplots(1, len(panels), sharex=True, sharey=True)
        for panel, axis in zip(panels, axes, strict=True):
            draw_panel(figure, axis, panel, (-half_width, half_width, -half_height, half_height))
            axis.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=1.5))
            axis.set_xlabel("x (mm)")
        axes[0].set_ylabel("y (mm)")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # to lay out anew takes half of the time of a frame
        figure.canvas.mpl_connect("button_press_event", self._press)
        figure.canvas.mpl_connect("motion_notify_event", self._drag)
        figure.canvas.mpl_connect("button_release_event", self._release)
        figure.canvas.mpl_connect("figure_leave_event", self._release)
        return figure

    def _press(self, event: MouseEvent) -> None:
        """Begin a box, unless zoom or pan have the mouse; a double click comes without release."""
        on_panel = event.inaxes is not None and bool(event.inaxes.images)
        taken = event.dblclick or self.figure.canvas.widgetlock.locked()
        if event.button == MouseButton.LEFT and on_panel and not taken:
            self._pressed = event.inaxes, self._pixel(event, event.inaxes)

    def _drag(self, event: LocationEvent) -> None:
        """Move the sliders, as far as they go, to the box from the pressed pixel to the mouse's."""
        if self._pressed is not None:
            axis, pressed = self._pressed
            ends = zip(pressed, self._pixel(event, axis), strict=True)
            self.rows.value, self.columns.value = map(sorted, ends)

    def _release(self, event: LocationEvent) -> None:
        """End the box, also where the mouse leaves the canvas, which is told nothing from then."""
        if self._pressed is not None:
            self._drag(event)
            self._pressed = None
            self.refresh()

    def _pixel(self, event: LocationEvent, axis: Axes) -> Pixel:
        """Row and column under the mouse on the grid of that panel, continued without end."""
        x, y = axis.transData.inverted().transform((event.x, event.y))
        half_height, half_width = (side / 2 for side in self.grid.size_mm)
        pixel = self.grid.pixel_mm
        return int((half_height - y) // pixel), int((half_width + x) // pixel)

    def _bounds_mm(self) -> tuple[float, float, float, float]:
        """Left, lower end, width and height of the box."""
        (top, bottom), (left, right) = self.rows.value, self.columns.value
        x, y = self.grid.centres_mm()
        pixel = self.grid.pixel_mm
        corner = x[left] - pixel / 2, y[bottom] - pixel / 2
        return *corner, (right - left + 1) * pixel, (bottom - top + 1) * pixel

    def _png(self) -> bytes:
        stream = io.BytesIO()
        self.figure.canvas.print_png(stream)
        return stream.getvalue()

    def _repr_mimebundle_(self, **kwargs) -> dict:
        """As any widget, with a picture for where no kernel runs."""
        picture = b64encode(self._png()).decode()
        return {**super()._repr_mimebundle_(**kwargs), "image/png": picture}


def _stacked(images: Sequence[Image]) -> np.ndarray:
    return np.stack([image.cpu().numpy() for image in images])


def _beyond(ratio: np.ndarray, threshold: float) -> np.ndarray:
    return np.clip(ratio - threshold, 0, None)


def _box_slider(name: str, count: int) -> ipywidgets.IntRangeSlider:
    middle = (3 * count // 8, 5 * count // 8)
    return ipywidgets.IntRangeSlider(value=middle, min=0, max=count - 1, description=name)


def _picture(figure: Figure) -> ipywidgets.DOMWidget:
    """The figure's interactive canvas; without ipympl an image for its PNG."""
    if Canvas is None:
        return ipywidgets.Image(format="png")
    canvas = Canvas(figure)
    FigureManager(canvas, 1)
    canvas.header_visible, canvas.toolbar_position = False, "bottom"
    return canvas


def _place(rows: tuple[int, int], columns: tuple[int, int]) -> str:
    (top, bottom), (left, right) = rows, columns
    if (top, left) == (bottom, right):
        return f"pixel in row {top}, column {left}"
    return f"mean of rows {top} to {bottom}, columns {left} to {right}"
