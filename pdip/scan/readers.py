"""Read a scan or a ground truth from a file. A new format is one function and one line here."""

from pathlib import Path

import numpy as np
import torch

from pdip.errors import InputError
from pdip.scan.checks import positive_mm
from pdip.scan.fields import GEOMETRY_KEYS, GRID_KEYS, scan_from_fields
from pdip.scan.grid import ImageGrid
from pdip.scan.npy import read_npy, regular_file
from pdip.scan.npz import read_npz
from pdip.scan.scan import Scan
from pdip.scan.sidecar import find_sidecar, read_sidecar
from pdip.typing import Image

FORMATS = {".npy": read_npy, ".npz": read_npz}
"""Reader of each file name ending: path -> dictionary of the keys of the file."""


def read_scan(
    path: str | Path,
    geometry: str | Path | None = None,
    *,
    image_size: int | None = None,
    view_step: int = 1,
) -> Scan:
    """Read one sinogram with its geometry and image grid.

    Args:
        path: ``.npy`` (views, detectors), with scan.yaml beside scan.npy where there is one; or
            ``.npz`` with ``sinogram`` and the geometry keys.
        geometry: YAML file (keys: see ``pdip.scan.sidecar``) in place of the file's own geometry.
        image_size: N for N x N pixels over the same field of view.
        view_step: keep views 0, view_step, 2 view_step, ...

    Returns:
        the scan in float32; ``assumptions`` lists what was not in the file.

    Raises:
        InputError: anything in the files that cannot be used, in one sentence.
    """
    path = regular_file(path, "scan")
    fields = _read_fields(path)
    assumptions = []
    if geometry is None and path.suffix.lower() == ".npy":
        geometry = find_sidecar(path)
        if geometry is not None:
            assumptions.append(f"The geometry is read from {geometry.name} next to the scan.")
    if geometry is not None:
        fields = _replace_geometry(fields, read_sidecar(geometry))
    scan = scan_from_fields(fields, tuple(assumptions))
    if image_size is not None:
        grid = scan.grid.resized(image_size)
        scan = Scan(scan.sinogram, scan.geometry, grid, scan.weights, scan.assumptions)
    return scan.every(view_step)


def read_ground_truth(path: str | Path, grid: ImageGrid) -> Image | None:
    """Read the true image for scoring only; it is never part of a scan.

    Each pixel of the result is the mean of the truth over that pixel (zero outside of it), so
    that the two may differ in shape and pixel size. A truth without a pixel size is taken to
    cover the same square as ``grid``.

    Args:
        path: ``.npy`` image (rows, columns), or ``.npz`` with ``ground_truth`` (``pixel_mm``) or
            ``reference`` (``ref_pixel_mm``).
        grid: the pixels to compare on.

    Returns:
        (height, width) float32 in 1/mm, or None where a ``.npz`` has no truth.

    Raises:
        InputError: the file cannot be used.
    """
    path = regular_file(path, "ground truth")
    fields = _read_fields(path)
    if path.suffix.lower() == ".npy":
        image, pixel_mm = fields["sinogram"], None
    elif "ground_truth" in fields:
        image, pixel_mm = fields["ground_truth"], fields.get("pixel_mm")
    elif "reference" in fields:
        image, pixel_mm = fields["reference"], fields.get("ref_pixel_mm")
    else:
        return None
    image = _checked_image(image, path)
    if pixel_mm is None:
        pixel_mm = max(grid.size_mm) / max(image.shape)
    truth_grid = ImageGrid(image.shape, positive_mm("pixel size of the ground truth", pixel_mm))
    rows = _overlap(truth_grid.shape[0], truth_grid.pixel_mm, grid.shape[0], grid.pixel_mm)
    columns = _overlap(truth_grid.shape[1], truth_grid.pixel_mm, grid.shape[1], grid.pixel_mm)
    if truth_grid == grid:
        return torch.from_numpy(image.astype(np.float32))
    return torch.from_numpy((rows @ image @ columns.T).astype(np.float32))


def _read_fields(path: Path) -> dict:
    read = FORMATS.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"{path.name} has the ending {path.suffix or 'none'!r}, expected one of "
            f"{', '.join(FORMATS)}; convert it."
        )
    return read(path)


def _replace_geometry(fields: dict, sidecar: dict) -> dict:
    """The named file replaces the geometry as a whole, and the grid where it gives one."""
    replaced = set(GEOMETRY_KEYS) | {"angle_convention"}
    if any(key in sidecar for key in GRID_KEYS):
        replaced |= set(GRID_KEYS)
    return {key: value for key, value in fields.items() if key not in replaced} | sidecar


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
