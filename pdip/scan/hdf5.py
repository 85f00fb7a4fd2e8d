"""Read HDF5 files: one data set with its geometry, slice by slice, from this very file.

An HDF5 file can point elsewhere: external links, values stored in other files, data sets put
together from other files. Each is refused before anything is read, as is a data set that declares
far more than the file holds.
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
from pdip.scan.npy import check_bytes
from pdip.scan.npz import MAX_EXPANSION, NPZ_KEYS, check_names

MAX_OBJECTS = 10_000
MAX_LINKS = 16
"""Soft links that are followed one after another."""
SMALL_BYTES = 2**20
SLICED = ("sinogram", "counts", "flat", "dark", "weights", "reference", "ground_truth")
"""Keys whose data sets may have an axis of slices, which then stay in the file until indexed."""
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
        with _opened(self.path) as file:
            return _checked(_at(file, self.name), self.path)[index]


def read_hdf5(path: Path, dataset: str | None = None) -> dict:
    """Return the known keys of an HDF5 file; data sets of three axes as :class:`SlicesOnDisk`.

    Args:
        path: the file.
        dataset: the data set with the sinogram. None: ``sinogram``, else the only one with two or
            three axes of numbers. The other keys are the data sets beside it, and the attributes
            of the file, of its group and its own.

    Raises:
        InputError: not such a file, no single such data set, or one that points elsewhere.
    """
    with _opened(path) as file:
        name = dataset if dataset is not None else _name_of_sinogram(file, path)
        if name is None:
            return _beside(file, file, path)
        found = _at(file, name)
        if not isinstance(found, h5py.Dataset):
            raise InputError(_choice(f"{path.name} has no data set {name!r}", file))
        fields = _beside(file, found.parent, path)
        _add_attributes(fields, found, path)
        return fields | {"sinogram": _values(found, "sinogram", path)}


def _beside(file: h5py.File, group: h5py.Group, path: Path) -> dict:
    """The known keys in a group, the sinogram left out, and among its and the file's attributes."""
    names = list(group)
    keys = [key for key in names if key in NPZ_KEYS and key != "sinogram"]
    fields = {key: _values(_at(file, f"{group.name}/{key}"), key, path) for key in keys}
    check_names({"sinogram", *names}, path)
    for holder in (file,) if group == file else (file, group):
        _add_attributes(fields, holder, path)
    return fields


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The file for reading; whatever is wrong with it is an InputError."""
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except InputError:
        raise
    except HDF5_ERRORS as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{path.name} is not a readable HDF5 file ({said}).") from None


def _at(file: h5py.File, name: str, followed: int = 0):
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
            return _at(file, f"{start}/{target}/{rest}", followed + 1)
        if kind != h5py.h5l.TYPE_HARD:
            raise InputError(
                f"{'/'.join(parts[: number + 1])!r} is a link to another file, which is not "
                "followed; copy the data into one file (h5repack or h5copy)."
            )
        place = place[part]
    return place


def _kind_of_link(group: h5py.Group, key: str) -> int:
    """The type of a link, found without going where it leads."""
    return group.id.links.get_info(key.encode()).type


def _name_of_sinogram(file: h5py.File, path: Path) -> str | None:
    """``sinogram``, else the only data set that can be one; None in a file of other keys alone."""
    if "sinogram" in list(file):
        return "sinogram"
    others = [key for key in NPZ_KEYS if key != "sinogram"]
    names = [found.name for found in _datasets(file) if found.ndim in (2, 3)]
    names = [name for name in names if name.rpartition("/")[2] not in others]
    if len(names) == 1:
        return names[0]
    if not names and any(key in others for key in list(file)):
        return None
    kind = "several data sets" if names else "no data set"
    raise InputError(_choice(f"{path.name} has {kind} of two or three axes of numbers", file))


def _choice(what: str, file: h5py.File) -> str:
    """One sentence that ends with the data sets there are."""
    datasets = _datasets(file)
    large = [found for found in datasets if found.ndim in (2, 3)] or datasets
    shown = [f"{found.name} {found.shape}" for found in large]
    listed = ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
    return f"{what} (it holds {listed or 'none'}); name the one to use with --dataset NAME."


def _datasets(file: h5py.File) -> list[h5py.Dataset]:
    """All data sets of numbers that hard links lead to, each once."""
    found, seen, open_groups = [], set(), [file]
    while open_groups and len(seen) < MAX_OBJECTS:
        group = open_groups.pop()
        for key in group:
            if _kind_of_link(group, key) != h5py.h5l.TYPE_HARD:
                continue
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                open_groups.append(item)
            elif isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf" and item.shape:
                found.append(item)
    return sorted(found, key=lambda item: item.name)


def _values(item, key: str, path: Path):
    """The values of a data set: text, an array, or slices that are read when asked for."""
    dataset = _checked(item, path)
    if key in SLICED and dataset.ndim == 3 and dataset.size:
        check_bytes(dataset.size * dataset.dtype.itemsize // len(dataset), f"a slice of {key!r}")
        return SlicesOnDisk(path, dataset.name, dataset.shape, dataset.dtype)
    check_bytes(dataset.size * dataset.dtype.itemsize, f"{key!r} in {path.name}")
    return _plain(dataset[()], key, path)


def _checked(item, path: Path) -> h5py.Dataset:
    """The item if it is a data set whose values lie in this file and are as many as it says."""
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{path.name} has a group where a data set was expected; name another.")
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


def _add_attributes(fields: dict, holder, path: Path) -> None:
    """Add the known keys among the attributes of a file, group or data set."""
    attributes = holder.attrs
    check_names({"sinogram", *fields, *attributes}, path)
    for key in (key for key in attributes if key in NPZ_KEYS):
        kept = attributes.get_id(key)
        check_bytes(math.prod(kept.shape or (0,)) * kept.dtype.itemsize, f"attribute {key!r}")
        value = _plain(attributes[key], key, path)
        if key in fields and not np.array_equal(np.asarray(fields[key]), np.asarray(value)):
            raise InputError(f"{path.name} gives {key!r} twice and not the same; keep one of them.")
        fields[key] = value


def _plain(value, key: str, path: Path):
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
