"""NeXus NXtomo: one series of frames, of which an image key tells views, flats and darks.

<entry>/instrument/detector/data        (frames, rows, detectors)
<entry>/instrument/detector/image_key   (frames,): 0 view, 1 flat field, 2 dark field, 3 invalid
<entry>/sample/rotation_angle           (frames,), unit in the attribute ``units``
<entry>/instrument/detector/x_pixel_size  optional, unit in the attribute ``units``

Distances, the position of the axis and the beam monitor are said to be there.

Definition: NeXus application definition NXtomo, https://manual.nexusformat.org.
"""

from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.dxchange import angles_in_degrees
from pdip.scan.hdf5 import at, is_dataset, is_group, objects, rows_of, values
from pdip.scan.instrument_notes import DISTANCE, found_not_used, pitch_mm

DATA, KEY = "instrument/detector/data", "instrument/detector/image_key"
ANGLE, PIXEL = "sample/rotation_angle", "instrument/detector/x_pixel_size"
VIEW, FLAT, DARK = 0, 1, 2
NOT_USED = {
    "instrument/source/distance": DISTANCE,
    "instrument/detector/distance": DISTANCE,
    "instrument/detector/x_rotation_axis_pixel_position": (
        "as software counts it from the first element or from the middle; give --cor, counted from "
        "the first, or --cor auto"
    ),
    "control/data": (
        "as views are compared with the flats as they were counted; where the beam changed, divide "
        "the counts by it or give --scan.air_columns"
    ),
}
"""What an entry may note -> why it is not used."""


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
    fields.setdefault("assumptions", ())
    fields["assumptions"] += _left_out(key)
    pixel_mm, said = pitch_mm(file, f"{entry}/{PIXEL}", path)
    if pixel_mm is not None:
        fields["det_pixel_mm"] = pixel_mm
    places = {f"{entry}/{place}": why for place, why in NOT_USED.items()}
    fields["assumptions"] += said + found_not_used(file, places, path)
    return fields


def _left_out(key: np.ndarray) -> tuple[str, ...]:
    """What is said of frames that are neither views, nor flats, nor darks."""
    others = key[~np.isin(key, (VIEW, FLAT, DARK))]
    if not len(others):
        return ()
    kinds = ", ".join(f"{kind:g}" for kind in np.unique(others)[:8])
    return (
        f"{len(others)} of the {len(key)} frames are left out: their image_key is {kinds}, neither "
        "view (0), flat (1) nor dark (2).",
    )
