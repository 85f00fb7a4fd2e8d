"""MATLAB files up to v7: SciPy reads them, after every length in them has been checked.

A file is a header of 128 bytes and elements: a tag (type, number of bytes) and data, padded to 8
bytes. Matrices are elements made of elements; MATLAB packs each variable with zlib. SciPy asks for
the memory that a tag or a shape declares, and a wrong type in a tag ends the process, so that the
parts of every matrix must be those that its class has before SciPy sees it.

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
INT8, UINT8, UINT16, INT32, UINT32, MATRIX, COMPRESSED, UTF8, UTF16 = 1, 2, 4, 5, 6, 14, 15, 16, 17
"""Types of elements."""
BYTES_OF = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
"""Type of numbers -> bytes of one."""
CELL, STRUCTURE, OBJECT, CHARACTERS, SPARSE = 1, 2, 3, 4, 5
NUMBERS = range(6, 16)
COMPLEX = 0x800
"""Classes of matrices, and a flag beside them."""
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
            name, kind = _checked_matrix(element, order)
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


def _checked_matrix(data: bytes, order: str, depth: int = 0) -> tuple[str, str | None]:
    """The name of a matrix, and what it is if it is nothing to read; all of it is as it must be."""
    if depth > MAX_DEPTH:
        raise Damaged(f"its structures are more than {MAX_DEPTH} deep")
    elements = list(_elements(data, 0, len(data), order))
    if len(elements) < 3 or elements[0][0] != UINT32 or len(elements[0][1]) != 8:
        raise Damaged("a variable has no flags")
    flags = struct.unpack_from(f"{order}I", elements[0][1])[0]
    kind = flags & 0xFF
    if kind in UNREAD:
        text = elements[1][1] if kind >= 17 else elements[2][1]
        return text.decode("latin-1"), UNREAD[kind]
    (dims_type, dims), (name_type, name), *parts = elements[1:]
    if dims_type != INT32 or len(dims) < 8 or len(dims) % 4 or name_type != INT8:
        raise Damaged("a variable has no shape or no name")
    shape = struct.unpack(f"{order}{len(dims) // 4}i", dims)
    if min(shape) < 0 or math.prod(shape) > len(data):
        raise Damaged(f"a variable declares the shape {shape}")
    if kind in (CELL, STRUCTURE):
        inner = _checked_parts(parts, math.prod(shape), kind, order)
        kinds = [_checked_matrix(part, order, depth + 1)[1] for part in inner if part]
        return name.decode("latin-1"), next(filter(None, kinds), None)
    _check_values(parts, math.prod(shape), kind, 2 if flags & COMPLEX else 1)
    return name.decode("latin-1"), None


def _checked_parts(
    parts: list[tuple[int, bytes]], count: int, kind: int, order: str
) -> list[bytes]:
    """The matrices in a cell array or structure; as many as its shape and its fields say."""
    if kind == STRUCTURE:
        if len(parts) < 2 or parts[0][0] != INT32 or len(parts[0][1]) != 4 or parts[1][0] != INT8:
            raise Damaged("a structure has no names of fields")
        (length,) = struct.unpack(f"{order}i", parts[0][1])
        if length < 1 or len(parts[1][1]) % length:
            raise Damaged("the names of the fields of a structure do not fit")
        count *= len(parts[1][1]) // length
        parts = parts[2:]
    if len(parts) != count or any(what != MATRIX for what, _ in parts):
        raise Damaged("a cell array or structure has another number of entries than it declares")
    return [part for _, part in parts]


def _check_values(parts: list[tuple[int, bytes]], count: int, kind: int, halves: int) -> None:
    """Raise Damaged unless the values of a matrix are as many as its shape says."""
    if kind == CHARACTERS:
        if len(parts) != 1 or parts[0][0] not in (INT8, UINT8, UINT16, UTF8, UTF16):
            raise Damaged("a text has no characters")
        return
    if kind not in NUMBERS:
        raise Damaged(f"a variable has the unknown class {kind}")
    sizes = [len(part) == count * BYTES_OF.get(what, -1) for what, part in parts]
    if len(parts) != halves or not all(sizes):
        raise Damaged("a variable has another number of values than its shape says")
