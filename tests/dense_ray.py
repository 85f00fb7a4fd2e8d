"""The system matrix by its definition, without any projector: the dense truth of `pdip.ray`.

Every ray is a line through (point) along (direction); the weight of a pixel follows from the
definition of the projector, written down pixel by pixel in float64.
"""

import numpy as np


def ray_lines(geometry, detector_mm):
    """Points on and unit directions of the rays to detector positions u: (views, len(u), 2)."""
    angles = geometry.angles_rad[:, None, None]
    axis = np.concatenate([np.cos(angles), np.sin(angles)], axis=2)
    beam = np.concatenate([np.sin(angles), -np.cos(angles)], axis=2)
    offsets = axis * np.asarray(detector_mm)[None, :, None]
    if not hasattr(geometry, "source_origin_mm"):
        return offsets, np.broadcast_to(beam, offsets.shape)
    target = offsets - geometry.origin_detector_mm * beam
    direction = target - geometry.source_origin_mm * beam
    return target, direction / np.linalg.norm(direction, axis=2, keepdims=True)


def detector_centres_mm(geometry):
    """u of the detector elements: the definition of ``detector_shift_mm``."""
    index = np.arange(geometry.num_detectors) - (geometry.num_detectors - 1) / 2
    return index * geometry.detector_pitch_mm + geometry.detector_shift_mm


def line_weights(geometry, grid, detector_mm):
    """Length of each ray inside each pixel, by clipping it to the square: (rays, pixels)."""
    point, direction = (v.reshape(-1, 1, 1, 2) for v in ray_lines(geometry, detector_mm))
    x, y = grid.centres_mm()
    centre = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)
    with np.errstate(divide="ignore"):
        first = (centre - grid.pixel_mm / 2 - point) / direction
        last = (centre + grid.pixel_mm / 2 - point) / direction
    enter, leave = np.minimum(first, last).max(-1), np.maximum(first, last).min(-1)
    return np.maximum(leave - enter, 0).reshape(len(point), -1)


def linear_weights(geometry, grid, detector_mm):
    """Joseph's weights: interpolation between pixel centres in each row or column crossed."""
    point, direction = (v.reshape(-1, 2) for v in ray_lines(geometry, detector_mm))
    x, y = grid.centres_mm()
    rows = []
    for (px, py), (dx, dy) in zip(point, direction, strict=True):
        if abs(dy) >= abs(dx):
            distance = (px + (y - py) * dx / dy)[:, None] - x[None, :]
        else:
            distance = (py + (x - px) * dy / dx)[None, :] - y[:, None]
        step = grid.pixel_mm / max(abs(dx), abs(dy))
        rows.append((step * np.maximum(1 - np.abs(distance) / grid.pixel_mm, 0)).ravel())
    return np.stack(rows)


def strip_weights(geometry, grid, detector_mm, subrays=300):
    """The mean of the line weights over the width of a detector element."""
    offsets = ((np.arange(subrays) + 0.5) / subrays - 0.5) * geometry.detector_pitch_mm
    return np.mean([line_weights(geometry, grid, detector_mm + o) for o in offsets], axis=0)


def dense_ray(geometry, grid, projector):
    """A of (views * detectors, height * width) in mm, float64.

    "linear" in a fan beam means "line", as on the CPU; "joseph" is linear in both beams.
    """
    if projector == "linear" and hasattr(geometry, "source_origin_mm"):
        projector = "line"
    weights = {
        "line": line_weights,
        "linear": linear_weights,
        "joseph": linear_weights,
        "strip": strip_weights,
    }
    return weights[projector](geometry, grid, detector_centres_mm(geometry))
