"""The image grid of a scan: that of its file, or one that holds all that its rays see."""

from collections.abc import Callable

import numpy as np

from pdip.scan.checks import number_tuple, positive_mm
from pdip.scan.geometry import FanBeam, ParallelBeam
from pdip.scan.grid import ImageGrid

OUTSIDE_FRACTION = 0.005
"""Part of the sinogram that may lie outside the inscribed square before the grid is widened. A disc
as wide as 0.85 of the field of view has 16 % of its area outside, but 0.9 % of its sinogram."""
OUTSIDE = (
    "WARNING: rays that pass beside the image see an object, and what lies outside of the image is "
    "smeared into it; give a larger image_shape or pixel_mm, or leave both out; if it is single "
    "detector elements that read too much there, give them weight 0."
)
SURE = 3.0
"""Robust standard deviations of such a sum that noise alone does not reach."""
SEEN = 5.0
"""Robust standard deviations over the median of the rays beside the square: an object, no noise."""
SEEN_FRACTION, SEEN_RAYS = 0.002, 3
"""Part and number of the rays beside the square that see an object before the grid is widened."""


def build_grid(
    fields: dict,
    summed: Callable[[], np.ndarray],
    geometry: ParallelBeam | FanBeam,
    said: list[str],
) -> ImageGrid:
    """Return the grid of the file, or of its reference image, or one that fits the object.

    Args:
        fields: the keys of the file.
        summed: gives the sinogram, or the sum of those of a stack, where it is needed.
        geometry: where the rays run.
        said: receives what is assumed.
    """
    shape, pixel_mm = fields.get("image_shape"), fields.get("pixel_mm")
    if shape is not None:
        shape = number_tuple("image_shape", shape)
    if shape is None and pixel_mm is None:
        for image_key, pixel_key in (("reference", "ref_pixel_mm"), ("ground_truth", "pixel_mm")):
            image = fields.get(image_key)
            if getattr(image, "ndim", None) in (2, 3):
                shape, pixel_mm = image.shape[-2:], fields.get(pixel_key)
                said.append(f"The image grid is that of the {image_key} in the file.")
                break
    if shape is not None and pixel_mm is not None:
        return ImageGrid(tuple(shape), pixel_mm)
    fitting, sentence = _fitting_grid(summed(), geometry)
    if shape is not None:
        grid = ImageGrid(tuple(shape))
        grid = ImageGrid(grid.shape, max(fitting.size_mm) / max(grid.shape))
    elif pixel_mm is not None:
        pixel_mm = positive_mm("pixel_mm", pixel_mm)
        grid = fitting.resized(max(1, round(min(max(fitting.size_mm) / pixel_mm, 2**31))))
        grid = ImageGrid(grid.shape, pixel_mm)
    else:
        grid = fitting
    said.append(f"{sentence}.")
    return grid


def _fitting_grid(values: np.ndarray, geometry: ParallelBeam | FanBeam) -> tuple[ImageGrid, str]:
    """Return the inscribed grid, or the covering one where the object reaches outside of it."""
    inscribed = geometry.inscribed_grid()
    beside = values[_is_beside(inscribed, geometry)]
    if not _sees_an_object(beside, float(values.sum())):
        return inscribed, "The image grid is the square inscribed in the field of view"
    sentence = (
        "Rays that pass beside the square inscribed in the field of view see the object, so the "
        "image grid covers all of the field of view"
    )
    return geometry.covering_grid(), sentence


def check_grid_holds(
    values: np.ndarray, grid: ImageGrid, geometry: ParallelBeam | FanBeam
) -> tuple[str, ...]:
    """What to say where rays (views, detectors) that pass beside the image see an object."""
    beside = values[_is_beside(grid, geometry)]
    return (OUTSIDE,) if _sees_an_object(beside, float(values.sum())) else ()


def _is_beside(grid: ImageGrid, geometry: ParallelBeam | FanBeam) -> np.ndarray:
    """Which rays, (views, detectors), pass beside the image."""
    angle, offset = geometry.ray_lines()
    height, width = grid.size_mm
    reach = width / 2 * np.abs(np.cos(angle)) + height / 2 * np.abs(np.sin(angle))
    return np.abs(offset) > reach


def _sees_an_object(beside: np.ndarray, total: float) -> bool:
    """Whether rays beside the square hold a part of the sinogram, or some stand out of the air."""
    if beside.size == 0:
        return False
    above = beside - np.median(beside)
    noise = 1.4826 * float(np.median(np.abs(above)))
    if float(beside.sum()) > max(OUTSIDE_FRACTION * total, SURE * noise * beside.size**0.5):
        return True
    seen = int((above > max(SEEN * noise, 1e-6 * float(above.max()))).sum())
    return seen >= SEEN_RAYS and seen > SEEN_FRACTION * beside.size
