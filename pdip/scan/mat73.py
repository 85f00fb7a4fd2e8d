"""MATLAB v7.3 files: HDF5 in which arrays are transposed and texts are numbers."""

from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.hdf5 import at, checked, is_dataset, is_group, opened, text_attribute
from pdip.scan.mat5 import Unread
from pdip.scan.npy import check_bytes

MAX_DEPTH = 8
MAX_VARIABLES = 10_000
UNREAD = {
    "cell": "cell array",
    "function_handle": "function handle",
    "struct": "array of structures",
}


def mat73_variables(path: Path) -> dict:
    """The variables of a v7.3 file, as :func:`pdip.scan.mat.mat_variables` gives them.

    Raises:
        InputError: not such a file, or one that points elsewhere.
    """
    with opened(path) as file:
        return _structure(file, "", path, _Budget(), 0)


class _Budget:
    """What may still be read of a file: bytes, and variables."""

    def __init__(self) -> None:
        self.bytes, self.variables = 0, 0

    def take(self, num_bytes: int, path: Path) -> None:
        self.bytes += num_bytes
        self.variables += 1
        check_bytes(self.bytes, path.name)
        if self.variables > MAX_VARIABLES:
            raise InputError(f"{path.name} holds more than {MAX_VARIABLES} variables; save fewer.")


def _structure(file, place: str, path: Path, budget: _Budget, depth: int) -> dict:
    group = at(file, place)
    if depth > MAX_DEPTH:
        raise InputError(f"the structures of {path.name} are more than {MAX_DEPTH} deep.")
    found = {}
    for name in group:
        if not name.startswith("#"):
            found[name] = _variable(file, f"{place}/{name}", path, budget, depth)
    return found


def _variable(file, place: str, path: Path, budget: _Budget, depth: int):
    item = at(file, place)
    kind = text_attribute(item, "MATLAB_class")
    if is_group(item):
        budget.take(0, path)
        if kind in ("", "struct"):
            return _structure(file, place, path, budget, depth + 1)
        return Unread("sparse matrix" if "MATLAB_sparse" in item.attrs else f"{kind} object")
    if not is_dataset(item) or item.dtype.kind not in "iuf":
        return Unread(UNREAD.get(kind, f"{kind} object"))
    if "MATLAB_object_decode" in item.attrs:
        return Unread(f"{kind} object")
    dataset = checked(item, path)
    if "MATLAB_empty" in item.attrs:
        return np.empty(0)
    budget.take(dataset.size * dataset.dtype.itemsize, path)
    values = np.asarray(dataset[()]).T
    if kind == "char":
        return _text(values)
    values = np.squeeze(values)
    return values[()] if values.ndim == 0 else values


def _text(codes: np.ndarray) -> str:
    """One row of characters."""
    return "".join(chr(code) for code in codes.ravel().tolist() if 0 <= code < 0x110000)
