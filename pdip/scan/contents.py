"""What a file holds, whether it is used or not: names, shapes, types and units, no large values."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.checks import shown
from pdip.scan.npy import read_array, read_header
from pdip.scan.npz import ARCHIVE_ERRORS

MAX_ENTRIES = 60
"""Entries that are listed; a count stands for the rest."""
MAX_NUMBER = 2**12
"""Bytes of a number or text that is read to be shown."""
MAX_TEXT = 60
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class Entry:
    """One array, number or text of a file.

    Attributes:
        name: in the file.
        shape: of an array; empty for a number or a text.
        kind: type of its values.
        note: unit, or the value itself where it is one.
    """

    name: str
    shape: tuple[int, ...] = ()
    kind: str = ""
    note: str = ""


def contents(path: Path) -> tuple[str, list[Entry]]:
    """The name of the format, and what the file holds.

    Raises:
        InputError: the file cannot be read.
    """
    suffix = "" if path.is_dir() else path.suffix.lower() or "none"
    title, listed = _CONTENTS.get(suffix, ("file", lambda path: iter(())))
    if callable(title):
        title = title(path)
    entries = []
    try:
        for entry in listed(path):
            entries.append(entry)
            if len(entries) > MAX_ENTRIES:
                return title, [*entries[:-1], Entry("...")]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    return title, entries


def _of_value(name: str, value) -> Entry:
    """The entry of a value in memory."""
    if isinstance(value, np.ndarray) and value.ndim:
        return Entry(name, value.shape, str(value.dtype))
    if isinstance(value, (bytes, str)):
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        return Entry(name, (), "text", " ".join(text.split())[:MAX_TEXT])
    return Entry(name, (), "number", shown(value.item() if hasattr(value, "item") else value))


def _npy(path: Path) -> Iterator[Entry]:
    with path.open("rb") as stream:
        header = read_header(stream, path.name)
    yield Entry("array", header.shape, str(header.dtype))


def _npz(path: Path) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    where = f"{member.filename!r} in {path.name}"
                    header = read_header(stream, where)
                name = member.filename.removesuffix(".npy")
                if header.shape or header.declared_bytes > MAX_NUMBER:
                    yield Entry(name, header.shape, str(header.dtype))
                    continue
                with archive.open(member) as stream:
                    yield _of_value(name, read_array(stream, member.file_size, where)[()])
    except InputError:
        raise
    except ARCHIVE_ERRORS as error:
        raise InputError(f"{path} is not a readable .npz archive ({str(error)[:200]}).") from None


def _hdf5(path: Path) -> Iterator[Entry]:
    from pdip.scan.hdf5 import datasets_of_any_kind, opened, small_value, text_attribute

    with opened(path) as file:
        for item in datasets_of_any_kind(file):
            note = text_attribute(item, "units")
            if not item.shape:
                yield _of_value(item.name, small_value(item))
            else:
                yield Entry(item.name, item.shape, str(item.dtype), note)


def _hdf5_title(path: Path) -> str:
    from pdip.scan.hdf5_layouts import layout

    return layout(path)


def _mat(path: Path) -> Iterator[Entry]:
    from pdip.scan.mat import mat_variables
    from pdip.scan.mat5 import Unread

    def listed(variables: dict, prefix: str) -> Iterator[Entry]:
        for name, value in variables.items():
            if isinstance(value, dict):
                yield Entry(f"{prefix}{name}", (), "structure")
                yield from listed(value, f"{prefix}{name}.")
            elif isinstance(value, Unread):
                yield Entry(f"{prefix}{name}", (), value.kind, "not loaded")
            else:
                yield _of_value(f"{prefix}{name}", value)

    yield from listed(mat_variables(path), "")


def _tiff(path: Path) -> Iterator[Entry]:
    from pdip.scan.tiff import pages_of
    from pdip.scan.tiff_series import grouped

    groups = {"pages": [path]} if path.is_file() else grouped(path)
    for name, paths in groups.items():
        if paths:
            shape, kind, note = pages_of(paths)
            yield Entry(name, shape, str(kind), note)


def _dicom(path: Path) -> Iterator[Entry]:
    from pdip.scan.dicom import dicom_header

    for key, value in dicom_header(path).items():
        yield Entry(key, (), "", shown(value)[:MAX_TEXT])


_HDF5: tuple = (_hdf5_title, _hdf5)
_CONTENTS: dict[str, tuple[str | Callable[[Path], str], Callable[[Path], Iterator[Entry]]]] = {
    ".npy": ("NumPy array", _npy),
    ".npz": ("NumPy archive", _npz),
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".nxs", ".nx"), _HDF5),
    ".mat": ("MATLAB file", _mat),
    ".tif": ("TIFF", _tiff),
    ".tiff": ("TIFF", _tiff),
    "": ("folder of TIFFs", _tiff),
    ".dcm": ("DICOM", _dicom),
    ".dicom": ("DICOM", _dicom),
}
"""File name ending -> name of the format, and what lists a file's entries."""
