"""Which layout an HDF5 file has: DXchange, NXtomo, or the keys of the data description."""

from pathlib import Path

from pdip.errors import InputError
from pdip.scan.dxchange import is_dxchange, read_dxchange
from pdip.scan.hdf5 import opened
from pdip.scan.hdf5_keys import read_keys
from pdip.scan.nxtomo import entries, read_nxtomo


def read_hdf5(path: Path, dataset: str | None = None) -> dict:
    """Return the known keys of an HDF5 file; large arrays stay in it until indexed.

    Args:
        path: the file.
        dataset: of a file with keys: see :func:`pdip.scan.hdf5_keys.read_keys`; of NXtomo: the
            entry, where there are several.

    Raises:
        InputError: none of the layouts, or something in it cannot be used.
    """
    with opened(path) as file:
        found = entries(file)
        if dataset is None and is_dxchange(file):
            return read_dxchange(file, path)
        if found and (dataset is None or dataset.strip("/") in [e.strip("/") for e in found]):
            if dataset is None and len(found) > 1:
                raise InputError(
                    f"{path.name} holds the scans {', '.join(found[:8])}; name one with --dataset."
                )
            return read_nxtomo(file, found[0] if dataset is None else dataset.strip("/"), path)
        return read_keys(file, path, dataset)


def layout(path: Path) -> str:
    """The name of the layout of an HDF5 file."""
    with opened(path) as file:
        if is_dxchange(file):
            return "HDF5 with the layout DXchange"
        return "HDF5 with the layout NXtomo" if entries(file) else "HDF5"
