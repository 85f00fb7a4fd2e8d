"""HDF5 files with the keys of the data description: data sets, and attributes beside them."""

from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.hdf5 import at, attribute, datasets, is_dataset, plain, values
from pdip.scan.npz import NPZ_KEYS, check_names


def read_keys(file, path: Path, dataset: str | None = None) -> dict:
    """Return the known keys of an open file; data sets of three axes stay in it until indexed.

    Args:
        file: open.
        path: of the file.
        dataset: the data set with the sinogram. None: ``sinogram``, else the only one with two or
            three axes of numbers. The other keys are the data sets beside it, and the attributes
            of the file, of its group and its own.

    Raises:
        InputError: no single such data set, or one that points elsewhere.
    """
    name = dataset if dataset is not None else _name_of_sinogram(file, path)
    if name is None:
        return _beside(file, file, path)
    found = at(file, name)
    if not is_dataset(found):
        raise InputError(_choice(f"{path.name} has no data set {name!r}", file))
    fields = _beside(file, found.parent, path)
    _add_attributes(fields, found, path)
    return fields | {"sinogram": values(found, "sinogram", path)}


def _beside(file, group, path: Path) -> dict:
    """The known keys in a group, the sinogram left out, and among its and the file's attributes."""
    names = list(group)
    keys = [key for key in names if key in NPZ_KEYS and key != "sinogram"]
    fields = {key: values(at(file, f"{group.name}/{key}"), key, path) for key in keys}
    check_names({"sinogram", *names}, path)
    for holder in (file,) if group == file else (file, group):
        _add_attributes(fields, holder, path)
    return fields


def _name_of_sinogram(file, path: Path) -> str | None:
    """``sinogram``, else the only data set that can be one; None in a file of other keys alone."""
    if "sinogram" in list(file):
        return "sinogram"
    others = [key for key in NPZ_KEYS if key != "sinogram"]
    names = [found.name for found in datasets(file) if found.ndim in (2, 3)]
    names = [name for name in names if name.rpartition("/")[2] not in others]
    if len(names) == 1:
        return names[0]
    if not names and any(key in others for key in list(file)):
        return None
    kind = "several data sets" if names else "no data set"
    raise InputError(_choice(f"{path.name} has {kind} of two or three axes of numbers", file))


def _choice(what: str, file) -> str:
    """One sentence that ends with the data sets there are."""
    found = datasets(file)
    large = [item for item in found if item.ndim in (2, 3)] or found
    shown = [f"{item.name} {item.shape}" for item in large]
    listed = ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
    return f"{what} (it holds {listed or 'none'}); name the one to use with --dataset NAME."


def _add_attributes(fields: dict, holder, path: Path) -> None:
    """Add the known keys among the attributes of a file, group or data set."""
    attributes = holder.attrs
    check_names({"sinogram", *fields, *attributes}, path)
    for key in (key for key in attributes if key in NPZ_KEYS):
        value = plain(attribute(holder, key, path), key, path)
        if key in fields and not np.array_equal(np.asarray(fields[key]), np.asarray(value)):
            raise InputError(f"{path.name} gives {key!r} twice and not the same; keep one of them.")
        fields[key] = value
