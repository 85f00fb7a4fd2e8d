"""Read a scan or a stack of slices from a file."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from pdip.errors import InputError
from pdip.scan.axis_search import estimate_rotation_axis
from pdip.scan.binning import binned_fields, joined_index
from pdip.scan.checks import finite_real, shown
from pdip.scan.fields import ANGLE_KEYS, GEOMETRY_KEYS, GRID_KEYS, scan_from_fields
from pdip.scan.formats import read_fields, scan_path
from pdip.scan.rotation_axis import RotationAxis
from pdip.scan.rows import at_row, check_rows_named, cone_remark, measured_array
from pdip.scan.scan import Scan
from pdip.scan.sidecar import find_sidecar, read_sidecar
from pdip.scan.stack import Stack, stack_from_fields

PITCH = "det_pixel_mm"


def read_scan(
    path: str | Path,
    geometry: str | Path | None = None,
    *,
    row: int | None = None,
    dataset: str | None = None,
    image_size: int | None = None,
    view_step: int = 1,
    binning: int = 1,
    data_kind: str | None = None,
    flat: str | float | None = None,
    dark: str | float | None = None,
    gain: float | None = None,
    air_columns: int | None = None,
    rings: int | None = None,
    beam_hardening: tuple[float, float] | None = None,
    cor: str | float | None = None,
) -> Scan:
    """Read one sinogram with its geometry and image grid.

    Args:
        path: ``.npy`` (views, detectors); ``.npz`` or HDF5 with ``sinogram`` and the geometry
            keys; DXchange or NXtomo HDF5; MATLAB ``.mat``; TIFF, or a folder of TIFFs, one for
            each view. Where the file gives no geometry but angles, scan.yaml beside it does.
        geometry: YAML file (keys: see ``pdip.scan.sidecar``) in place of the file's own geometry;
            the angles remain those of the file where it gives none.
        row: the detector row, or the slice of a stack, counted from 0; None for a single scan.
        dataset: name of the sinogram in a HDF5 or MATLAB file; None for ``sinogram`` or the only
            one.
        image_size: N for N x N pixels over the same field of view.
        view_step: keep views 0, view_step, 2 view_step, ...
        binning: neighbouring detector elements that are read as one.
        data_kind: what the values are: counts, transmission or line_integrals; None: what the
            file says, else line integrals.
        flat: open-beam counts, a file (frames, detectors) or a number.
        dark: counts without beam, likewise.
        gain: counts per photon; None to estimate it from repeated flats.
        air_columns: elements at either end of the detector that see air in every view, where the
            transmission is set to 1.
        rings: width in detector elements of algotom's sorting filter against rings.
        beam_hardening: q and n of algotom's beam-hardening correction.
        cor: detector index hit by the ray through the axis, of elements as they are in the
            file, whatever the binning; or ``auto`` to estimate it.

    Returns:
        the scan in float32; ``assumptions`` lists what was not in the file.

    Raises:
        InputError: anything in the files that cannot be used, in one sentence.
    """
    given = {"data_kind": data_kind, "flat": flat, "dark": dark, "gain": gain}
    given |= {"air_columns": air_columns, "rings": rings, "beam_hardening": beam_hardening}
    fields, assumptions = fields_with_geometry(path, geometry, dataset, given)
    if row is None:
        check_rows_named(fields, None, Path(path).name)
    else:
        fields = at_row(fields, row)
    fields, joined = as_read(fields, binning, cor)
    fields, axis, said = with_axis(fields, scan_from_fields)
    scan = scan_from_fields(fields, (*assumptions, *joined, *said))
    if image_size is not None:
        scan = replace(scan, grid=scan.grid.resized(image_size))
    return replace(scan, rotation_axis=axis).every(view_step)


def read_stack(
    path: str | Path,
    geometry: str | Path | None = None,
    *,
    slices: str | int | None = None,
    row: int | None = None,
    dataset: str | None = None,
    image_size: int | None = None,
    view_step: int = 1,
    binning: int = 1,
    data_kind: str | None = None,
    flat: str | float | None = None,
    dark: str | float | None = None,
    gain: float | None = None,
    air_columns: int | None = None,
    rings: int | None = None,
    beam_hardening: tuple[float, float] | None = None,
    cor: str | float | None = None,
) -> Stack:
    """Read slices of one geometry; the values of a slice are read when it is asked for.

    Args:
        path: as for :func:`read_scan`, with a sinogram (slices, views, detectors).
        geometry: as for :func:`read_scan`.
        slices: those to use of a stack of slices, or the rows of a detector, counted from 0:
            ``5``, ``10:20`` or ``::4``; None for all slices of a stack.
        row: the one detector row, or slice, to use, in place of ``slices``.
        dataset: name of the sinogram in a HDF5 or MATLAB file; None for ``sinogram`` or the only
            one.
        image_size: N for N x N pixels over the same field of view.
        view_step: keep views 0, view_step, 2 view_step, ...
        binning: neighbouring detector elements that are read as one.
        data_kind: what the values are: counts, transmission or line_integrals; None: what the
            file says, else line integrals.
        flat: open-beam counts, a file (frames, detectors) or a number.
        dark: counts without beam, likewise.
        gain: counts per photon; None to estimate it from repeated flats.
        air_columns: elements at either end of the detector that see air in every view, where the
            transmission is set to 1.
        rings: width in detector elements of algotom's sorting filter against rings.
        beam_hardening: q and n of algotom's beam-hardening correction.
        cor: detector index hit by the ray through the axis, of elements as they are in the
            file, whatever the binning; auto to estimate it.

    Returns:
        the stack, from which one :class:`Scan` after another comes.

    Raises:
        InputError: anything in the files that cannot be used, but for the values of a slice.

    Example:
        >>> for scan in read_stack("stack.npy", slices="10:20"):  # doctest: +SKIP
        ...     result = reconstruct(scan)
    """
    given = {"data_kind": data_kind, "flat": flat, "dark": dark, "gain": gain}
    given |= {"air_columns": air_columns, "rings": rings, "beam_hardening": beam_hardening}
    fields, assumptions = fields_with_geometry(path, geometry, dataset, given)
    if row is not None and slices is not None:
        raise InputError("a row and several slices are named; name one of them.")
    slices = slices if row is None else row
    check_rows_named(fields, slices, Path(path).name)
    fields, joined = as_read(fields, binning, cor)
    fields, axis, said = with_axis(fields, lambda keys: stack_from_fields(keys, slices, 1).middle)
    stack = stack_from_fields(fields, slices, view_step, (*assumptions, *joined, *said))
    stack = replace(stack, rotation_axis=axis)
    return stack if image_size is None else stack.resized(image_size)


def holds_stack(path: str | Path, dataset: str | None = None) -> bool:
    """Whether what a file holds has three axes; no value of it is read to tell.

    Raises:
        InputError: the file cannot be read.
    """
    return getattr(measured_array(read_fields(scan_path(path), dataset)), "ndim", None) == 3


def fields_with_geometry(
    path: str | Path,
    geometry: str | Path | None = None,
    dataset: str | None = None,
    given: Mapping = MappingProxyType({}),
) -> tuple[dict, tuple[str, ...]]:
    """The keys of a scan file with those of its geometry file, and what is assumed so far.

    Args:
        path: the scan.
        geometry: YAML file in place of the scan's own geometry, or None.
        dataset: name of the sinogram, or None.
        given: keys that win over those of both files; None for what is left to them.

    Raises:
        InputError: one of the files cannot be used.
    """
    path = scan_path(path)
    fields = dict(read_fields(path, dataset))
    said = tuple(fields.pop("assumptions", ()))
    if geometry is None and not _own_geometry(fields) and path.suffix.lower() != ".npz":
        geometry = find_sidecar(path)
        if geometry is not None:
            said += (f"The geometry is read from {geometry.name} next to the scan.",)
    if geometry is not None:
        sidecar = read_sidecar(geometry)
        replaces = _own_geometry(fields) and any(key in sidecar for key in GEOMETRY_KEYS)
        fields, kept = _with_sidecar(fields, sidecar)
        if replaces:
            replaced = Path(geometry).name
            said += (f"The geometry in {path.name} is replaced as a whole by that of {replaced}.",)
        if any(key in kept for key in ANGLE_KEYS):
            said += (f"The view angles are those of {path.name}, as the geometry file lists none.",)
        if PITCH in kept:
            said += (f"The detector pitch is that of {path.name}; the geometry file gives none.",)
    series = fields.pop("series", None)
    if series is not None:
        said += series.check(fields)
    given = {key: value for key, value in given.items() if value is not None}
    fields |= given
    fields |= _open_beam(fields)
    if fields.get("data_kind", "counts") != "counts" and "sinogram" not in fields:
        fields |= {"sinogram": fields.pop("counts")} if "counts" in fields else {}  # as was said
    return fields, said if geometry is None else said + cone_remark(fields)


def _own_geometry(fields: dict) -> bool:
    """Whether a scan has more of a geometry than its angles and the pitch."""
    return any(key in fields for key in GEOMETRY_KEYS if key not in (*ANGLE_KEYS, PITCH))


def _with_sidecar(fields: dict, sidecar: dict) -> tuple[dict, dict]:
    """The keys with those of a geometry file, and which of the scan's own are kept where that gives
    none: the angles, and the pitch of a parallel beam, where the scan has nothing more."""
    given = any(key in sidecar for key in ANGLE_KEYS)
    kept = {} if given else {key: fields[key] for key in ANGLE_KEYS if key in fields}
    parallel = sidecar.get("geometry", "parallel") == "parallel" and not _own_geometry(fields)
    if parallel and PITCH in fields and PITCH not in sidecar:
        kept[PITCH] = fields[PITCH]
    return _replace_geometry(fields, sidecar) | kept, kept


def _open_beam(fields: dict) -> dict:
    """Flat, dark and blank that are files, read."""
    found = {}
    for key in ("flat", "dark", "blank"):
        if isinstance(fields.get(key), str):
            inside = read_fields(scan_path(fields[key], key))
            found[key] = inside.get(key, measured_array(inside))
            if found[key] is None:
                raise InputError(f"{fields[key]} holds no {key!r}; name a .npy file of it.")
    return found


def as_read(fields: dict, binning: int, cor: str | float | None) -> tuple[dict, tuple[str, ...]]:
    """The keys for joined elements, with the axis where it was given.

    Args:
        fields: the keys of a file.
        binning: elements that become one.
        cor: in place of the axis of the file, and like it an index of the file's elements.

    Raises:
        InputError: elements cannot be joined so, or the axis is off the detector.
    """
    if cor is not None:
        fields = {key: value for key, value in fields.items() if key != "detector_shift_mm"}
        fields["cor"] = cor
    cor, shape = fields.get("cor"), getattr(measured_array(fields), "shape", ())
    if not (cor is None or isinstance(cor, str)) and binning != 1 and shape:
        elements = shape[-1]
        if not -0.5 < finite_real("cor", cor) < elements - 0.5:
            raise InputError(
                f"the ray through the rotation axis must hit the detector (0 to {elements - 1} "
                f"in elements of the file), but cor is {cor:.6g}; check it."
            )
    return binned_fields(fields, binning)


def with_axis(
    fields: dict, scan_of: Callable[[dict], Scan]
) -> tuple[dict, RotationAxis | None, tuple[str, ...]]:
    """The keys with the axis in them, found from the scan where ``cor`` is ``auto``.

    Args:
        fields: the keys.
        scan_of: makes a scan of keys, the axis on the middle of the detector.
    """
    if not isinstance(fields.get("cor"), str):
        return fields, None, ()
    if fields["cor"] != "auto":
        raise InputError(f"cor must be a detector index or auto, got {shown(fields['cor'])}.")
    centred = {k: v for k, v in fields.items() if k not in ("cor", "detector_shift_mm")}
    axis = estimate_rotation_axis(scan_of(centred))
    cor = joined_index(axis.cor, fields.get("binning", 1))
    return {**centred, "cor": cor}, axis, (axis.sentence,)


def _replace_geometry(fields: dict, sidecar: dict) -> dict:
    """The named file replaces the geometry as a whole where it gives one, and so the grid."""
    replaced = set()
    if any(key in sidecar for key in GEOMETRY_KEYS):
        replaced = set(GEOMETRY_KEYS) | {"angle_convention"}
    if any(key in sidecar for key in GRID_KEYS):
        replaced |= set(GRID_KEYS)
    return {key: value for key, value in fields.items() if key not in replaced} | sidecar
