"""DXchange HDF5, as written at the Advanced Photon Source: counts with flat and dark fields.

/exchange/data        (views, rows, detectors)
/exchange/data_white  (frames, rows, detectors), flat field
/exchange/data_dark   (frames, rows, detectors); of either, (rows, detectors) is one frame
/exchange/theta       (views,), degrees unless its attribute ``units`` says otherwise
/measurement/instrument/detector/actual_pixel_size_x  optional, width of an element at the sample

De Carlo et al. (2014), Scientific data exchange, J. Synchrotron Rad. 21, 1224.
"""

from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.hdf5 import at, is_dataset, rows_of, text_attribute, values
from pdip.scan.instrument_notes import DISTANCE, found_not_used, pitch_mm
from pdip.scan.units import DEGREES, factor

GROUP, INSTRUMENT = "exchange", "measurement/instrument"
PIXEL, CAMERA_PIXEL = (f"{INSTRUMENT}/detector/{n}pixel_size_x" for n in ("actual_", ""))
ENLARGED = (
    "as it is the size on the camera, and optics may enlarge; give det_pixel_mm, the size at the "
    "sample, in a geometry file"
)
FEWEST_DETECTORS = 16  # fewer beside as many rows or more are rows and detectors exchanged


def is_dxchange(file) -> bool:
    """Whether an open HDF5 file has the layout."""
    return is_dataset(at(file, f"{GROUP}/data"))


def read_dxchange(file, path: Path) -> dict:
    """The keys of an open file; the arrays stay in it, (rows, frames, detectors).

    Raises:
        InputError: a part of it cannot be used.
    """
    data = rows_of(at(file, f"{GROUP}/data"), path)
    theta = at(file, f"{GROUP}/theta")
    _check_order(data.shape, theta, path)
    fields = {"assumptions": ()}
    for key, name in (("flat", "data_white"), ("dark", "data_dark")):
        item = at(file, f"{GROUP}/{name}")
        if item is not None:
            frames = rows_of(item, path, axes=(2, 3))
            fields[key] = _of_detector(frames, data, name, path)
            if item.ndim == 2:
                fields["assumptions"] += (
                    f"{name} is one image, taken as one frame; if it is the mean of several, its "
                    "noise is less than is assumed.",
                )
    if "flat" in fields or data.dtype.kind in "iu":
        fields |= {"counts": data, "data_kind": "counts"}
    else:
        fields |= {"sinogram": data, "data_kind": "line_integrals"}
        fields["assumptions"] += (
            "The values of /exchange/data are taken as line integrals: they are no whole numbers "
            "and there is no data_white.",
        )
    if theta is not None:
        fields["angles_deg"], said = angles_in_degrees(theta, "/exchange/theta", path)
        fields["assumptions"] += said
    pixel_mm, said = pitch_mm(file, PIXEL, path)
    if pixel_mm is not None:
        fields["det_pixel_mm"] = pixel_mm
    places = {f"{INSTRUMENT}/{part}/distance": DISTANCE for part in ("source", "detector")}
    if pixel_mm is None:
        places[CAMERA_PIXEL] = ENLARGED
    fields["assumptions"] += said + found_not_used(file, places, path)
    return fields


def _check_order(shape: tuple[int, int, int], theta, path: Path) -> None:
    """Raise InputError where the axes of the views can only be in another order."""
    rows, views, detectors = shape
    if not views:
        raise InputError(f"/{GROUP}/data in {path.name} is empty: it has no view.")
    angles = theta.size if is_dataset(theta) else views
    stored = f"/{GROUP}/data in {path.name} is {views} x {rows} x {detectors}"
    order = f"{stored}, and DXchange orders its axes as views x rows x detectors"
    if angles != views and angles in (rows, detectors):
        raise InputError(
            f"{order}, but theta has {angles} angles; put the axis of length {angles} first."
        )
    if detectors < FEWEST_DETECTORS <= rows:
        raise InputError(
            f"{order}; {detectors} detectors beside {rows} rows are taken for an error: exchange "
            "the last two axes of data, data_white and data_dark."
        )


def angles_in_degrees(item, name: str, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The angles of a data set in degrees, and what is assumed of their unit."""
    angles = values(item, name, path)
    if isinstance(angles, str) or angles.dtype.kind not in "iuf" or angles.ndim != 1:
        raise InputError(f"{name} in {path.name} must be a row of angles, one for each frame.")
    unit = text_attribute(item, "units")
    if unit:
        return angles * factor(unit, DEGREES, name), ()
    return angles * 1.0, (f"{name} has no unit and is taken in degrees.",)


def _of_detector(frames, data, name: str, path: Path):
    """The frames, if they are of the detector of the views."""
    if (frames.shape[0], frames.shape[2]) != (data.shape[0], data.shape[2]):
        raise InputError(
            f"{name} in {path.name} has {frames.shape[0]} rows x {frames.shape[2]} detectors but "
            f"the views {data.shape[0]} x {data.shape[2]}; they must be of one detector."
        )
    return frames
