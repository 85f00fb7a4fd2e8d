"""Where source and detector stand in each view: the geometry as plain 2-D vectors.

The convention is ASTRA's. At view angle ``t`` the detector axis is ``u = (cos t, sin t)`` and rays
travel along ``(sin t, -cos t)``, so angles increase counter-clockwise. In a fan beam the source
stands at ``source_origin_mm * (sin t, -cos t)`` and the detector centre at
``origin_detector_mm * (-sin t, cos t) + detector_shift_mm * u``.
"""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]


def is_fan(geometry) -> bool:
    """True for a fan beam: only there does the source have a finite distance."""
    return hasattr(geometry, "source_origin_mm")


def detector_axis(geometry) -> Vectors:
    """Unit vector u along the detector, towards larger detector index: (views, 2)."""
    angles = np.asarray(geometry.angles_rad)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def beam_axis(geometry) -> Vectors:
    """Unit vector (sin t, -cos t): (views, 2).

    Along the rays of a parallel beam; from the rotation axis towards the source of a fan beam.
    """
    angles = np.asarray(geometry.angles_rad)
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def detector_positions_mm(geometry) -> Vectors:
    """Signed position of every detector pixel centre along u: ``(k - (n-1)/2) pitch + shift``."""
    index = np.arange(geometry.num_detectors) - (geometry.num_detectors - 1) / 2
    return index * geometry.detector_pitch_mm + geometry.detector_shift_mm
