"""MATLAB files up to v7: SciPy reads them, after every length in them has been checked.

A file is a header of 128 bytes and elements: a tag (type, number of bytes) and data, padded to 8
bytes. Matrices are elements made of elements; MATLAB packs each variable with zlib. SciPy asks for
the memory that a tag or a shape declares, so those that the file cannot fill are refused before.

MathWorks, MAT-File Format (level 5).
"""

import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from pdip.errors import InputError
from pdip.scan.npy import MAX_BYTES, check_bytes
from pdip.scan.npz import MAX_EXPANSION

HEADER = 128
MATRIX, COMPRESSED = 14, 15
CELL, STRUCTURE, OBJECT, CHARACTERS, SPARSE = 1, 2, 3, 4, 5
NUMBERS = range(6, 16)
UNREAD = {
    OBJECT: "object",
    SPARSE: "sparse matrix",
    16: "function handle",
    17: "object",
    18: "object",
}
MAX_DEPTH = 8
SMALL_BYTES = 2**20


@dataclass(frozen=True)
class Unread:
    """A variable that is not loaded; ``kind`` says what it is."""

    kind: str


class Damaged(ValueError):
    """An element that its file cannot hold."""


def mat5_variables(path: Path) -> dict:
    """The variables of a file up to v7, as :func:`pdip.scan.mat.mat_variables` gives them.

    Raises:
        InputError: not such a file, cut off, or larger than it may be.
    """
    try:
        check_bytes(path.stat().st_size, path.name)
        content = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if order is None:
            raise Damaged("its header is not that of version 5")
        unread, plain = {}, [content[:HEADER]]
        for element in _unpacked(content, order, path):
            name, kind = _checked_matrix(element, order, 0)
            if kind is not None:
                unread[name] = Unread(kind)
            else:
                plain += [struct.pack(f"{order}II", MATRIX, len(element)), element]
        return _loaded(b"".join(plain)) | unread
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    # SciPy's reader lets through what its parts raise for damaged values.
    except Exception as error:
        said = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path.name} is not a readable MATLAB file ({said}); save it again with -v7."
        ) from None


def _loaded(content: bytes) -> dict:
    """What SciPy reads; structures are dictionaries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        variables = loadmat(io.BytesIO(content), simplify_cells=True)
    found = {name: value for name, value in variables.items() if not name.startswith("__")}
    return {name: _named(value) for name, value in found.items()}


def _named(value):
    """Lists and arrays of objects by what they are."""
    if isinstance(value, dict):
        return {name: _named(entry) for name, entry in value.items()}
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype.kind == "O"):
        return Unread("cell array")
    return value


def _unpacked(content: bytes, order: str, path: Path) -> Iterator[bytes]:
    """The data of the matrices at the top of a file, unpacked within bounds."""
    total = 0
    for kind, data in _elements(content, HEADER, len(content), order):
        if kind == COMPRESSED:
            limit = max(SMALL_BYTES, MAX_EXPANSION * len(data))
            plain = zlib.decompressobj().decompress(data, min(limit, MAX_BYTES - total) + 1)
            if len(plain) > min(limit, MAX_BYTES - total):
                raise InputError(
                    f"a variable of {path.name} unpacks to more than {limit / 2**20:.0f} MiB; if "
                    "it is real data, save it without compression."
                )
            total += len(plain)
            ((kind, data),) = _elements(plain, 0, len(plain), order)
        if kind == MATRIX:
            yield data


def _elements(data: bytes, start: int, stop: int, order: str) -> Iterator[tuple[int, bytes]]:
    """The elements between two places, each with its type."""
    while start < stop:
        if stop - start < 8:
            raise Damaged("it ends within a tag")
        kind, count = struct.unpack_from(f"{order}II", data, start)
        if kind >> 16:  # a small element: type and length in one half, up to 4 bytes in the other
            kind, count = kind & 0xFFFF, kind >> 16
            if count > 4:
                raise Damaged("a small element declares more than 4 bytes")
            yield kind, data[start + 4 : start + 4 + count]
            start += 8
            continue
        if count > stop - start - 8:
            raise Damaged(f"an element declares {count} bytes, more than are left")
        yield kind, data[start + 8 : start + 8 + count]
        # Only a packed variable is not padded.
        start += 8 + (count if kind == COMPRESSED else -(-count // 8) * 8)


def _checked_matrix(data: bytes, order: str, depth: int) -> tuple[str, str | None]:
    """The name of a matrix, and what it is if it is nothing to read; all lengths in it hold."""
    if depth > MAX_DEPTH:
        raise Damaged(f"its structures are more than {MAX_DEPTH} deep")
    if not data:
        return "", None
    elements = list(_elements(data, 0, len(data), order))
    flags = elements[0][1]
    if len(flags) < 8:
        raise Damaged("a variable has no flags")
    kind = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    if kind in UNREAD:
        text = elements[1][1] if kind >= 17 else elements[2][1]
        return text.decode("latin-1"), UNREAD[kind]
    if kind not in (CELL, STRUCTURE, CHARACTERS, *NUMBERS) or len(elements) < 3:
        raise Damaged(f"a variable has the unknown class {kind}")
    dims = struct.unpack(f"{order}{len(elements[1][1]) // 4}i", elements[1][1])
    if min(dims, default=-1) < 0 or math.prod(dims) > len(data):
        raise Damaged(f"a variable declares the shape {dims}")
    inner = [part for what, part in elements[3:] if what == MATRIX]
    kinds = [_checked_matrix(part, order, depth + 1)[1] for part in inner]
    return elements[2][1].decode("latin-1"), next(filter(None, kinds), None)
