"""Read ``.npy`` files: the header is believed only as far as the bytes behind it go."""

import math
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from pdip.errors import InputError

MAX_BYTES = 2**30
"""Largest array, and largest sum of arrays in one ``.npz``, that is read (1 GiB)."""


def regular_file(path: str | Path, what: str = "file") -> Path:
    """Return ``path`` if it is a file that exists; otherwise raise InputError."""
    try:
        path = Path(path)
        if path.is_dir():
            raise InputError(f"expected a {what}, but {path} is a folder; name a file in it.")
        if not path.exists():
            raise InputError(f"{what} {path} does not exist; check the path.")
        if not path.is_file():
            raise InputError(f"{path} is not a regular file; copy the {what} to disk first.")
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what} {str(path)!r:.80} cannot be read ({error}).") from None
    return path


def read_npy(path: Path) -> dict:
    """Return {"sinogram": array} from a ``.npy`` file."""
    try:
        with path.open("rb") as stream:
            array = read_array(stream, path.stat().st_size, path.name)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    return {"sinogram": array}


def read_array(stream: IO[bytes], num_bytes: int, name: str) -> np.ndarray:
    """Read one array in NumPy's format without pickle and without trusting its header.

    Args:
        stream: positioned at the magic string.
        num_bytes: bytes the stream holds, header included.
        name: what messages call the array.

    Returns:
        a real numeric array, or an array of text.

    Raises:
        InputError: not this format, objects, or a header that promises other than it holds.
    """
    shape, fortran_order, dtype, header_bytes = _read_header(stream, name)
    if dtype.hasobject:
        raise InputError(
            f"{name} holds Python objects (a pickle), which are never loaded; "
            "save one plain numeric array."
        )
    if dtype.kind not in "iufUS":
        raise InputError(f"{name} holds {dtype}; expected real numbers.")
    declared = math.prod(shape) * dtype.itemsize
    if declared > MAX_BYTES:
        raise InputError(
            f"{name} declares {declared / 2**20:.0f} MiB, more than the limit of "
            f"{MAX_BYTES / 2**20:.0f} MiB; cut out one slice or bin it."
        )
    if declared != num_bytes - header_bytes:
        raise InputError(
            f"the header of {name} declares {declared} bytes of data but there are "
            f"{num_bytes - header_bytes}; the file is cut off or damaged, save it again."
        )
    data = stream.read(declared)
    if len(data) != declared:
        raise InputError(f"{name} ends after {len(data)} of {declared} bytes; save it again.")
    if declared == 0:
        return np.empty(shape, dtype)
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")
    if dtype.kind == "f" and dtype.itemsize > 8:
        with np.errstate(all="ignore"):
            return array.astype(np.float64)
    return array.astype(dtype.newbyteorder("="))


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, Fortran order, dtype and the length of the header in bytes."""
    start = stream.tell()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = npy_format.read_magic(stream)
            read_header = {
                (1, 0): npy_format.read_array_header_1_0,
                (2, 0): npy_format.read_array_header_2_0,
            }[version]
            shape, fortran_order, dtype = read_header(stream)
    # The header is an expression that NumPy evaluates and hands to np.dtype; damaged ones fail
    # there with a dozen kinds of error.
    except Exception:
        raise InputError(
            f"{name} is not an array in NumPy's .npy format; save it with numpy.save."
        ) from None
    if any(length < 0 for length in shape):
        raise InputError(f"the header of {name} declares the shape {shape}; save it again.")
    return shape, fortran_order, dtype, stream.tell() - start
