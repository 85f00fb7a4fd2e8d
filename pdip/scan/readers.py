"""Read a scan or a stack of slices from a file. A new format is one function and one line here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pdip.errors import InputError
from pdip.scan.axis_search import estimate_rotation_axis
from pdip.scan.checks import shown
from pdip.scan.fields import GEOMETRY_KEYS, GRID_KEYS, scan_from_fields
from pdip.scan.npy import read_npy, regular_file
from pdip.scan.npz import read_npz
from pdip.scan.rotation_axis import RotationAxis
from pdip.scan.scan import Scan
from pdip.scan.sidecar import find_sidecar, read_sidecar
from pdip.scan.stack import Stack, stack_from_fields


def read_scan(
    path: str | Path,
    geometry: str | Path | None = None,
    *,
    dataset: str | None = None,
    image_size: int | None = None,
    view_step: int = 1,
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
        path: ``.npy`` (views, detectors), with scan.yaml beside scan.npy where there is one; or
            ``.npz`` or HDF5 with ``sinogram`` and the geometry keys.
        geometry: YAML file (keys: see ``pdip.scan.sidecar``) in place of the file's own geometry.
        dataset: name of the sinogram in an HDF5 file; None for ``sinogram`` or the only one.
        image_size: N for N x N pixels over the same field of view.
        view_step: keep views 0, view_step, 2 view_step, ...
        data_kind: what the values are: counts, transmission or line_integrals; None: what the
            file says, else line integrals.
        flat: open-beam counts, a file (frames, detectors) or a number.
        dark: counts without beam, likewise.
        gain: counts per photon; None to estimate it from repeated flats.
        air_columns: elements at either end of the detector that see air in every view, where the
            transmission is set to 1.
        rings: width in detector elements of algotom's sorting filter against rings.
        beam_hardening: q and n of algotom's beam-hardening correction.
        cor: detector index hit by the ray through the axis, or ``auto`` to estimate it.

    Returns:
        the scan in float32; ``assumptions`` lists what was not in the file.

    Raises:
        InputError: anything in the files that cannot be used, in one sentence.
    """
    given = {"data_kind": data_kind, "flat": flat, "dark": dark, "gain": gain, "cor": cor}
    given |= {"air_columns": air_columns, "rings": rings, "beam_hardening": beam_hardening}
    fields, assumptions = _fields_with_geometry(path, geometry, dataset, given)
    fields, axis, said = with_axis(fields, scan_from_fields)
    scan = scan_from_fields(fields, (*assumptions, *said))
    if image_size is not None:
        scan = replace(scan, grid=scan.grid.resized(image_size))
    return replace(scan, rotation_axis=axis).every(view_step)


