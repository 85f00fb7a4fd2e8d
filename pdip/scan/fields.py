"""From the keys of a file to a scan: one vocabulary for every format, each gap filled in the open.

What is not in the file is assumed, and each assumption is one sentence in ``Scan.assumptions``.
"""

import math
from dataclasses import replace

import numpy as np
import torch

from pdip.errors import InputError
from pdip.scan.binning import counted, joined_weights
from pdip.scan.bright_ends import is_brightest_at_the_ends
from pdip.scan.checks import finite_real, number_tuple, plural, positive_mm, shown
from pdip.scan.fitting_grid import build_grid, check_grid_holds
from pdip.scan.geometry import FanBeam, ParallelBeam
from pdip.scan.preprocessing import Measured, Preprocessing
from pdip.scan.scan import Scan, check_finite, check_shape, rays_tensor

GEOMETRY_KEYS = (
    "geometry",
    "angles",
    "angles_deg",
    "first_deg",
    "step_deg",
    "num_detectors",
    "det_pixel_mm",
    "cor",
    "detector_shift_mm",
    "source_origin_mm",
    "origin_detector_mm",
)
ANGLE_KEYS = ("angles", "angles_deg", "first_deg", "step_deg")
GRID_KEYS = ("image_shape", "pixel_mm")

LARGE_LINE_INTEGRAL = 100.0
MIDDLE_AXIS = "The rotation axis is taken to project onto the middle of the detector"
"""How the sentence begins on an axis that nothing gives."""


def scan_from_fields(fields: dict, assumptions: tuple[str, ...] = ()) -> Scan:
    """Build a scan from the keys of a file.

    Args:
        fields: ``sinogram`` or ``counts`` (views, detectors) and any of the keys of the data
            description.
        assumptions: sentences made before.

    Raises:
        InputError: a key is missing, contradicts another or has an unusable value.
    """
    said = list(assumptions)
    preprocessing = Preprocessing.of(fields)
    values = raw_values(fields, preprocessing, "(views, detectors)")
    sinogram, found = measured(values, preprocessing, said)
    geometry = build_geometry(fields, tuple(sinogram.shape), said)
    check_shape("sinogram", sinogram, geometry)
    values = sinogram.double().numpy()
    grid = build_grid(fields, lambda: values, geometry, said)
    if not is_brightest_at_the_ends(values):  # which is said of the values themselves
        said += check_grid_holds(values, grid, geometry)
    weights = with_mask(found, fields.get("weights"), preprocessing.binning)
    scan = Scan(sinogram, geometry, grid, weights, tuple(said), found.noise_std)
    return replace(scan, binning=preprocessing.binning)


def raw_values(fields: dict, preprocessing: Preprocessing, axes: str):
    """What of a file is to become line integrals: its counts where counts are asked for."""
    names = ("counts", "sinogram") if preprocessing.data_kind == "counts" else ("sinogram",)
    for name in names:
        if name in fields:
            return fields[name]
    raise InputError(f"the file has no key {names[-1]!r} {axes}; add it.")


def measured(
    values, preprocessing: Preprocessing, said: list[str]
) -> tuple[torch.Tensor, Measured]:
    """One slice as line integrals in float32, and with it its weights and noise level.

    Args:
        values: of the file, (views, detectors).
        preprocessing: what they are and what is to be done to them.
        said: receives what was done and assumed.

    Raises:
        InputError: they are no such values.
    """
    if preprocessing.data_kind == "line_integrals":
        values = line_integrals(values, said).numpy()
    else:
        check_axes(values)
    found = preprocessing.measured(values)
    said += found.said
    if preprocessing.data_kind == "line_integrals" and not found.said:
        return torch.from_numpy(values), found
    return line_integrals(found.sinogram, said), found


def with_mask(found: Measured, given, binning: int = 1):
    """Weights of photon statistics, 0 also where the file's own are; or the file's own, joined."""
    weights = found.weights
    if found.alive is not None:
        if given is None:
            full = np.full((len(found.sinogram), len(found.alive)), 1 / binning)
            return joined_weights(full, binning, found.alive)
        if np.shape(given)[-1:] == found.alive.shape:
            return joined_weights(given, binning, found.alive)
    if binning > 1 and getattr(given, "ndim", 0) and given.shape[-1] % binning == 0:
        given = joined_weights(given, binning)
    if weights is None or given is None:
        return given if weights is None else weights
    if np.shape(given) != weights.shape:
        raise InputError(
            f"weights have shape {np.shape(given)} but the counts {weights.shape}; give one weight "
            "for each ray, 0 where it is not to be used."
        )
    return np.where(np.asarray(given) > 0, weights, 0.0)


def check_axes(values) -> None:
    """Raise InputError unless ``values`` is an array of numbers of two axes, not empty."""
    if isinstance(values, str) or values.dtype.kind in "US":
        raise InputError("the sinogram must be an array of numbers, got text.")
    if values.ndim != 2:
        remedy = "; read a stack of slices with pdip.read_stack" if values.ndim == 3 else ""
        raise InputError(
            f"the sinogram must have two axes (views, detectors), got shape "
            f"{tuple(values.shape)}{remedy}."
        )
    if values.size == 0:
        raise InputError(f"the sinogram is empty, its shape is {tuple(values.shape)}.")


