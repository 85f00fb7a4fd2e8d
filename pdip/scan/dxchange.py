"""DXchange HDF5, as written at the Advanced Photon Source: counts with flat and dark fields.

/exchange/data        (views, rows, detectors)
/exchange/data_white  (frames, rows, detectors), flat field
/exchange/data_dark   (frames, rows, detectors)
/exchange/theta       (views,), degrees unless its attribute ``units`` says otherwise

De Carlo et al. (2014), Scientific data exchange, J. Synchrotron Rad. 21, 1224.
"""

from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.hdf5 import at, is_dataset, rows_of, text_attribute, values
from pdip.scan.units import DEGREES, factor

GROUP = "exchange"


def is_dxchange(file) -> bool:
    """Whether an open HDF5 file has the layout."""
    return is_dataset(at(file, f"{GROUP}/data"))


def read_dxchange(file, path: Path) -> dict:
    """The keys of an open file; the arrays stay in it, (rows, frames, detectors).

    Raises:
        InputError: a part of it cannot be used.
    """
    data = rows_of(at(file, f"{GROUP}/data"), path)
    fields = {"assumptions": ()}
    for key, name in (("flat", "data_white"), ("dark", "data_dark")):
        item = at(file, f"{GROUP}/{name}")
        if item is not None:
            fields[key] = _of_detector(rows_of(item, path), data, name, path)
    if "flat" in fields or data.dtype.kind in "iu":
        fields |= {"counts": data, "data_kind": "counts"}
    else:
        fields |= {"sinogram": data, "data_kind": "line_integrals"}
        fields["assumptions"] += (
            "The values of exchange/data are taken as line integrals: they are no whole numbers "
            "and there is no data_white.",
        )
    theta = at(file, f"{GROUP}/theta")
    if theta is not None:
        fields["angles_deg"], said = angles_in_degrees(theta, "exchange/theta", path)
        fields["assumptions"] += said
    return fields


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
