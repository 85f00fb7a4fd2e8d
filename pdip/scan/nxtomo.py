"""NeXus NXtomo: one series of frames, of which an image key tells views, flats and darks.

<entry>/instrument/detector/data        (frames, rows, detectors)
<entry>/instrument/detector/image_key   (frames,): 0 view, 1 flat field, 2 dark field, 3 invalid
<entry>/sample/rotation_angle           (frames,), unit in the attribute ``units``
<entry>/instrument/detector/x_pixel_size  optional, unit in the attribute ``units``

Definition: NeXus application definition NXtomo, https://manual.nexusformat.org.
"""

from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.dxchange import angles_in_degrees
from pdip.scan.hdf5 import at, is_dataset, is_group, objects, rows_of, text_attribute, values
from pdip.scan.units import MILLIMETRES, factor

DATA, KEY = "instrument/detector/data", "instrument/detector/image_key"
ANGLE, PIXEL = "sample/rotation_angle", "instrument/detector/x_pixel_size"
VIEW, FLAT, DARK = 0, 1, 2


def entries(file) -> list[str]:
    """The entries of an open HDF5 file that have the layout, by name."""
    groups = [item.name.rstrip("/") for item in objects(file) if is_group(item)]
    return [
        entry
        for entry in groups
        if all(is_dataset(at(file, f"{entry}/{part}")) for part in (KEY, DATA))
    ]


def read_nxtomo(file, entry: str, path: Path) -> dict:
    """The keys of one entry; the arrays stay in the file, (rows, frames, detectors).

    Raises:
        InputError: a part of it cannot be used.
    """
    item, key = at(file, f"{entry}/{DATA}"), values(at(file, f"{entry}/{KEY}"), "image_key", path)
    every = rows_of(item, path)
    if isinstance(key, str) or key.shape != (every.shape[1],):
        raise InputError(
            f"image_key in {path.name} must tell what each of the {every.shape[1]} frames is."
        )
    views, flats, darks = (np.flatnonzero(key == kind) for kind in (VIEW, FLAT, DARK))
    if not len(views):
        raise InputError(f"image_key in {path.name} marks no frame as a view (0).")
    fields = {"counts": rows_of(item, path, views), "data_kind": "counts"}
    for name, frames in (("flat", flats), ("dark", darks)):
        if len(frames):
            fields[name] = rows_of(item, path, frames)
    angle = at(file, f"{entry}/{ANGLE}")
    if angle is not None:
        angles, fields["assumptions"] = angles_in_degrees(angle, "rotation_angle", path)
        if len(angles) != len(key):
            raise InputError(
                f"rotation_angle in {path.name} has {len(angles)} values for {len(key)} frames."
            )
        fields["angles_deg"] = angles[views]
    pixel_mm, said = _pixel_mm(at(file, f"{entry}/{PIXEL}"), path)
    if pixel_mm is not None:
        fields["det_pixel_mm"] = pixel_mm
    return fields | {"assumptions": fields.get("assumptions", ()) + said}


def _pixel_mm(item, path: Path) -> tuple[float | None, tuple[str, ...]]:
    """The detector pitch, and what is said where it cannot be used."""
    if item is None:
        return None, ()
    size, unit = values(item, "x_pixel_size", path), text_attribute(item, "units")
    if isinstance(size, str) or np.size(size) != 1:
        raise InputError(f"x_pixel_size in {path.name} must be one number.")
    if not unit:
        return None, ("x_pixel_size has no unit and is not used.",)
    return float(np.ravel(size)[0]) * factor(unit, MILLIMETRES, "x_pixel_size"), ()
