"""What ``pdip info`` prints: what a scan file holds and how it is read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pdip.errors import InputError
from pdip.report.words import IN_NO_ORDER, rotation_sense
from pdip.scan import Scan, read_dicom, read_on_likely_axis, read_scan, read_stack
from pdip.scan.binning import counted, file_index
from pdip.scan.checks import plural, positive_int
from pdip.scan.contents import Entry, contents
from pdip.scan.fields import ANGLE_KEYS, MIDDLE_AXIS, build_geometry
from pdip.scan.formats import scan_path
from pdip.scan.geometry import FanBeam, Geometry
from pdip.scan.preprocessing import PREPROCESSING_KEYS
from pdip.scan.readers import as_read, fields_with_geometry
from pdip.scan.rows import DetectorRows, at_row, measured_array
from pdip.scan.stack import slice_numbers

KINDS = {
    "counts": "counts",
    "transmission": "transmission, counts over flat field",
    "line_integrals": "line integrals",
}


def information(
    path: str | Path,
    geometry: str | Path | None,
    reading: Mapping[str, Any],
    checks: Sequence[Callable[[Scan], Iterable[str]]] = (),
) -> Iterator[str]:
    """Lines that say what a file holds, how it is read, what is assumed, in doubt and missing.

    Of a stack, or of several detector rows, one in the middle is read, of those that are named.

    Args:
        path: the scan, or a DICOM image.
        geometry: YAML file in place of the scan's own geometry, or None.
        reading: settings of the section ``scan``, all keys.
        checks: each gives more sentences on what speaks against the scan as it is read.

    Raises:
        InputError: the file cannot be used; after the lines that say what it holds.
    """
    path = scan_path(path)
    title, entries = contents(path)
    yield f"{path.name}: {title}{_size(path)}"
    yield from _table("found", [_row(entry) for entry in entries])
    if title == "DICOM":
        yield from _image(path)
        return
    given = {key: reading[key] for key in PREPROCESSING_KEYS if key in reading}
    fields, said = fields_with_geometry(path, geometry, reading["dataset"], given)
    fields, joined = as_read(fields, reading["binning"], reading["cor"])
    said += joined
    array, reading = measured_array(fields), dict(reading)
    slices = reading.pop("slices", None)
    if array is None:
        raise InputError(f"{path.name} has no key 'sinogram' or 'counts'; add it.")
    if getattr(array, "ndim", None) not in (2, 3):
        read_scan(path, geometry, **reading)  # says what is wrong with it
    row = reading["row"]
    if array.ndim == 3 and row is None:
        numbers = slice_numbers(slices, array.shape[0])
        row = reading["row"] = numbers[len(numbers) // 2]
    one = fields if row is None else at_row(fields, row)
    said = list(said)
    placed = dict(one)
    if isinstance(one.get("cor"), str):
        del placed["cor"]  # it is looked for when the scan is read
    views, detectors = measured_array(one).shape
    binning = reading["binning"]
    whole = build_geometry(placed, (views, detectors // binning), said)
    beam = whole.select(range(0, views, positive_int("view step", reading["view_step"])))
    lines = beam_lines(beam, binning, views)
    is_open = len(placed) < len(one) or any(s.startswith(MIDDLE_AXIS) for s in said)
    if is_open:  # it is where the scan is read
        del lines["axis"]
    yield from _table("read as", [*_measured(fields, one, row), *lines.items()])
    failure, told = None, ()
    try:
        read = partial(_slice if array.ndim == 3 else read_scan, path, geometry)
        scan, told = read_on_likely_axis(
            lambda cor: read(**{**reading, "cor": cor}), reading["cor"]
        )
        said, told = scan.assumptions, [*told, *(line for check in checks for line in check(scan))]
        height, width = scan.grid.shape
        if is_open:
            yield f"  axis        {beam_lines(scan.geometry, binning)['axis']}"
        yield f"  image       {height} x {width} pixels of {scan.grid.pixel_mm:.4g} mm"
    except InputError as error:
        failure = error
    yield from _list("assumed", said)
    yield from _list("checked", told)
    yield from _list("missing", _missing(fields))
    if failure is not None:
        raise failure


def _slice(path: Path, geometry, *, row: int, **reading):
    """One slice of a stack as it would be reconstructed."""
    stack = read_stack(path, geometry, row=row, **reading)
    (scan,) = stack
    return replace(scan, rotation_axis=stack.rotation_axis)


def _measured(fields: dict, one: dict, row: int | None) -> list[tuple[str, str]]:
    """What was measured, in lines of a table; values are those of the row that is shown."""
    array = measured_array(fields)
    *stack, views, detectors = array.shape
    kind = KINDS.get(_kind(fields), "unknown")
    size = f"{plural(views, 'view')} x {plural(detectors, 'detector element')}"
    lines = [("measured", f"{kind}, {size}")]
    if stack:
        name = "rows" if isinstance(array, DetectorRows) else "slices"
        lines.append((name, f"{stack[0]}, counted from 0; number {row} is shown"))
    if "sinogram" in fields and "counts" in fields and _kind(fields) != "counts":
        lines.append(("counts", "in the file, too; they would be used with --data-kind counts"))
    for key in ("flat", "dark"):
        if key in fields:
            frames = np.atleast_2d(one[key]).shape[0]
            lines.append((key, plural(frames, "frame")))
    values = np.asarray(measured_array(one))
    finite = values[np.isfinite(values)]
    if finite.size:
        bad = values.size - finite.size
        spoiled = f", {bad} of {values.size} NaN or infinite" if bad else ""
        lines.append(("values", f"{finite.min():.4g} to {finite.max():.4g}{spoiled}"))
    return lines


def _kind(fields: dict) -> str:
    """What the values are, as the readers take them."""
    alone = "counts" in fields and "sinogram" not in fields
    return fields.get("data_kind", "counts" if alone else "line_integrals")


def beam_lines(beam: Geometry, binning: int = 1, views: int | None = None) -> dict[str, str]:
    """Where the rays run that are read: a name and its words for each line.

    Args:
        beam: of what is read.
        binning: elements of the file in one of the beam's; the axis counts those of the file.
        views: of the file, where that is known.
    """
    angles = np.array(beam.angles_deg)
    steps = np.diff(angles)
    equal = steps.size and np.allclose(steps, steps.mean(), rtol=1e-3, atol=1e-6)
    step = f"in steps of {steps.mean():.6g}" if equal else "in unequal steps"
    sense = rotation_sense(beam)
    arc = f"{angles[0]:.6g} to {angles[-1]:.6g} degrees {step}, {sense}"
    if sense == IN_NO_ORDER:
        arc = f"{angles.min():.6g} to {angles.max():.6g} degrees {sense}"
    if not steps.size:
        arc = f"{angles[0]:.6g} degrees"
    if views is not None and views != len(angles):
        arc = f"{plural(len(angles), 'view')} of {views}, {arc}"
    element = f"{plural(beam.num_detectors, 'element')} of {beam.detector_pitch_mm:g} mm"
    if binning > 1:
        element += f", each {binning} of the file"
    place, middle = (
        file_index(index, binning) for index in (beam.cor, (beam.num_detectors - 1) / 2)
    )
    kind = "parallel"
    if isinstance(beam, FanBeam):
        kind = (
            f"fan, source {beam.source_origin_mm:g} mm and detector "
            f"{beam.origin_detector_mm:g} mm from the axis"
        )
    return {
        "beam": kind,
        "angles": arc,
        "detector": element,
        "axis": f"on element {place:.6g}{counted(binning)}, counted from 0 (the middle is "
        f"{middle:g})",
    }


def _missing(fields: dict) -> list[str]:
    """What the file does not say and a geometry file can."""
    lacking = [
        key
        for key, given in {
            "angles": any(key in fields for key in ANGLE_KEYS),
            "geometry": "geometry" in fields,
            "det_pixel_mm": "det_pixel_mm" in fields,
            "cor": "cor" in fields or "detector_shift_mm" in fields,
            "flat": "flat" in fields or "blank" in fields or _kind(fields) != "counts",
        }.items()
        if not given
    ]
    if not lacking:
        return []
    return [
        f"{', '.join(lacking)}; a geometry file can say it, beside the scan or with --geometry."
    ]


def _image(path: Path) -> Iterator[str]:
    """How a DICOM slice is read."""
    image, grid = read_dicom(path)
    height, width = grid.shape
    lines = [
        ("image", f"{height} x {width} pixels of {grid.pixel_mm:.4g} mm, to simulate a scan of"),
        ("values", f"{float(image.min()):.4g} to {float(image.max()):.4g} 1/mm"),
    ]
    yield from _table("read as", lines)
    yield from _list("assumed", ["The attenuation of water is that at 60 keV."])


def _size(path: Path) -> str:
    """The size of a file in words, nothing for a folder."""
    if path.is_dir():
        return ""
    size = path.stat().st_size
    return f", {size / 2**20:.1f} MiB" if size >= 2**20 else f", {size / 2**10:.1f} KiB"


def _row(entry: Entry) -> tuple[str, str]:
    shape = " x ".join(map(str, entry.shape))
    return entry.name, "  ".join(filter(None, (shape, entry.kind, entry.note)))


def _table(title: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    """A title and indented lines whose second column begins at one place."""
    if rows:
        yield f"{title}:"
        width = max(10, *(min(len(name), 48) for name, _ in rows))
        for name, text in rows:
            yield f"  {name:<{width}}  {text}".rstrip()


def _list(title: str, sentences) -> Iterator[str]:
    if sentences:
        yield f"{title}:"
        for sentence in sentences:
            yield f"  {sentence}"
