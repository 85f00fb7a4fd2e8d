"""The 2-D geometry as one plane, or a stack of equal planes, of ASTRA's 3-D geometries.

ASTRA's 3-D volumes have row 0 at the smallest y, ours at the largest, so every vector here is
mirrored at y = 0: the image then needs no flip. Plane k of a stack lies at ``z = (k - (n-1)/2) p``
with p the side of a pixel, as thick as it is high; row k of the detector lies in the same plane.
Vectors are (views, 3) in (x, y, z) and mm, named as in ASTRA's ``parallel3d_vec`` and ``cone_vec``.
"""

import numpy as np

from pdip.ray.vectors import Vectors, beam_axis, detector_axis, detector_positions_mm, is_fan

MAX_PLANES = 1024
"""Planes in one call; the 3-D textures of every CUDA GPU hold more."""

CALL_BYTES = 2**28
"""Images or sinograms in one call. ASTRA takes textures of that size beside them; where they do not
fit it would split the volume, which it cannot do with tensors of the GPU."""


def planes_at_once(geometry, grid) -> int:
    """How many images of a batch go into one volume, at least one."""
    height, width = grid.shape
    largest = 4 * max(height * width, geometry.num_views * geometry.num_detectors)
    return min(MAX_PLANES, max(1, CALL_BYTES // largest))


def lifted(vectors: Vectors) -> Vectors:
    """(views, 2) vectors of the scan as (views, 3) vectors in the mirrored plane z = 0."""
    mirrored = vectors * np.array([1.0, -1.0])
    return np.pad(mirrored, ((0, 0), (0, 1)))


def slab_vectors(geometry, grid) -> tuple[Vectors, Vectors, Vectors, Vectors]:
    """Ray direction (parallel) or source (fan), detector centre, and detector steps u and v.

    A step along v is one plane, ``grid.pixel_mm``.
    """
    beam, axis = beam_axis(geometry), detector_axis(geometry)
    centre = geometry.detector_shift_mm * axis
    first = beam
    if is_fan(geometry):
        first = geometry.source_origin_mm * beam
        centre = centre - geometry.origin_detector_mm * beam
    step_v = np.zeros((geometry.num_views, 3))
    step_v[:, 2] = grid.pixel_mm
    return lifted(first), lifted(centre), lifted(geometry.detector_pitch_mm * axis), step_v


def slab_extent_mm(grid, planes: int) -> tuple[float, float, float]:
    """Size of a stack of planes along (z, y, x)."""
    height_mm, width_mm = grid.size_mm
    return planes * grid.pixel_mm, height_mm, width_mm


def obliquity(geometry) -> Vectors:
    """``1 / cos γ`` of each detector element's ray in a fan beam, 1 in a parallel beam.

    ASTRA's GPU backprojections weigh a pixel by the magnification over the pitch. The number of
    rays through it, which the adjoint counts, is larger by this factor, because rays that meet the
    detector at the fan angle γ lie closer together than its elements.

    Returns:
        (detectors,) factors, >= 1.
    """
    if not is_fan(geometry):
        return np.ones(geometry.num_detectors)
    source_detector = geometry.source_origin_mm + geometry.origin_detector_mm
    return np.hypot(1.0, detector_positions_mm(geometry) / source_detector)
