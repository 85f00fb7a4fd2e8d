"""The object of ``pdip simulate``: a phantom, or the image in a file."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pdip.errors import InputError
from pdip.scan import (
    ImageGrid,
    drilled_disc,
    ellipses,
    read_dicom,
    rectangles,
    shepp_logan,
    walnut,
)
from pdip.scan.checks import finite_real
from pdip.scan.dicom import WATER_60_KEV
from pdip.scan.ground_truth import on_grid
from pdip.scan.npy import read_npy, regular_file
from pdip.typing import Image

PHANTOMS: dict[str, Callable[[ImageGrid, torch.Generator], Image]] = {
    "shepp_logan": lambda grid, generator: shepp_logan(grid),
    "ellipses": ellipses,
    "rectangles": rectangles,
    "drilled_disc": drilled_disc,
    "walnut": walnut,
}
"""Name -> what draws it, with values in [0, 1]."""
DICOM = (".dcm", ".dicom")


@dataclass(frozen=True)
class SimulatedObject:
    """What is measured.

    Attributes:
        name: of the phantom or the file.
        image: 1/mm, (height, width).
        pixels: those of ``image``.
    """

    name: str
    image: Image
    pixels: ImageGrid

    def on(self, grid: ImageGrid) -> np.ndarray:
        """The true image on other pixels, (height, width) float32: the mean over each of them."""
        return on_grid(self.image.numpy().astype(np.float64), self.pixels, grid).numpy()

    def reach_mm(self) -> float:
        """Distance from the axis to the farthest pixel centre that attenuates."""
        x, y = self.pixels.centres_mm()
        return float(np.hypot(x[None, :], y[:, None])[self.image.numpy() != 0].max())


def drawn(
    command: argparse.Namespace, grid: ImageGrid, generator: torch.Generator
) -> SimulatedObject:
    """The phantom that was asked for, on pixels ``command.finer`` times as fine as the grid's."""
    height, width = (command.finer * length for length in grid.shape)
    fine = ImageGrid((height, width), grid.pixel_mm / command.finer)
    value = _attenuation(command, WATER_60_KEV)
    return SimulatedObject(
        command.phantom, value * PHANTOMS[command.phantom](fine, generator), fine
    )


def read_image(command: argparse.Namespace) -> tuple[Image, float | None]:
    """The image in a ``.npy`` file or a DICOM slice in 1/mm, and the side of its pixels if known.

    Raises:
        InputError: the file cannot be used.
    """
    path = regular_file(command.image, "image")
    suffix = path.suffix.lower()
    if suffix in DICOM:
        if command.pixel_mm is not None:
            raise InputError(f"{path.name} says how large its pixels are; leave out --pixel-mm.")
        image, grid = read_dicom(path, water_attenuation=_attenuation(command, WATER_60_KEV))
        return image, grid.pixel_mm
    if suffix != ".npy":
        raise InputError(
            f"--image expects a .npy (rows, columns) or a DICOM slice (.dcm), got {path.name}; "
            "save it with numpy.save."
        )
    image = torch.from_numpy(_checked(read_npy(path)["sinogram"], path))
    return image * _attenuation(command, 1.0), command.pixel_mm


def _attenuation(command: argparse.Namespace, usual: float) -> float:
    given = finite_real(
        "--attenuation", usual if command.attenuation is None else command.attenuation
    )
    if given <= 0:
        raise InputError(f"--attenuation must be positive (in 1/mm), got {given:g}.")
    return given


def _checked(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind not in "iuf" or values.ndim != 2 or values.size == 0:
        raise InputError(
            f"the image in {path.name} must be numbers (rows, columns), got shape "
            f"{tuple(values.shape)}; save one slice."
        )
    with np.errstate(all="ignore"):
        image = values.astype(np.float32)
    if not np.isfinite(image).all() or not image.any():
        raise InputError(
            f"the image in {path.name} has values that are NaN or infinite, or nothing but zeros; "
            "attenuation in 1/mm is needed."
        )
    return image
