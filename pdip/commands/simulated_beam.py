"""Where the rays of ``pdip simulate`` run: options, a geometry file, and what fits the object."""

import argparse
import math
from typing import Any

from pdip.errors import InputError
from pdip.scan import FanBeam, ImageGrid, ParallelBeam
from pdip.scan.checks import finite_real, number_tuple, positive_int, positive_mm
from pdip.scan.fields import ANGLE_KEYS, build_geometry
from pdip.scan.preprocessing import PREPROCESSING_KEYS
from pdip.scan.sidecar import read_sidecar

BEAMS = {"parallel": ("parallel", 180.0), "fan": ("fanflat", 360.0)}
"""``--beam`` -> the key ``geometry`` of files, and the arc where none is given."""
VIEWS = 30
OPTIONS = ("num_detectors", "det_pixel_mm", "source_origin_mm", "origin_detector_mm", "cor")
"""Keys of a geometry file that have an option of their own."""


def beam_keys(command: argparse.Namespace) -> dict[str, Any]:
    """The keys of a geometry file that file and options give together; options win.

    Raises:
        InputError: the file cannot be used, or what is given contradicts itself.
    """
    keys = {} if command.geometry is None else read_sidecar(command.geometry)
    reading = [key for key in PREPROCESSING_KEYS if key in keys]
    if reading:
        raise InputError(
            f"{command.geometry} says how measured values are read ({', '.join(reading)}), which a "
            "simulation decides itself; leave these lines out."
        )
    if command.beam is not None:
        keys["geometry"] = BEAMS[command.beam][0]
    given = {name: getattr(command, name) for name in OPTIONS}
    if given["cor"] is not None:
        keys.pop("detector_shift_mm", None)
    keys |= {name: value for name, value in given.items() if value is not None}
    if command.arc is not None:
        keys = {key: value for key, value in keys.items() if key not in ANGLE_KEYS}
    keys.setdefault("geometry", "parallel")
    for key in ("source_origin_mm", "origin_detector_mm"):
        if keys["geometry"] == "fanflat" and key not in keys:
            raise InputError(f"a fan beam needs --{key.replace('_', '-')}; give it in mm.")
    return keys


def field_of_view(keys: dict[str, Any], pixels: int) -> float | None:
    """Side in mm of pixels that fill the field of view; None where the keys give no detector."""
    if "num_detectors" not in keys or "det_pixel_mm" not in keys:
        return None
    beam = {key: value for key, value in keys.items() if key not in ANGLE_KEYS}
    return build_geometry(beam, (1, keys["num_detectors"]), []).inscribed_grid(pixels).pixel_mm


def beam_of(
    command: argparse.Namespace, keys: dict[str, Any], grid: ImageGrid
) -> ParallelBeam | FanBeam:
    """The geometry, with a detector that sees all of the grid where none is given.

    Args:
        command: with ``views`` and ``arc``.
        keys: of :func:`beam_keys`.
        grid: the pixels of the object.

    Raises:
        InputError: no such beam can be.
    """
    views, keys = _views(command, keys), dict(keys)
    reach = math.hypot(*grid.size_mm) / 2
    magnification, half = 1.0, reach
    if keys["geometry"] == "fanflat":
        source = positive_mm("source_origin_mm", keys["source_origin_mm"])
        if source <= reach:
            raise InputError(
                f"the source must stand outside of the image, whose corners are {reach:.4g} mm "
                f"from the axis, got source_origin_mm {source:g}; move it away or shrink the image."
            )
        whole = source + finite_real("origin_detector_mm", keys["origin_detector_mm"])
        magnification, half = whole / source, whole * math.tan(math.asin(reach / source))
    pitch = keys.setdefault("det_pixel_mm", grid.pixel_mm * magnification)
    num_detectors = keys.setdefault(
        "num_detectors", math.ceil(2 * half / positive_mm("det_pixel_mm", pitch)) | 1
    )
    if not any(key in keys for key in ANGLE_KEYS):
        arc = command.arc
        if arc is None:
            arc = dict(BEAMS.values())[keys["geometry"]]
        if finite_real("--arc", arc) == 0:
            raise InputError("--arc must not be 0; give the degrees that the views span.")
        keys["step_deg"] = arc / views
    return build_geometry(keys, (views, num_detectors), [])


def _views(command: argparse.Namespace, keys: dict[str, Any]) -> int:
    """Number of views: that of the listed angles, which may be said once more, or ``--views``."""
    listed = next((keys[key] for key in ("angles", "angles_deg") if key in keys), None)
    views = None if command.views is None else positive_int("--views", command.views)
    if listed is None:
        return VIEWS if views is None else views
    count = len(number_tuple("angles", listed))
    if views not in (None, count):
        raise InputError(
            f"{command.geometry} lists {count} angles, got --views {views}; leave it out, or give "
            "--arc to replace them."
        )
    return count
