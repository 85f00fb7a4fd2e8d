"""Filtered backprojection for parallel and flat fan beams, in physical units and pure torch.

Parallel: ``x = ∫_0^π (q * h)(x·u) dt``. Fan, with the detector scaled to the rotation axis:
``x = ∫ w U⁻² ((q cos γ) * h) dt`` with ``U = 1 - x·b / R``, b the unit vector towards the source,
and redundancy weights w that sum to one over the two views of every line.
Sources: Kak and Slaney (1988), chapter 3, equations 29-36 and 85-97 (band-limited ramp, flat fan);
Noo, Defrise, Clackdoyle and Kudo (2002), equations 31-33 (redundancy weights of any arc).
"""

import math

import numpy as np
import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.ray.transform import RayTransform
from pdip.ray.vectors import beam_axis, detector_axis, detector_positions_mm, is_fan
from pdip.typing import Image, Sinogram

FILTERS = ("hann", "ramp")


def fbp(
    ray: RayTransform,
    sinogram: Sinogram,
    *,
    filter: str = "hann",
    weights: Sinogram | None = None,
) -> Image:
    """Filtered backprojection of ``sinogram`` onto the grid of ``ray``.

    The backprojection interpolates linearly on the detector, so every engine gives the same
    image. Views count by the angle they stand for: irregular angles, angles in any order, half,
    full and short scans are all right. An arc too short to see every line leaves the missing part
    at zero and no longer recovers values.

    Args:
        ray: gives geometry and grid.
        sinogram: line integrals, (*batch, views, detectors), dimensionless.
        filter: "hann" (ramp times a Hann window, the usual choice with noise) or "ramp".
        weights: (views, detectors); rays of weight 0 count as 0, and where they are a whole view,
            its neighbours stand for its angle.

    Returns:
        Attenuation, (*batch, height, width), 1/mm; zero where no ray passes.

    Raises:
        InputError: unknown filter, a sinogram that does not fit the geometry, or no ray of
            positive weight.
    """
    if filter not in FILTERS:
        raise InputError(f"fbp filter '{filter}' is unknown; expected one of: {', '.join(FILTERS)}")
    if tuple(sinogram.shape[-2:]) != ray.range_shape:
        raise InputError(
            f"sinogram has shape {tuple(sinogram.shape)} but the geometry has "
            f"{ray.range_shape[0]} views of {ray.range_shape[1]} detectors; was it transposed?"
        )
    geometry = ray.geometry
    if weights is not None:
        measured = (weights > 0).any(1)
        if not measured.any():
            raise InputError("expected a ray of positive weight, got none")
        sinogram = (sinogram * (weights > 0))[..., measured, :]
        geometry = geometry.select(measured.nonzero()[:, 0].tolist())
    angular = fan_weights(geometry) if is_fan(geometry) else parallel_weights(geometry)
    weighted = sinogram * torch.from_numpy(angular).to(sinogram)
    filtered = filter_rows(weighted, axis_pitch_mm(geometry), filter)
    return backproject(filtered, geometry, ray.grid)


def axis_pitch_mm(geometry) -> float:
    """Detector pitch as it appears at the rotation axis."""
    if not is_fan(geometry):
        return geometry.detector_pitch_mm
    source_detector = geometry.source_origin_mm + geometry.origin_detector_mm
    return geometry.detector_pitch_mm * geometry.source_origin_mm / source_detector


