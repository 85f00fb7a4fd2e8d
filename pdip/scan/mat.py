"""MATLAB ``.mat`` files: records of the Helsinki laboratory, FIPS, or arrays with our keys."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.fields import ANGLE_KEYS, GEOMETRY_KEYS
from pdip.scan.fips import known_geometry
from pdip.scan.htc import htc_fields, is_htc
from pdip.scan.likely_angles import likely_angles
from pdip.scan.mat5 import mat5_variables
from pdip.scan.npz import NPZ_KEYS, check_names

SIGNATURE_73 = b"MATLAB 7.3"


def read_mat(path: Path, dataset: str | None = None) -> dict:
    """The keys of a MATLAB file.

    Args:
        path: of the file.
        dataset: the variable with the record or the sinogram, ``a.b`` for a field of a structure.
            None: the record with most views, else ``sinogram``, else the only matrix.

    Raises:
        InputError: not such a file, or no single sinogram in it.
    """
    variables = mat_variables(path)
    said = ()
    records = {name: value for name, value in variables.items() if is_htc(value)}
    if dataset is None and records:
        views = {name: record["sinogram"].shape[0] for name, record in records.items()}
        dataset = max(views, key=views.__getitem__)
        others = [f"{name} ({count} views)" for name, count in views.items() if name != dataset]
        if others:
            said = (
                f"{dataset} ({views[dataset]} views) is read, not {', '.join(others)}; --dataset "
                "names another.",
            )
    if dataset in records:
        return htc_fields(records[dataset], dataset) | {"assumptions": said}
    fields = {key: variables[key] for key in NPZ_KEYS if key in variables}
    check_names(variables, path)
    name = dataset if dataset is not None else _name_of_sinogram(variables, path)
    fields["sinogram"] = _matrix(variables, name, path)
    fields = _oriented({key: _plain(value, key, path) for key, value in fields.items()})
    others = {n: np.shape(v) for n, v in _arrays(variables) if n not in (name, *NPZ_KEYS)}
    said = (*fields.get("assumptions", ()), *likely_angles(others, fields))
    return fields | ({"assumptions": said} if said else {})


def mat_variables(path: Path) -> dict:
    """The variables of a file by name: arrays, texts, dictionaries for structures, and what
    cannot be read as a :class:`Unread` that says what it is."""
    try:
        with path.open("rb") as stream:
            start = stream.read(len(SIGNATURE_73))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    if start == SIGNATURE_73:
        from pdip.scan.mat73 import mat73_variables

        return mat73_variables(path)
    return mat5_variables(path)


def _name_of_sinogram(variables: Mapping, path: Path) -> str:
    if "sinogram" in variables:
        return "sinogram"
    matrices = [
        name
        for name, value in variables.items()
        if name not in NPZ_KEYS and isinstance(value, np.ndarray) and value.ndim in (2, 3)
    ]
    if len(matrices) == 1:
        return matrices[0]
    kind = "several matrices" if matrices else "no matrix"
    raise InputError(_choice(f"{path.name} has {kind} that can be the sinogram", variables))


def _matrix(variables: Mapping, name: str, path: Path) -> np.ndarray:
    """The variable, or the field of a structure, of that name."""
    found = variables
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if found is None or isinstance(found, Mapping):
        raise InputError(_choice(f"{path.name} has no matrix {name!r}", variables))
    return found


def _choice(what: str, variables: Mapping) -> str:
    """One sentence that ends with the variables there are."""
    shown = [f"{name} ({_kind(value)})" for name, value in variables.items()]
    shown += [f"{name} ({_kind(value)})" for name, value in _arrays(variables) if "." in name]
    listed = ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
    return f"{what} (it holds {listed or 'none'}); name the one to use with --dataset NAME."


def _arrays(variables: Mapping, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a file and of the structures in it, ``a.b`` for a field of a structure."""
    for name, value in variables.items():
        if isinstance(value, Mapping):
            yield from _arrays(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value


def _kind(value) -> str:
    if isinstance(value, np.ndarray):
        return " x ".join(map(str, value.shape))
    return "structure" if isinstance(value, Mapping) else getattr(value, "kind", "text or number")


def _plain(value, key: str, path: Path):
    """A number, an array of real numbers, or a text."""
    if isinstance(value, str):
        return value
    array = np.asarray(value) if isinstance(value, (np.ndarray, np.number, int, float)) else None
    if array is None or array.dtype.kind not in "iuf":
        kind = str(array.dtype) if array is not None else _kind(value)
        raise InputError(
            f"{key!r} in {path.name} is a {kind}, which is never loaded; save a plain numeric "
            "array."
        )
    return array


def _oriented(fields: dict) -> dict:
    """The sinogram as (views, detectors), where the file says which axis is which."""
    sinogram = fields["sinogram"]
    if not any(key in fields for key in GEOMETRY_KEYS):
        known = known_geometry(sinogram)
        if known is not None:
            return fields | known[0] | {"assumptions": (known[1],), "data_kind": "line_integrals"}
    angles = next((fields[key] for key in ANGLE_KEYS[:2] if key in fields), None)
    counts = [np.size(angles) == length for length in np.shape(sinogram)[-2:]]
    if angles is not None and counts == [False, True]:
        said = "The sinogram has as many columns as there are angles: columns are taken as views."
        return fields | {"sinogram": np.swapaxes(sinogram, -1, -2), "assumptions": (said,)}
    return fields
