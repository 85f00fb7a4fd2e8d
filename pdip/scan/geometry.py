r"""Where the rays of a scan run: parallel beams and fan beams.

Lengths in mm, angles in degrees at the border (``angles_deg``) and in radians inside
(``angles_rad``). Angles increase counter-clockwise. The rotation axis is the origin; x points
right, y up, image row 0 has the largest y. Drawn at view angle t = 0:

      parallel                                  fan
                                                         o    c
       -------o----c------>  u              -------------+----+---->  u
       |  |   |    |  |                        \         |    /   |
       |  |   |    |  |                          \       |   /    | OD = origin_detector_mm
       |  |   + axis  |                            \     + axis   x
       |  |   |    |  |                              \   | /      |
       v  v   v    v  v  rays                          \ |/       | SO = source_origin_mm
                                                         source   x

o is where the ray through the axis hits the detector (index ``cor``), c is the middle of the
detector. ``detector_shift_mm`` is the signed distance from o to c along +u:

    detector_shift_mm = ((num_detectors - 1) / 2 - cor) * detector_pitch_mm

It is positive in the picture. Element i lies at u = (i - cor) * detector_pitch_mm. At view
angle t everything is turned by t: u = (cos t, sin t), parallel rays run along (sin t, -cos t),
the source stands at SO (sin t, -cos t), the detector at OD (-sin t, cos t).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pdip.errors import InputError
from pdip.scan.checks import (
    Angles,
    finite_real,
    number_tuple,
    positive_int,
    positive_mm,
    shown,
    view_indices_within,
)
from pdip.scan.grid import ImageGrid

FIELD_OF_VIEW_MM = (1e-3, 1e4)
"""Widths of the field of view that are believed; outside, a unit is wrong."""
MAX_ANGLE_DEG = 36000.0
FAN_ANGLE_DEG = (0.02, 150.0)
"""Full fan angles that are believed; outside, distance and pitch are in different units."""


class Geometry(ABC):
    """What both beams share; the fields are declared by the two final classes below."""

    angles_deg: Angles
    num_detectors: int
    detector_pitch_mm: float
    detector_shift_mm: float

    @abstractmethod
    def ray_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Every ray as the line {p : p . (cos a, sin a) = s}.

        Returns:
            a in radians and s in mm, both (views, detectors) float64.
        """

    @abstractmethod
    def distance_from_axis_mm(self, detector_mm: float) -> float:
        """Distance from the axis to the ray that hits the detector at u = ``detector_mm``."""

    @abstractmethod
    def to_dict(self) -> dict:
        """The keys and values that :func:`geometry_from_dict` and a sidecar YAML read."""

    @classmethod
    def from_cor(
        cls, angles_deg: Angles, num_detectors: int, *args, cor: float, **settings
    ) -> "ParallelBeam | FanBeam":
        """Build from ``cor`` in place of ``detector_shift_mm``.

        Args:
            angles_deg, num_detectors, args, settings: as for the class, without the shift.
            cor: 0-based fractional detector index hit by the ray through the rotation axis;
                (num_detectors - 1) / 2 is a centred detector.
        """
        centred = cls(angles_deg, num_detectors, *args, **settings)
        shift = ((centred.num_detectors - 1) / 2 - finite_real("cor", cor)) * (
            centred.detector_pitch_mm
        )
        return replace(centred, detector_shift_mm=shift)

    @property
    def angles_rad(self) -> np.ndarray:
        """View angles in radians, (views,) float64."""
        return np.deg2rad(np.array(self.angles_deg, dtype=np.float64))

    @property
    def num_views(self) -> int:
        """Number of views."""
        return len(self.angles_deg)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the sinogram: (views, detectors)."""
        return self.num_views, self.num_detectors

    @property
    def cor(self) -> float:
        """0-based fractional detector index hit by the ray through the rotation axis."""
        return (self.num_detectors - 1) / 2 - self.detector_shift_mm / self.detector_pitch_mm

    @property
    def detector_mm(self) -> np.ndarray:
        """Position u of the detector elements in mm, (detectors,) float64; 0 is on the axis ray."""
        return (np.arange(self.num_detectors) - self.cor) * self.detector_pitch_mm

    def select(self, view_indices: Sequence[int] | np.ndarray) -> "ParallelBeam | FanBeam":
        """Return the geometry of the views listed, in that order.

        Raises:
            InputError: no view is listed, or one does not exist.
        """
        indices = view_indices_within(view_indices, self.num_views)
        return replace(self, angles_deg=tuple(self.angles_deg[i] for i in indices))

    def inscribed_grid(self, image_size: int | None = None) -> ImageGrid:
        """Return the square inscribed in the circle that every view sees completely.

        Args:
            image_size: pixels along a side; default: num_detectors / sqrt(2), so that a pixel is
                about as wide as a detector element seen from the axis.
        """
        side = math.sqrt(2) * self._edge_distances_mm()[0]
        return self._square_grid(side, image_size, self.num_detectors / math.sqrt(2))

    def covering_grid(self, image_size: int | None = None) -> ImageGrid:
        """Return the square around the circle that any ray touches; default num_detectors wide."""
        side = 2 * self._edge_distances_mm()[1]
        return self._square_grid(side, image_size, self.num_detectors)

    def _square_grid(self, side: float, image_size: int | None, pixels: float) -> ImageGrid:
        if image_size is None:
            image_size = max(1, math.floor(pixels + 1e-9))
        image_size = positive_int("image size", image_size)
        return ImageGrid((image_size, image_size), side / image_size)

    def _edge_distances_mm(self) -> tuple[float, float]:
        """Distances from the axis to the rays at the near and the far edge of the detector."""
        half = self.num_detectors * self.detector_pitch_mm / 2
        shift = abs(self.detector_shift_mm)
        return self.distance_from_axis_mm(half - shift), self.distance_from_axis_mm(half + shift)

    def _check(self) -> None:
        """Bring the shared fields to their types and check them."""
        angles = number_tuple("angles_deg", self.angles_deg)
        if max(map(abs, angles)) > MAX_ANGLE_DEG:
            raise InputError(
                f"angles_deg must stay within {MAX_ANGLE_DEG:g} degrees, got "
                f"{max(angles, key=abs):g}; check the file."
            )
        pitch = positive_mm("detector_pitch_mm", self.detector_pitch_mm)
        num_detectors = positive_int("number of detectors", self.num_detectors)
        shift = finite_real("detector_shift_mm", self.detector_shift_mm)
        object.__setattr__(self, "angles_deg", angles)
        object.__setattr__(self, "num_detectors", num_detectors)
        object.__setattr__(self, "detector_pitch_mm", pitch)
        object.__setattr__(self, "detector_shift_mm", shift)
        if abs(shift) >= num_detectors * pitch / 2:
            raise InputError(
                f"the ray through the rotation axis must hit the detector (0 to "
                f"{num_detectors - 1}), but cor is {self.cor:.6g}; check cor, the shift and units."
            )

    def _check_field_of_view(self) -> None:
        low, high = FIELD_OF_VIEW_MM
        width = 2 * self._edge_distances_mm()[1]
        if not low <= width <= high:
            raise InputError(
                f"the field of view is {width:.3g} mm wide, expected {low:g} to {high:g} mm; "
                "give all lengths in mm."
            )


@dataclass(frozen=True)
class ParallelBeam(Geometry):
    """Parallel rays of direction (sin t, -cos t), detector axis u = (cos t, sin t).

    Args:
        angles_deg: view angles t, (views,), any finite values in any order.
        num_detectors: detector elements.
        detector_pitch_mm: width of an element.
        detector_shift_mm: middle of the detector along +u (picture in the module docstring).

    Raises:
        InputError: a size is not positive or a unit is not plausible.
    """

    angles_deg: Angles
    num_detectors: int
    detector_pitch_mm: float = 1.0
    detector_shift_mm: float = 0.0

    def __post_init__(self) -> None:
        self._check()
        self._check_field_of_view()

    def distance_from_axis_mm(self, detector_mm: float) -> float:
        """Distance from the axis to the ray at u: |u|."""
        return abs(detector_mm)

    def ray_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a = t and s = u for every ray, (views, detectors) each."""
        angles, offsets = np.broadcast_arrays(self.angles_rad[:, None], self.detector_mm[None, :])
        return angles.copy(), offsets.copy()

    def to_dict(self) -> dict:
        """Keys of a sidecar YAML; ``geometry_from_dict`` is the inverse."""
        return {"geometry": "parallel", **_shared_keys(self)}


