"""Whether the rotation axis is where a scan says, which is asked before any other mistake.

An axis in the wrong place spoils a scan in much the way that a wrong arc does, so it has to be
found before that can be named: first on the small copy that serves all readings, then, where that
puts it elsewhere, with its standard error on the finer one of :mod:`pdip.scan.axis_search`.
"""

from dataclasses import dataclass

import numpy as np

from pdip.scan.axis_search import FINE, RANGE, Copy, refined, standard_error, vertex
from pdip.scan.binning import counted, file_index
from pdip.scan.geometry import ParallelBeam
from pdip.scan.grid import ImageGrid
from pdip.scan.scan import Scan
from pdip.scan.view_fit import at_cor, unexplained

STEPS = (2, 5, 8)
"""Elements of the small copy by which the axis is moved to either side at first."""
CLIMB = (1.0, 0.5)
"""Steps that then lead to the best place, at most so many of each:"""
MOST_STEPS = 5
LEAST_ARC_DEG = 150.0
"""Views over less know the axis hardly better than where the object is."""
ELEMENTS = 1.0
"""Elements of the scan, and standard errors on the two copies, by which it has to be elsewhere."""
DOUBTED, SURE = 3.0, 5.0
BETTER = 1.5
"""Ratio of what is left over with the axis as read and as found, from which it is named."""
AXIS_REMEDY = " or --cor auto"
"""How the sentence ends on an axis that can be looked for."""
MIRRORED = 0.5
"""Elements of the small copy within which the axis found is the one read, from the other end."""


@dataclass(frozen=True)
class NearAxis:
    """Where a small copy of a scan has its axis.

    Attributes:
        index: detector index of the copy.
        standard_error: of it.
        left: what no image explains of each view with the axis there, (views,).
    """

    index: float
    standard_error: float
    left: np.ndarray


@dataclass(frozen=True)
class OtherAxis:
    """An axis that explains a scan clearly better than its own.

    Attributes:
        name: where it is, in words and elements of the file.
        remedy: what to give.
        before, after: roots of what no image explains, squared, with the axis as read and there.
    """

    name: str
    remedy: str
    before: float
    after: float


def near_axis(small: Scan, grid: ImageGrid) -> NearAxis | None:
    """Where the copy has its axis; None for views over too short an arc to tell.

    Args:
        small: the copy.
        grid: of its image, for all places.
    """
    beam = small.geometry
    if np.ptp(beam.angles_deg) <= LEAST_ARC_DEG:
        return None
    known: dict[float, np.ndarray] = {}

    def left_at(place: float) -> np.ndarray:
        if place not in known:
            known[place] = unexplained(small, at_cor(beam, place), grid)[0].numpy()
        return known[place]

    def total(place: float) -> float:
        return left_at(place).sum() if 0 < place < beam.num_detectors - 1 else np.inf

    steps = (0, *STEPS, *(-step for step in STEPS))
    best = min((*(beam.cor + step for step in steps), axis_by_mass(small)), key=total)
    for step in CLIMB:
        for _ in range(MOST_STEPS):
            before, best = best, min((best, best - step, best + step), key=total)
            if best == before:
                break
    places = best + CLIMB[-1] * np.arange(-1, 2)
    by_view = np.array([left_at(place) for place in places])
    index = vertex(places, by_view.sum(1))
    return NearAxis(index, standard_error(places, by_view), min(by_view, key=np.sum))


def other_axis(scan: Scan, small: Scan, near: NearAxis) -> OtherAxis | None:
    """The axis on a finer copy, if it is elsewhere and explains the scan clearly better.

    Args:
        scan: all of it.
        small: the copy, and
        near: its axis.
    """
    given, num_detectors = scan.geometry.cor, scan.geometry.num_detectors
    bins = small.geometry.detector_pitch_mm / scan.geometry.detector_pitch_mm
    off = abs(near.index - small.geometry.cor)
    if off * bins < ELEMENTS or off < DOUBTED * near.standard_error:
        return None
    middle, start = (num_detectors - 1) / 2, (near.index + 0.5) * bins - 0.5
    fine = Copy.of(scan, FINE, max(given, start, key=lambda place: abs(place - middle)))
    index, error = refined(fine, fine.index(start))
    cor, error = fine.original(index), fine.bins * error
    before, after = fine.errors(np.array([fine.index(given), index])).sum(1)
    if abs(cor - given) < max(ELEMENTS, SURE * error) or before < BETTER * after:
        return None
    mirrored, unit = num_detectors - 1 - given, scan.binning
    if abs(mirrored - cor) < MIRRORED * bins:
        name = "the axis is counted from the detector's other end"
        remedy = f"give --cor {file_index(mirrored, unit):.6g}{counted(unit)}"
        if isinstance(scan.geometry, ParallelBeam):  # which sees the two alike
            name, remedy = f"the detector is flipped, or {name}", f"reverse its axis, or {remedy}"
    else:
        place = f"{file_index(cor, unit):.2f}"
        name = f"the rotation axis is at {place} +- {unit * error:.2f} and not at "
        name += f"{file_index(given, unit):.6g}{counted(unit)}"
        remedy = f"give --cor {place}"
        if abs(cor - middle) < RANGE * num_detectors:
            remedy += AXIS_REMEDY
    return OtherAxis(name, remedy, float(before**0.5), float(after**0.5))


def axis_by_mass(small: Scan) -> float:
    """The detector index about which the centre of mass of the views swings as the object turns.

    ``c(t) = cor + x cos t + y sin t``, exact for a whole object in a parallel beam (Helgason and
    Ludwig's condition of order 1) and near it in a fan.
    """
    mass = small.sinogram.double().clamp(min=0).numpy()
    centre = mass @ np.arange(mass.shape[1]) / np.maximum(mass.sum(1), 1e-30)
    angles = np.array(small.geometry.angles_rad)
    swing = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    return float(np.linalg.lstsq(swing, centre, rcond=None)[0][0])
