"""File formats of scans by their endings. A new format is one function and one line here."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from pdip.errors import InputError
from pdip.scan.npy import read_npy, regular_file
from pdip.scan.npz import read_npz
from pdip.scan.rows import one_row


def _with(module: str, function: str) -> Callable[..., dict]:
    """A reader whose module, and the library behind it, is loaded for such a file only."""

    def read(path: Path, *dataset: str) -> dict:
        try:
            return getattr(import_module(f"pdip.scan.{module}"), function)(path, *dataset)
        except ModuleNotFoundError as error:
            raise InputError(
                f"{path.name} needs the package {error.name}; install it with pip."
            ) from None

    return read


_HDF5, _TIFF = _with("hdf5_layouts", "read_hdf5"), _with("tiff", "read_tiff")
FORMATS: dict[str, Callable[..., dict]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".hdf": _HDF5,
    ".nxs": _HDF5,
    ".nx": _HDF5,
    ".mat": _with("mat", "read_mat"),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    "": _with("tiff", "read_tiff_folder"),
}
"""Reader of each file name ending, and of folders: path -> dictionary of the keys of the file."""

WITH_DATASETS = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".mat")
"""Endings of files in which the sinogram may be named."""


def scan_path(path: str | Path, role: str = "scan") -> Path:
    """``path`` if it is a file or a folder of TIFFs; otherwise raise InputError."""
    try:
        if Path(path).is_dir():
            return Path(path)
    except (OSError, ValueError, TypeError):
        pass  # regular_file says what is wrong with it
    return regular_file(path, role)


def read_fields(path: Path, dataset: str | None = None) -> dict:
    """The keys of a file with their values, by the reader for its ending.

    Raises:
        InputError: another ending, or the reader refuses the file.
    """
    suffix = "" if path.is_dir() else path.suffix.lower() or "none"
    if suffix in (".dcm", ".dicom"):
        raise InputError(
            f"{path.name} is an image, not a scan; simulate a scan of it with "
            f"pdip simulate --image {path.name}."
        )
    if suffix not in FORMATS:
        raise InputError(
            f"{path.name} has the ending {path.suffix or 'none'!r}, expected one of "
            f"{', '.join(filter(None, FORMATS))}, or a folder of TIFFs; convert it."
        )
    if dataset is None:
        return one_row(FORMATS[suffix](path))
    if suffix not in WITH_DATASETS:
        raise InputError(
            f"a data set is named for HDF5 files only, and for MATLAB's, but the scan is "
            f"{path.name}."
        )
    return one_row(FORMATS[suffix](path, dataset))
