"""What HDF5 files note of the instrument: used where its meaning is beyond doubt, and said to be
there where it is not."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.checks import shown
from pdip.scan.hdf5 import at, is_dataset, text_attribute, values
from pdip.scan.units import MILLIMETRES, factor

DISTANCE = (
    "as no geometry is told from distances; for a fan beam give geometry: fanflat, "
    "source_origin_mm, origin_detector_mm and det_pixel_mm in a geometry file"
)
"""Why the distance of a source or a detector is not used."""


def found_not_used(file, places: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """One sentence for each reason why something that is in a file is not used.

    Args:
        file: open.
        places: name of a data set -> why it is not used, and what to do.
        path: of the file.
    """
    told: dict[str, list[str]] = {}
    for place, why in places.items():
        noted = _noted(file, place, path)
        if noted:
            told.setdefault(why, []).append(noted)
    return tuple(
        f"Found but not used: {' and '.join(noted)}, {why}." for why, noted in told.items()
    )


def pitch_mm(file, place: str, path: Path) -> tuple[float | None, tuple[str, ...]]:
    """The width of a detector element that a file notes, and what is said where it cannot be used.

    Args:
        file: open.
        place: name of the data set, one number with its unit in the attribute ``units``.
        path: of the file.
    """
    item = _there(file, place)
    if item is None:
        return None, ()
    unit = text_attribute(item, "units")
    try:
        size = np.ravel(values(item, place, path) if item.size == 1 else np.nan)
        if size.dtype.kind not in "iuf" or not 0 < size[0] < np.inf:
            why = "as it is not one number above 0"
        elif not unit:
            why = "as it has no unit"
        else:
            return float(size[0]) * factor(unit, MILLIMETRES, place), ()
    except InputError:
        why = f"as its unit {shown(unit)} is none of a length, or it cannot be read"
    return None, found_not_used(file, {place: f"{why}; give det_pixel_mm in a geometry file"}, path)


def _there(file, place: str):
    """The data set of that name, where it is in this very file."""
    try:
        item = at(file, place)
    except InputError:
        return None
    return item if is_dataset(item) and item.shape is not None else None


def _noted(file, place: str, path: Path) -> str:
    """A data set in words; empty where there is none."""
    item = _there(file, place)
    if item is None or not item.size:
        return ""
    name = f"/{place.strip('/')}"
    if item.size > 1:
        return f"{name} ({item.size} values)"
    try:
        found = values(item, place, path)
    except InputError:
        return name
    text = shown(found) if isinstance(found, str) else f"{np.ravel(found)[0]:g}"
    return f"{name} ({' '.join((text, text_attribute(item, 'units')[:20])).strip()})"
