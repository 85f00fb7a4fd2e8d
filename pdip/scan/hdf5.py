"""Access to HDF5 files: data sets, slice by slice, from this very file. Layouts build on it.

An HDF5 file can point elsewhere: external links, values stored in other files, data sets put
together from other files. Each is refused before anything is read, as is a data set that declares
far more than the file holds. What the HDF5 library cannot bear is found in another process first.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin as hdf5plugin  # its compressions are known to h5py from here on
import numpy as np

from pdip.errors import InputError
from pdip.scan.hdf5_trial import first_read, not_readable
from pdip.scan.npy import check_bytes
from pdip.scan.npz import MAX_EXPANSION
from pdip.scan.rows import PER_ROW, DetectorRows

MAX_OBJECTS = 10_000
MAX_LINKS = 16
"""Soft links that are followed one after another."""
SMALL_BYTES = 2**20
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, LookupError)
"""What h5py raises for damaged files."""


@dataclass(frozen=True)
class SlicesOnDisk:
    """A data set of three axes; indexing it reads one slice and nothing else.

    Attributes:
        path: the file.
        name: of the data set in it.
        shape: (slices, rows, columns).
        dtype: of the values.
    """

    path: Path
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: int) -> np.ndarray:
        with opened(self.path) as file:
            return checked(at(file, self.name), self.path)[index]


@dataclass(frozen=True)
class RowsOnDisk(DetectorRows):
    """A data set (frames, rows, detectors), or one frame (rows, detectors); indexing it reads one
    row of its frames.

    Attributes:
        path: the file.
        name: of the data set in it.
        shape: (rows, frames, detectors) of the frames that are used.
        dtype: of the values.
        frames: those that are used, or None for all.
    """

    path: Path
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    frames: tuple[int, ...] | None = None

    def __getitem__(self, index: int) -> np.ndarray:
        with opened(self.path) as file:
            dataset = checked(at(file, self.name), self.path)
            row = dataset[:, index] if dataset.ndim == 3 else dataset[index][None]
        return row if self.frames is None else row[list(self.frames)]


def rows_of(
    item, path: Path, frames: np.ndarray | None = None, *, axes: tuple[int, ...] = (3,)
) -> RowsOnDisk:
    """The rows of a data set (frames, rows, detectors) of numbers.

    Args:
        item: what was found in the file.
        path: of the file.
        frames: those to use; None for all.
        axes: how many it may have; of two, (rows, detectors), it is one frame.

    Raises:
        InputError: no such data set, or one whose values may not be read.
    """
    dataset = checked(item, path)
    if dataset.ndim not in axes or dataset.dtype.kind not in "iuf":
        raise InputError(
            f"{dataset.name} in {path.name} must be numbers (frames, rows, detectors), got "
            f"{dataset.dtype} of shape {dataset.shape}."
        )
    count, rows, detectors = dataset.shape if dataset.ndim == 3 else (1, *dataset.shape)
    if not rows * detectors:
        raise InputError(f"{dataset.name} in {path.name} is empty, its shape is {dataset.shape}.")
    check_bytes(count * detectors * dataset.dtype.itemsize, f"a row of {dataset.name}")
    used = None if frames is None else tuple(int(frame) for frame in frames)
    shape = (rows, count if used is None else len(used), detectors)
    return RowsOnDisk(path, dataset.name, shape, dataset.dtype, used)


def attribute(holder, name: str, path: Path):
    """The value of an attribute of a file, group or data set: numbers or text.

    Raises:
        InputError: it holds something else, which HDF5 is not asked to convert: of a damaged type
            that ends the process; or it could not be read before.
    """
    first_read(path).check(address(holder), f"the attribute {name!r} in {path.name}", name)
    kept = holder.attrs.get_id(name)
    if kept.dtype.kind not in "iufSU" and h5py.check_string_dtype(kept.dtype) is None:
        raise InputError(
            f"the attribute {name!r} in {path.name} holds {kept.dtype}; expected real numbers."
        )
    check_bytes(math.prod(kept.shape or (0,)) * kept.dtype.itemsize, f"attribute {name!r}")
    return holder.attrs[name]


def text_attribute(item, name: str) -> str:
    """An attribute that is a text, or an empty text."""
    if name not in item.attrs:
        return ""
    try:
        value = attribute(item, name, Path(item.file.filename))
    except InputError:
        return ""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file for reading, in which another process has met what would hang or crash this one.

    Raises:
        InputError: whatever is wrong with the file.
        ComputationError: that process cannot be started.
    """
    first_read(path)
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except InputError:
        raise
    except HDF5_ERRORS as error:
        raise InputError(not_readable(path, str(error))) from None