def filter_rows(sinogram: Tensor, pitch_mm: float, filter: str) -> Tensor:
    """Convolve every detector row with the band-limited ramp, zero-padded.

    ``h[0] = 1/(4 d²)``, ``h[k] = -1/(π k d)²`` for odd k, 0 for even k; times d for the integral
    (Kak and Slaney equation 61). The Hann window is applied in frequency.
    """
    count = sinogram.shape[-1]
    length = 2 ** math.ceil(math.log2(2 * count))
    offset = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.where(offset % 2 == 1, -1.0 / (np.pi * np.maximum(offset, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    response = np.fft.rfft(kernel).real / pitch_mm
    if filter == "hann":
        response *= 0.5 * (1 + np.cos(np.pi * np.arange(len(response)) / (len(response) - 1)))
    spectrum = torch.fft.rfft(sinogram, n=length) * torch.from_numpy(response).to(sinogram)
    return torch.fft.irfft(spectrum, n=length)[..., :count]


def backproject(sinogram: Tensor, geometry, grid) -> Tensor:
    """Sum over views of the row value where each pixel centre projects, times ``U⁻²`` in a fan."""
    (height, width), pixel = grid.shape, grid.pixel_mm
    options = {"dtype": sinogram.dtype, "device": sinogram.device}
    x = (torch.arange(width, **options) - (width - 1) / 2) * pixel
    y = ((height - 1) / 2 - torch.arange(height, **options))[:, None] * pixel
    axes, beams = detector_axis(geometry).tolist(), beam_axis(geometry).tolist()
    middle = (geometry.num_detectors - 1) / 2 + 1  # index in a row padded by one zero at each end
    padded = torch.nn.functional.pad(sinogram, (1, 1))
    last = padded.shape[-1] - 1
    image = sinogram.new_zeros(*sinogram.shape[:-2], height, width)
    for view in range(geometry.num_views):
        position, weight = project_points(x, y, axes[view], beams[view], geometry)
        index = (position - geometry.detector_shift_mm) / geometry.detector_pitch_mm + middle
        index = index.clamp(0, last)
        left = index.floor().clamp(max=last - 1)
        fraction, left = index - left, left.long()
        row = padded[..., view, :]
        values = row[..., left] * (1 - fraction) + row[..., left + 1] * fraction
        image = image + values * weight
    return image


def project_points(x: Tensor, y: Tensor, axis, beam, geometry) -> tuple[Tensor, Tensor | float]:
    """Detector coordinate u (mm) of the points (x, y) in one view, and their weight ``U⁻²``."""
    along = x * axis[0] + y * axis[1]
    if not is_fan(geometry):
        return along, 1.0
    source = geometry.source_origin_mm
    nearness = 1 - (x * beam[0] + y * beam[1]) / source
    return along * (1 + geometry.origin_detector_mm / source) / nearness, nearness**-2


def angular_gaps(angles_rad: np.ndarray, period: float) -> tuple[np.ndarray, float]:
    """The angle each view stands for, and the missing wedge.

    Half of the gap to each neighbour on a circle of ``period``. The widest gap is taken as a
    missing wedge when it is more than three times the next one: then the two end views stand for
    as much as the mean of the other gaps.

    Returns:
        (views,) angles in rad, and the unseen angle in rad (0 for a closed scan).
    """
    angles = np.mod(angles_rad, period)
    order = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[order], append=angles[order[0]] + period)
    missing = 0.0
    if len(gaps) > 1:
        widest = int(np.argmax(gaps))
        others = np.delete(gaps, widest)
        if gaps[widest] > 3 * others.max() and others.max() > 0:
            missing = gaps[widest] - others.mean()
            gaps[widest] = others.mean()
    weights = np.empty_like(angles)
    weights[order] = (gaps + np.roll(gaps, 1)) / 2
    return weights, missing


def parallel_weights(geometry) -> np.ndarray:
    """(views, 1): angle per view on the half circle, as opposite views see the same lines."""
    return angular_gaps(np.asarray(geometry.angles_rad), np.pi)[0][:, None]


def fan_weights(geometry) -> np.ndarray:
    """(views, detectors): angle per view, cosine of the fan angle, share in a line seen twice.

    The ray at fan angle γ in view t is seen again from ``t + π - 2γ``. With a soft arc window c,
    its share is ``c(t) / (c(t) + c(t + π - 2γ))`` (Noo 2002): one half in a full scan, one where
    the second view lies outside the arc.
    """
    angles = np.asarray(geometry.angles_rad)
    source_detector = geometry.source_origin_mm + geometry.origin_detector_mm
    fan = np.arctan2(detector_positions_mm(geometry), source_detector)
    weights, missing = angular_gaps(angles, 2 * np.pi)
    if missing == 0:
        share = np.full((len(angles), 1), 0.5)
    else:
        opposite = angles[:, None] + np.pi - 2 * fan
        window = arc_window(angles, missing, angles)[:, None]
        share = window / (window + arc_window(angles, missing, opposite))
    return weights[:, None] * share * np.cos(fan)


def arc_window(angles_rad: np.ndarray, missing: float, queries_rad: np.ndarray) -> np.ndarray:
    """1 inside the arc of ``angles_rad``, squared-cosine edges, 0 in the missing wedge.

    The arc reaches half a mean gap beyond its two end views, so no measured view gets zero.
    """
    ordered = np.sort(np.mod(angles_rad, 2 * np.pi))
    gaps = np.diff(ordered, append=ordered[0] + 2 * np.pi)
    after = (int(np.argmax(gaps)) + 1) % len(ordered)
    length = 2 * np.pi - missing
    margin = (gaps.max() - missing) / 2
    along = np.mod(queries_rad - ordered[after] + margin, 2 * np.pi)
    edge = min(max(np.deg2rad(10.0), 4 * margin), length / 2)
    inside = np.clip(np.minimum(along, length - along) / edge, 0.0, 1.0)
    return np.sin(np.pi / 2 * inside) ** 2
