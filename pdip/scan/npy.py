"""Read ``.npy`` files: the header is believed only as far as the bytes behind it go."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

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
    """Return {"sinogram": array} from a ``.npy`` file; three axes stay on disk until indexed."""
    try:
        with path.open("rb") as stream:
            num_bytes = path.stat().st_size
            header = read_header(stream, path.name)
            if len(header.shape) == 3 and 0 not in header.shape:
                return {"sinogram": _mapped(path, header, num_bytes)}
            stream.seek(0)
            return {"sinogram": read_array(stream, num_bytes, path.name)}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None


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
    header = read_header(stream, name)
    declared, dtype = header.declared_bytes, header.dtype
    check_bytes(declared, name)
    header.check_complete(num_bytes, name)
    data = stream.read(declared)
    if len(data) != declared:
        raise InputError(f"{name} ends after {len(data)} of {declared} bytes; save it again.")
    if declared == 0:
        return np.empty(header.shape, dtype)
    array = np.frombuffer(data, dtype).reshape(header.shape, order=header.order)
    if dtype.kind == "f" and dtype.itemsize > 8:
        with np.errstate(all="ignore"):
            return array.astype(np.float64)
    return array.astype(dtype.newbyteorder("="))


def _mapped(path: Path, header: "Header", num_bytes: int) -> np.memmap:
    """The array of a stack, from which each slice is read when it is asked for."""
    check_bytes(header.declared_bytes // header.shape[0], f"a slice of {path.name}")
    header.check_complete(num_bytes, path.name)
    return np.memmap(path, header.dtype, "r", header.num_bytes, header.shape, header.order)


def check_bytes(declared: int, name: str) -> None:
    """Raise InputError where an array is larger than any that is read at once."""
    if declared > MAX_BYTES:
        raise InputError(
            f"{name} declares {declared / 2**20:.0f} MiB, more than the limit of "
            f"{MAX_BYTES / 2**20:.0f} MiB; cut out one slice or bin it."
        )


@dataclass(frozen=True)
class Header:
    """What stands before the values: their shape, order, type, and its own length in bytes."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype
    num_bytes: int

    @property
    def declared_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check_complete(self, num_bytes: int, name: str) -> None:
        """Raise InputError unless the values fill ``num_bytes`` together with the header."""
        found = num_bytes - self.num_bytes
        if self.declared_bytes != found:
            raise InputError(
                f"the header of {name} declares {self.declared_bytes} bytes of data but there are "
                f"{found}; the file is cut off or damaged, save it again."
            )


def read_header(stream: IO[bytes], name: str) -> Header:
    """Read the header of an array of numbers or text; ``name`` is what messages call it."""
    shape, fortran_order, dtype, num_bytes = _read_header(stream, name)
    if dtype.hasobject:
        raise InputError(
            f"{name} holds Python objects (a pickle), which are never loaded; "
            "save one plain numeric array."
        )
    if dtype.kind not in "iufUS":
        raise InputError(f"{name} holds {dtype}; expected real numbers.")
    return Header(shape, "F" if fortran_order else "C", dtype, num_bytes)


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