def at(file: h5py.File, name: str, followed: int = 0):
    """The object of that name, or None; every link on the way stays within the file.

    Raises:
        InputError: a link to another file, or soft links that lead round in a circle.
    """
    place = file
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts):
        if not isinstance(place, h5py.Group) or part not in list(place):
            return None
        kind = _kind_of_link(place, part)
        if kind == h5py.h5l.TYPE_SOFT:
            if followed >= MAX_LINKS:
                raise InputError(f"the links to {name!r} lead round in a circle; copy the data.")
            target = place.id.links.get_val(part.encode()).decode()
            start = "" if target.startswith("/") else place.name
            rest = "/".join(parts[number + 1 :])
            return at(file, f"{start}/{target}/{rest}", followed + 1)
        if kind != h5py.h5l.TYPE_HARD:
            raise InputError(
                f"{'/'.join(parts[: number + 1])!r} is a link to another file, which is not "
                "followed; copy the data into one file (h5repack or h5copy)."
            )
        place = place[part]
    return place


def address(item: h5py.Group | h5py.Dataset) -> int:
    """Where in its file an object lies, whatever it is called."""
    return h5py.h5o.get_info(item.id).addr


def _kind_of_link(group: h5py.Group, key: str) -> int:
    """The type of a link, found without going where it leads."""
    return group.id.links.get_info(key.encode()).type


def objects(file: h5py.File) -> list[h5py.Group | h5py.Dataset]:
    """The file, and all groups and data sets that hard links lead to, each once, by name."""
    found, seen, open_groups = [file], set(), [file]
    while open_groups and len(seen) < MAX_OBJECTS:
        group = open_groups.pop()
        for key in group:
            if _kind_of_link(group, key) != h5py.h5l.TYPE_HARD:
                continue
            item = group[key]
            place = address(item)
            if place in seen:
                continue
            seen.add(place)
            found.append(item)
            if isinstance(item, h5py.Group):
                open_groups.append(item)
    return sorted(found, key=lambda item: item.name)


def datasets_of_any_kind(file: h5py.File) -> list[h5py.Dataset]:
    """All data sets among the objects of a file."""
    return [item for item in objects(file) if is_dataset(item)]


def datasets(file: h5py.File) -> list[h5py.Dataset]:
    """All data sets of numbers with an axis among the objects of a file."""
    every = datasets_of_any_kind(file)
    return [item for item in every if item.shape and item.dtype.kind in "iuf"]


def small_value(item: h5py.Dataset):
    """The number or text of a data set without axes, or what it holds in its place."""
    if item.shape is None:
        return "empty"
    try:
        return checked(item, Path(item.file.filename))[()]
    except InputError:
        return str(item.dtype)


def values(item, key: str, path: Path):
    """The values of a data set: text, an array, or slices that are read when asked for."""
    dataset = checked(item, path)
    if key in PER_ROW and dataset.ndim == 3 and dataset.size:
        check_bytes(dataset.size * dataset.dtype.itemsize // len(dataset), f"a slice of {key!r}")
        return SlicesOnDisk(path, dataset.name, dataset.shape, dataset.dtype)
    check_bytes(dataset.size * dataset.dtype.itemsize, f"{key!r} in {path.name}")
    return plain(dataset[()], key, path)


def checked(item, path: Path) -> h5py.Dataset:
    """The item, where it is a data set whose values lie in this file and are as many as it says."""
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{path.name} has a group where a data set was expected; name another.")
    first_read(path).check(address(item), f"{item.name} in {path.name}")
    name, kept = item.name, item.id.get_create_plist()
    if item.is_virtual or kept.get_external_count():
        raise InputError(
            f"the values of {name} lie in other files, which are not read; copy them into one "
            "file (h5repack or h5copy)."
        )
    if item.shape is None:
        raise InputError(f"{name} in {path.name} is empty; save it again.")
    if item.dtype.kind not in "iuf" and h5py.check_string_dtype(item.dtype) is None:
        raise InputError(f"{name} in {path.name} holds {item.dtype}; expected real numbers.")
    declared, stored = item.size * item.dtype.itemsize, item.id.get_storage_size()
    if item.chunks:
        check_bytes(math.prod(item.chunks) * item.dtype.itemsize, f"a chunk of {name}")
    if declared > SMALL_BYTES and declared > MAX_EXPANSION * stored:
        raise InputError(
            f"{name} declares {declared / 2**20:.0f} MiB but {path.name} holds "
            f"{stored / 2**20:.2g} MiB of it; if it is real data, save it without compression."
        )
    return item


def plain(value, key: str, path: Path):
    """A number, an array of numbers, or text, as the ``.npz`` reader gives them."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{key!r} in {path.name} holds {array.dtype}; expected real numbers.")
    return array


def is_dataset(item) -> bool:
    """Whether it is a data set, and no group."""
    return isinstance(item, h5py.Dataset)


def is_group(item) -> bool:
    """Whether it is a group or the file itself."""
    return isinstance(item, h5py.Group)