def line_integrals(values, said: list[str]) -> torch.Tensor:
    """Return one sinogram in float32; refuse what are no line integrals."""
    check_axes(values)
    with np.errstate(all="ignore"):
        sinogram = rays_tensor("sinogram", values.astype(np.float32))
    check_finite("sinogram", sinogram)
    largest = float(sinogram.max())
    if largest > LARGE_LINE_INTEGRAL and bool((sinogram == sinogram.round()).all()):
        raise InputError(
            f"the sinogram holds whole numbers up to {largest:g}, which look like photon counts; "
            "say --data-kind counts and give --scan.flat, or save -log(counts / flat field)."
        )
    mean = float(sinogram.double().mean())
    if mean < 0 or (mean == 0 and largest > 0):
        raise InputError(
            "the line integrals are negative on average; was the minus sign of "
            "-log(counts / flat field) forgotten?"
        )
    if largest > LARGE_LINE_INTEGRAL:
        said.append(
            f"WARNING: values up to {largest:.4g} are taken as line integrals, where no light "
            "would be left; if they are photon counts, say --data-kind counts and --scan.flat."
        )
    return sinogram


def build_geometry(fields: dict, shape: tuple[int, int], said: list[str]) -> ParallelBeam | FanBeam:
    """Return the geometry of sinograms of that shape; what is assumed goes to ``said``."""
    kind = _beam_kind(fields, said)
    angles_deg = _angles_deg(fields, shape[0], 180.0 if kind == "parallel" else 360.0, said)
    num_detectors = fields.get("num_detectors", shape[1])
    if "det_pixel_mm" in fields:
        pitch = positive_mm("det_pixel_mm", fields["det_pixel_mm"])
    elif kind == "parallel":
        pitch = 1.0
        said.append("The detector pitch is taken as 1 mm: lengths are in detector elements.")
    else:
        raise InputError("a fan beam needs the key 'det_pixel_mm', the width of an element in mm.")
    if kind == "parallel":
        beam, distances = ParallelBeam, ()
    else:
        missing = [key for key in ("source_origin_mm", "origin_detector_mm") if key not in fields]
        if missing:
            raise InputError(f"a fan beam needs the key {missing[0]!r}; add it in mm.")
        beam, distances = FanBeam, (fields["source_origin_mm"], fields["origin_detector_mm"])
    if "cor" in fields and "detector_shift_mm" in fields:
        raise InputError("'cor' and 'detector_shift_mm' say the same thing; give one of them.")
    if "cor" in fields:
        return beam.from_cor(angles_deg, num_detectors, pitch, *distances, cor=fields["cor"])
    if "detector_shift_mm" not in fields:
        binning = fields.get("binning", 1)
        said.append(f"{MIDDLE_AXIS}, cor = {(binning * shape[1] - 1) / 2:g}{counted(binning)}.")
    shift = fields.get("detector_shift_mm", 0.0)
    return beam(angles_deg, num_detectors, pitch, *distances, detector_shift_mm=shift)


def _beam_kind(fields: dict, said: list[str]) -> str:
    """Return 'parallel' or 'fanflat'."""
    convention = fields.get("angle_convention", "astra")
    if convention != "astra":
        raise InputError(f"angle_convention must be 'astra', got {shown(convention)}.")
    has_source = "source_origin_mm" in fields or "origin_detector_mm" in fields
    kind = fields.get("geometry")
    if kind is None and has_source:
        raise InputError("source distances are given but no geometry; add geometry: fanflat.")
    if kind is None:
        said.append("No geometry is given: parallel beam.")
        return "parallel"
    if not isinstance(kind, str) or kind not in ("parallel", "fanflat"):
        raise InputError(f"geometry must be 'parallel' or 'fanflat', got {shown(kind)}.")
    if kind == "parallel" and has_source:
        raise InputError("a parallel beam has no source distance; was geometry: fanflat meant?")
    return kind


def _angles_deg(fields: dict, num_views: int, arc_deg: float, said: list[str]) -> tuple[float, ...]:
    """Return the view angles in degrees from whichever key gives them."""
    given = [key for key in ("angles", "angles_deg", "step_deg") if key in fields]
    if len(given) > 1:
        raise InputError(f"{given[0]!r} and {given[1]!r} both give the view angles; keep one.")
    if "first_deg" in fields and given != ["step_deg"]:
        raise InputError("'first_deg' needs 'step_deg' beside it and no list of angles.")
    if not given:
        said.append(
            f"{plural(num_views, 'view')} equally spaced over {arc_deg:g} degrees, "
            "counter-clockwise from 0."
        )
        return tuple(arc_deg * view / num_views for view in range(num_views))
    if given == ["step_deg"]:
        first = finite_real("first_deg", fields.get("first_deg", 0.0))
        step = finite_real("step_deg", fields["step_deg"])
        if step == 0:
            raise InputError("step_deg must not be 0.")
        return tuple(first + step * view for view in range(num_views))
    angles = number_tuple(given[0], fields[given[0]])
    span = max(angles) - min(angles)
    if len(angles) >= 3 and span == 0:
        raise InputError(f"all {len(angles)} views have the angle {angles[0]:g}; check {given[0]}.")
    if given == ["angles_deg"]:
        if len(angles) >= 3 and span <= 1.001 * 2 * math.pi:
            raise InputError(
                f"angles_deg span only {span:.3g} degrees and look like radians; give radians "
                "with the key 'angles'."
            )
        return angles
    if span > 4.001 * math.pi:
        raise InputError(
            f"angles are in radians but span {span:.4g}, more than two turns; give degrees with "
            "the key 'angles_deg'."
        )
    return tuple(math.degrees(angle) for angle in angles)
