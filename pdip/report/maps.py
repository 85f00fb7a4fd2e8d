"""Pictures of an image and of its uncertainty in one line, and how they are kept as numbers."""

import numpy as np
from matplotlib.figure import Figure

from pdip.report.overview import (
    ERROR_MAP,
    IMAGE_MAP,
    RATIO_MAP,
    RATIO_STEPS,
    Panel,
    draw_panel,
    shared_limits,
)
from pdip.report.overview import window as window_of
from pdip.typing import Image


def stored_map(image: Image) -> list[list[float]]:
    """An image as rows of numbers with four digits, for JSON."""
    return [[float(f"{value:.4g}") for value in row] for row in image.tolist()]


def draw_maps(figure: Figure, axes, row: dict, half_mm: float) -> None:
    """Reconstruction, std, and with a reference |error| and |error| / std, one axis each.

    Std and |error| share their colours where they are not far apart.

    Args:
        figure: that of the axes.
        axes: four of them; those without a picture are left blank.
        row: ``image`` and ``std`` as of :func:`stored_map`, perhaps ``reference``, and ``name``.
        half_mm: half the side of the image.
    """
    image, std = np.array(row["image"]), np.array(row["std"])
    extent = (-half_mm, half_mm, -half_mm, half_mm)
    pictures = [Panel(image, f"{row['name']}: reconstruction", IMAGE_MAP, *window_of(image))]
    largest_std = window_of(std)[1]
    errors = []
    if row.get("reference") is not None:
        error = np.abs(image - np.array(row["reference"]))
        largest_std, largest_error = shared_limits(std, error)
        errors = [
            Panel(error, "|error| against the reference", ERROR_MAP, 0.0, largest_error),
            Panel(
                error / std, "|error| / std", RATIO_MAP, RATIO_STEPS[0], RATIO_STEPS[-1],
                "standard deviations", RATIO_STEPS,
            ),
        ]  # fmt: skip
    pictures += [Panel(std, "standard deviation", ERROR_MAP, 0.0, largest_std), *errors]
    for axis in axes[len(pictures) :]:
        axis.axis("off")
    for panel, axis in zip(pictures, axes, strict=False):
        draw_panel(figure, axis, panel, extent)
        axis.set(xlabel="x (mm)", ylabel="y (mm)")
