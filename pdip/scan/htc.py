"""The records that the Helsinki Tomography Challenge and its laboratory save: data and geometry.

CtDataFull (or CtDataLimited, ...): ``sinogram`` (views, detectors), line integrals, and
``parameters`` with distances, angles in degrees and the detector's pixel after binning.

Meaney, Silva de Moura, Siltanen (2022), doi:10.5281/zenodo.6984868.
"""

import numpy as np

from pdip.errors import InputError
from pdip.scan.checks import finite_real, shown
from pdip.scan.units import MILLIMETRES, factor


def is_htc(value) -> bool:
    """Whether a variable of a MATLAB file is such a record."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("parameters"), dict)
        and isinstance(value.get("sinogram"), np.ndarray)
    )


def htc_fields(record: dict, name: str) -> dict:
    """The keys of one record.

    Args:
        record: as :func:`is_htc` knows it.
        name: of the variable, for messages.

    Raises:
        InputError: a parameter is missing or has an unusable value.
    """
    parameters = record["parameters"]

    def given(key: str):
        if key not in parameters:
            raise InputError(f"the parameters of {name} lack {key!r}; give a --geometry file.")
        return parameters[key]

    kind = given("geometryType")
    if not isinstance(kind, str) or kind.lower() not in ("cone", "fan"):
        raise InputError(f"geometryType of {name} must be 'Cone', got {shown(kind)}.")
    unit = factor(str(given("distanceUnit")), MILLIMETRES, f"the distances of {name}")
    source, detector = (
        finite_real(key, given(key)) * unit
        for key in ("distanceSourceOrigin", "distanceSourceDetector")
    )
    pixel = "pixelSizePost" if "pixelSizePost" in parameters else "pixelSize"
    return {
        "sinogram": record["sinogram"],
        "data_kind": "line_integrals",
        "geometry": "fanflat",
        "angles_deg": np.atleast_1d(given("angles")),
        "det_pixel_mm": finite_real(pixel, given(pixel)) * unit,
        "source_origin_mm": source,
        "origin_detector_mm": detector - source,
    }