@dataclass(frozen=True)
class FanBeam(Geometry):
    """Rays from a point source to a flat detector.

    Source at SO (sin t, -cos t), detector middle at OD (-sin t, cos t) + shift u with
    u = (cos t, sin t); SO = ``source_origin_mm``, OD = ``origin_detector_mm``.

    Args:
        angles_deg, num_detectors, detector_pitch_mm, detector_shift_mm: as for ParallelBeam.
        source_origin_mm: distance from the source to the rotation axis, positive.
        origin_detector_mm: distance from the rotation axis to the detector, zero or more.

    Raises:
        InputError: a size is not positive or a unit is not plausible.
    """

    angles_deg: Angles
    num_detectors: int
    detector_pitch_mm: float
    source_origin_mm: float
    origin_detector_mm: float
    detector_shift_mm: float = 0.0

    def __post_init__(self) -> None:
        self._check()
        source = positive_mm("source_origin_mm", self.source_origin_mm)
        detector = finite_real("origin_detector_mm", self.origin_detector_mm)
        if detector < 0:
            raise InputError(
                f"origin_detector_mm is a distance and must not be negative, got {detector:g}."
            )
        object.__setattr__(self, "source_origin_mm", source)
        object.__setattr__(self, "origin_detector_mm", detector)
        self._check_fan_angle()
        self._check_field_of_view()

    @property
    def source_detector_mm(self) -> float:
        """Distance from the source to the detector."""
        return self.source_origin_mm + self.origin_detector_mm

    def distance_from_axis_mm(self, detector_mm: float) -> float:
        """Distance from the axis to the ray at u: SO |u| / sqrt(u^2 + (SO + OD)^2)."""
        hypotenuse = math.hypot(detector_mm, self.source_detector_mm)
        return self.source_origin_mm * abs(detector_mm) / hypotenuse

    def ray_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a = t - g, s = SO sin g with tan g = u / (SO + OD), (views, detectors) each."""
        fan_rad = np.arctan2(self.detector_mm, self.source_detector_mm)
        angles = self.angles_rad[:, None] - fan_rad[None, :]
        offsets = self.source_origin_mm * np.sin(fan_rad)
        return angles, np.broadcast_to(offsets, self.shape).copy()

    def to_dict(self) -> dict:
        """Keys of a sidecar YAML; ``geometry_from_dict`` is the inverse."""
        return {
            "geometry": "fanflat",
            **_shared_keys(self),
            "source_origin_mm": self.source_origin_mm,
            "origin_detector_mm": self.origin_detector_mm,
        }

    def _check_fan_angle(self) -> None:
        low, high = FAN_ANGLE_DEG
        width = self.num_detectors * self.detector_pitch_mm
        fan_deg = 2 * math.degrees(math.atan2(width / 2, self.source_detector_mm))
        if not low <= fan_deg <= high:
            raise InputError(
                f"a detector {width:g} mm wide at {self.source_detector_mm:g} mm from the source "
                f"opens a fan of {fan_deg:.3g} degrees, expected {low:g} to {high:g}; "
                "give all lengths in mm."
            )


def _shared_keys(geometry: Geometry) -> dict:
    return {
        "angles_deg": list(geometry.angles_deg),
        "num_detectors": geometry.num_detectors,
        "det_pixel_mm": geometry.detector_pitch_mm,
        "detector_shift_mm": geometry.detector_shift_mm,
    }


def geometry_from_dict(keys: Mapping) -> ParallelBeam | FanBeam:
    """Build a geometry from the dictionary that ``to_dict`` returned.

    Raises:
        InputError: a key is missing or a value is not usable.
    """
    try:
        shared = (keys["angles_deg"], keys["num_detectors"], keys["det_pixel_mm"])
        shift = keys["detector_shift_mm"]
        if keys["geometry"] == "parallel":
            return ParallelBeam(*shared, shift)
        if keys["geometry"] == "fanflat":
            return FanBeam(*shared, keys["source_origin_mm"], keys["origin_detector_mm"], shift)
    except KeyError as missing:
        raise InputError(f"the geometry lacks the key {missing.args[0]!r}.") from None
    raise InputError(f"geometry must be 'parallel' or 'fanflat', got {shown(keys['geometry'])}.")