def read_stack(
    path: str | Path,
    geometry: str | Path | None = None,
    *,
    slices: str | int | None = None,
    dataset: str | None = None,
    image_size: int | None = None,
    view_step: int = 1,
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
        slices: those to use of a stack of slices, counted from 0: ``5``, ``10:20`` or ``::4``;
            None for all.
        dataset: name of the sinogram in an HDF5 file; None for ``sinogram`` or the only one.
        image_size: N for N x N pixels over the same field of view.
        view_step: keep views 0, view_step, 2 view_step, ...
        data_kind: what the values are: counts, transmission or line_integrals; None: what the
            file says, else line integrals.
        flat: open-beam counts, a file (frames, detectors) or a number.
        dark: counts without beam, likewise.
        gain: counts per photon; None to estimate it from repeated flats.
        air_columns: elements at either end of the detector that see air in every view, where the
            transmission is set to 1.
        rings: width in detector elements of algotom's sorting filter against rings.
        beam_hardening: q and n of algotom's beam-hardening correction.
        cor: detector index hit by the ray through the axis; auto to estimate it.

    Returns:
        the stack, from which one :class:`Scan` after another comes.

    Raises:
        InputError: anything in the files that cannot be used, but for the values of a slice.

    Example:
        >>> for scan in read_stack("stack.npy", slices="10:20"):  # doctest: +SKIP
        ...     result = reconstruct(scan)
    """
    given = {"data_kind": data_kind, "flat": flat, "dark": dark, "gain": gain, "cor": cor}
    given |= {"air_columns": air_columns, "rings": rings, "beam_hardening": beam_hardening}
    fields, assumptions = _fields_with_geometry(path, geometry, dataset, given)
    fields, _, said = with_axis(fields, lambda keys: stack_from_fields(keys, slices, 1).middle)
    stack = stack_from_fields(fields, slices, view_step, (*assumptions, *said))
    return stack if image_size is None else stack.resized(image_size)


def holds_stack(path: str | Path, dataset: str | None = None) -> bool:
    """Whether the sinogram of a file has three axes; no value of it is read to tell.

    Raises:
        InputError: the file cannot be read.
    """
    fields = read_fields(regular_file(path, "scan"), dataset)
    values = fields.get("sinogram", fields.get("counts"))
    return getattr(values, "ndim", None) == 3


def read_fields(path: Path, dataset: str | None = None) -> dict:
    """The keys of a file with their values, by the reader for its ending.

    Raises:
        InputError: another ending, or the reader refuses the file.
    """
    read = FORMATS.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"{path.name} has the ending {path.suffix or 'none'!r}, expected one of "
            f"{', '.join(FORMATS)}; convert it."
        )
    if dataset is None:
        return read(path)
    if read is not read_hdf5:
        raise InputError(f"a data set is named for HDF5 files only, but the scan is {path.name}.")
    return read_hdf5(path, dataset)


def read_hdf5(path: Path, dataset: str | None = None) -> dict:
    """The keys of an HDF5 file; the libraries for it are loaded for such a file only."""
    try:
        from pdip.scan import hdf5
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path.name} needs the package {error.name}; install it with pip."
        ) from None
    return hdf5.read_hdf5(path, dataset)


FORMATS = {".npy": read_npy, ".npz": read_npz, ".h5": read_hdf5, ".hdf5": read_hdf5}
"""Reader of each file name ending: path -> dictionary of the keys of the file."""


def _fields_with_geometry(
    path: str | Path, geometry: str | Path | None, dataset: str | None, given: dict
) -> tuple[dict, tuple[str, ...]]:
    """The keys of a scan file with those of its geometry file and those given, and what to say."""
    path = regular_file(path, "scan")
    fields = read_fields(path, dataset)
    own = any(key in fields for key in GEOMETRY_KEYS)
    said = ()
    if geometry is None and not own and path.suffix.lower() != ".npz":
        geometry = find_sidecar(path)
        if geometry is not None:
            said = (f"The geometry is read from {geometry.name} next to the scan.",)
    if geometry is not None:
        fields = _replace_geometry(fields, read_sidecar(geometry))
    given = {key: value for key, value in given.items() if value is not None}
    if "cor" in given:
        fields.pop("detector_shift_mm", None)
    fields |= given
    return {**fields, **_open_beam(fields)}, said


def _open_beam(fields: dict) -> dict:
    """Flat, dark and blank that are files, read."""
    found = {}
    for key in ("flat", "dark", "blank"):
        if isinstance(fields.get(key), str):
            inside = read_fields(regular_file(Path(fields[key]), key))
            found[key] = inside.get(key, inside.get("sinogram"))
            if found[key] is None:
                raise InputError(f"{fields[key]} holds no {key!r}; name a .npy file of it.")
    return found


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
    return {**centred, "cor": axis.cor}, axis, (axis.sentence,)


def _replace_geometry(fields: dict, sidecar: dict) -> dict:
    """The named file replaces the geometry as a whole where it gives one, and so the grid."""
    replaced = set()
    if any(key in sidecar for key in GEOMETRY_KEYS):
        replaced = set(GEOMETRY_KEYS) | {"angle_convention"}
    if any(key in sidecar for key in GRID_KEYS):
        replaced |= set(GRID_KEYS)
    return {key: value for key, value in fields.items() if key not in replaced} | sidecar
