"""A reconstruction to look at in a notebook: a threshold on |error| / std, and mean ± std of a box.

Needs ipywidgets (``pip install -e '.[notebook]'``).
"""

import io

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pdip.posterior import ImagePosterior
from pdip.report.canvas import COLOURS, blank_figure
from pdip.report.overview import ERROR_MAP, IMAGE_MAP, UNIT, Panel, draw_panel, window
from pdip.scan import ImageGrid
from pdip.typing import Image


class Viewer(ipywidgets.VBox):
    """Sliders beside a picture that follows them; show it as the last line of a cell.

    Args:
        posterior: of the image.
        grid: for the axes in mm.
        truth: (height, width), 1/mm, or None; the threshold marks pixels by their error to it.

    Attributes:
        threshold: marked are pixels with |error| / std above it; hidden without a truth.
        rows, columns: the box, its last row and column included.
        picture: reconstruction with the box, std, and the marked pixels.
        sentence: mean ± std of the box, and what is marked.
    """

    def __init__(self, posterior: ImagePosterior, grid: ImageGrid, truth: Image | None = None):
        self.posterior, self.grid = posterior, grid
        self.truth = None if truth is None else truth.cpu().numpy()
        height, width = grid.shape
        self.threshold = ipywidgets.FloatSlider(
            value=1.96, min=0.5, max=4.0, step=0.02, description="|error|/std"
        )
        self.rows = _box_slider("rows", height)
        self.columns = _box_slider("columns", width)
        self.picture = ipywidgets.Image(format="png")
        self.sentence = ipywidgets.Label()
        sliders = [self.rows, self.columns]
        if truth is not None:
            sliders.append(self.threshold)
        for slider in sliders:
            slider.observe(lambda _: self.refresh(), names="value")
        self.refresh()
        super().__init__([ipywidgets.HBox(sliders), self.sentence, self.picture])

    def box_mean(self) -> tuple[float, float]:
        """Mean of the box and its std, correlations of the pixels included, 1/mm."""
        (top, bottom), (left, right) = self.rows.value, self.columns.value
        weights = torch.zeros_like(self.posterior.image)
        weights[top : bottom + 1, left : right + 1] = 1
        return self.posterior.functional(weights / weights.sum())

    def refresh(self) -> None:
        """Bring picture and sentence up to the sliders."""
        stream = io.BytesIO()
        self.figure().canvas.print_png(stream)
        self.picture.value = stream.getvalue()
        mean, std = self.box_mean()
        text = f"mean of the box: {mean:.4g} ± {std:.2g} {UNIT}"
        if self.truth is not None:
            share = float((self._ratio() > self.threshold.value).mean())
            text += f"; {share:.1%} of the pixels lie beyond {self.threshold.value:.2f} std"
        self.sentence.value = text

    def figure(self) -> Figure:
        """The picture as the sliders stand, to save."""
        image, std = (x.cpu().numpy() for x in (self.posterior.image, self.posterior.std()))
        half_height, half_width = (side / 2 for side in self.grid.size_mm)
        extent = (-half_width, half_width, -half_height, half_height)
        panels = [
            Panel(image, "reconstruction", IMAGE_MAP, *window(image)),
            Panel(std, "standard deviation", ERROR_MAP, 0.0, window(std)[1]),
        ]
        if self.truth is not None:
            marked = np.clip(self._ratio() - self.threshold.value, 0, None)
            title = f"|error| / std beyond {self.threshold.value:.2f}"
            panels.append(Panel(marked, title, ERROR_MAP, 0.0, 2.0, "standard deviations beyond"))
        figure = blank_figure(3.7 * len(panels), 3.3)
        figure.set_dpi(80)
        axes = figure.subplots(1, len(panels))
        for panel, axis in zip(panels, axes, strict=True):
            draw_panel(figure, axis, panel, extent)
            axis.set(xlabel="x (mm)", ylabel="y (mm)")
            axis.add_patch(self._frame())
        return figure

    def _ratio(self) -> np.ndarray:
        error = np.abs(self.posterior.image.cpu().numpy() - self.truth)
        return error / self.posterior.std().cpu().numpy()

    def _frame(self) -> Rectangle:
        """The outline of the box in mm."""
        (top, bottom), (left, right) = self.rows.value, self.columns.value
        x, y = self.grid.centres_mm()
        pixel = self.grid.pixel_mm
        corner = (x[left] - pixel / 2, y[bottom] - pixel / 2)
        size = ((right - left + 1) * pixel, (bottom - top + 1) * pixel)
        return Rectangle(corner, *size, fill=False, edgecolor=COLOURS[1], linewidth=1.5)


def _box_slider(name: str, count: int) -> ipywidgets.IntRangeSlider:
    middle = (3 * count // 8, 5 * count // 8)
    return ipywidgets.IntRangeSlider(value=middle, min=0, max=count - 1, description=name)
