"""Read true images, for scoring only; they are never part of a scan."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pdip.errors import InputError
from pdip.scan.checks import positive_mm
from pdip.scan.formats import read_fields, scan_path
from pdip.scan.grid import ImageGrid
from pdip.scan.stack import Slices, Stack, slice_numbers
from pdip.typing import Image


def read_ground_truth(
    path: str | Path,
    grid: ImageGrid,
    dataset: str | None = None,
    assumed: Callable[[str], None] | None = None,
    row: int | None = None,
) -> Image | None:
    """Read the true image for scoring only; it is never part of a scan.

    Each pixel of the result is the mean of the truth over that pixel (zero outside of it), so
    that the two may differ in shape and pixel size. A truth without a pixel size is taken to
    cover what ``grid`` covers, and must have its aspect ratio.

    Args:
        path: ``.npy`` image (rows, columns), or ``.npz`` or HDF5 with ``ground_truth``
            (``pixel_mm``) or ``reference`` (``ref_pixel_mm``).
        grid: the pixels to compare on.
        dataset: of the sinogram in an HDF5 file; the truth is looked for beside it.
        assumed: is told what is assumed of the truth, in one sentence.
        row: of a stack: the image of this slice; None for the truth of a single scan.

    Returns:
        (height, width) float32 in 1/mm, or None where the file has no truth.

    Raises:
        InputError: the file cannot be used.
    """
    truth = _Truth.of(path, dataset)
    if truth is None:
        return None
    values = truth.values
    if row is not None and getattr(values, "ndim", None) == 3:
        (number,) = slice_numbers(row, values.shape[0])
        values = np.asarray(values[number])
    image = truth.checked(values)
    truth = truth.placed(image.shape, grid, assumed)
    return truth.on_grid(image, grid)


@dataclass(frozen=True)
class _Truth:
    """The true image or images of a file as they stand there, not checked yet.

    Attributes:
        values: (rows, columns) or (slices, rows, columns).
        pixel_mm: side of their pixels, or None.
        path: for messages.
        exact: whether the file calls it true, and not a reference.
    """

    values: Slices | np.ndarray | str
    pixel_mm: float | None
    path: Path
    exact: bool = True

    @classmethod
    def of(cls, path: str | Path, dataset: str | None) -> "_Truth | None":
        """The truth of a file; None where it has none."""
        path = scan_path(path, "ground truth")
        fields = read_fields(path, dataset)
        if path.suffix.lower() == ".npy":
            return cls(fields["sinogram"], None, path)
        for key, pixel_key in (("ground_truth", "pixel_mm"), ("reference", "ref_pixel_mm")):
            if fields.get(key) is not None:
                return cls(fields[key], fields.get(pixel_key), path, key == "ground_truth")
        return None

    def placed(
        self, shape: tuple[int, int], grid: ImageGrid, assumed: Callable[[str], None] | None
    ) -> "_Truth":
        """The same with a pixel size: its own, or the one with which it covers the grid."""
        if assumed is not None and not self.exact:
            assumed(
                f"The scores compare with the reference in {self.path.name}, which may have errors "
                "of its own."
            )
        if self.pixel_mm is not None:
            pixel_mm = positive_mm("pixel size of the ground truth", self.pixel_mm)
            return replace(self, pixel_mm=pixel_mm)
        if shape == grid.shape:
            return replace(self, pixel_mm=grid.pixel_mm)
        if shape[0] * grid.shape[1] != shape[1] * grid.shape[0]:
            raise InputError(
                f"the ground truth in {self.path.name} must have the aspect ratio of the "
                f"{grid.shape[0]} x {grid.shape[1]} pixels of the image, got {shape[0]} x "
                f"{shape[1]}; crop or pad it, or save it as .npz with 'reference' and its pixel "
                "size 'ref_pixel_mm'."
            )
        pixel_mm = grid.size_mm[0] / shape[0]
        if assumed is not None:
            assumed(
                f"The ground truth, {shape[0]} x {shape[1]} pixels without a pixel size, covers "
                f"what the image covers: its pixels of {pixel_mm:.4g} mm are averaged over those "
                f"of {grid.pixel_mm:.4g} mm."
            )
        return replace(self, pixel_mm=pixel_mm)

    def checked(self, image: np.ndarray | str) -> np.ndarray:
        """One of the images in double precision, finite."""
        return _checked_image(image, self.path)

    def on_grid(self, image: np.ndarray, grid: ImageGrid) -> Image:
        """One of the checked images of a placed truth, on the pixels to compare on."""
        return on_grid(image, ImageGrid(image.shape, self.pixel_mm), grid)


@dataclass(frozen=True)
class TrueSlices:
    """The true image of every slice of a stack, each read when asked for.

    Attributes:
        truth: images (slices, rows, columns) in their file.
        place: slice number in the stack -> index among these images.
        grid: the pixels to compare on.
    """

    truth: _Truth
    place: dict[int, int]
    grid: ImageGrid

    def __getitem__(self, number: int) -> Image:
        image = np.asarray(self.truth.values[self.place[number]])
        return self.truth.on_grid(self.truth.checked(image), self.grid)


def read_true_slices(
    path: str | Path,
    stack: Stack,
    dataset: str | None = None,
    assumed: Callable[[str], None] | None = None,
) -> TrueSlices | None:
    """Read the true volume (slices, rows, columns) of a stack as :func:`read_ground_truth` does.

    Args:
        path: a file as for :func:`read_ground_truth`, with one image for each slice of the
            stack's file or for each of its selected slices.
        stack: the stack to compare with.
        dataset, assumed: as for :func:`read_ground_truth`.

    Returns:
        the true images by slice number, or None where the file has no truth.

    Raises:
        InputError: the file cannot be used.
    """
    truth = _Truth.of(path, dataset)
    if truth is None:
        return None
    images, total = truth.values, stack.sinograms.shape[0]
    shape = getattr(images, "shape", ())
    if len(shape) != 3 or images.dtype.kind not in "iuf" or shape[0] not in (total, len(stack)):
        raise InputError(
            f"the ground truth in {truth.path.name} must be (slices, rows, columns) with {total} "
            f"slices as in the stack or the {len(stack)} selected ones, got shape {tuple(shape)}."
        )
    own = stack.numbers if shape[0] == total else range(len(stack))
    place = dict(zip(stack.numbers, own, strict=True))
    return TrueSlices(truth.placed(shape[1:], stack.grid, assumed), place, stack.grid)


def on_grid(image: np.ndarray, truth_grid: ImageGrid, grid: ImageGrid) -> Image:
    """The mean of an image over each pixel of another grid, 0 outside of the image.

    Args:
        image: (rows, columns) on ``truth_grid``.
        truth_grid: its pixels.
        grid: those of the result.

    Returns:
        (height, width) float32 on ``grid``.
    """
    rows = _overlap(truth_grid.shape[0], truth_grid.pixel_mm, grid.shape[0], grid.pixel_mm)
    columns = _overlap(truth_grid.shape[1], truth_grid.pixel_mm, grid.shape[1], grid.pixel_mm)
    if truth_grid == grid:
        return torch.from_numpy(image.astype(np.float32))
    return torch.from_numpy((rows @ image @ columns.T).astype(np.float32))


def _checked_image(image: np.ndarray | str, path: Path) -> np.ndarray:
    numeric = isinstance(image, np.ndarray) and image.dtype.kind in "iuf"
    if not numeric or image.ndim != 2 or image.size == 0:
        found = image.shape if numeric else "text"
        raise InputError(f"the ground truth in {path.name} must be (rows, columns), got {found}.")
    with np.errstate(all="ignore"):
        image = image.astype(np.float32).astype(np.float64)
    if not np.isfinite(image).all():
        raise InputError(f"the ground truth in {path.name} has values that are NaN or infinite.")
    return image


def _overlap(num_from: int, pixel_from: float, num_to: int, pixel_to: float) -> np.ndarray:
    """Matrix (num_to, num_from) of the share of each target pixel that a source pixel covers."""
    edges_from = (np.arange(num_from + 1) - num_from / 2) * pixel_from
    edges_to = (np.arange(num_to + 1) - num_to / 2) * pixel_to
    upper = np.minimum(edges_to[1:, None], edges_from[None, 1:])
    lower = np.maximum(edges_to[:-1, None], edges_from[None, :-1])
    return np.clip(upper - lower, 0.0, None) / pixel_to
