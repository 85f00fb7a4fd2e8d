"""TIFF: one sinogram, or detector images: a file of many pages, or a folder of one file per view.

A page of a file of one page is a sinogram (views, detectors). The pages of a file of several, and
the files of a folder in the order of the numbers in their names, are views (rows, detectors).
In a folder, files whose names begin with ``flat`` or ``dark``, and those in folders ``flat``,
``flats``, ``dark`` and ``darks`` in it, are flat and dark fields. Hidden files are left out, and a
view that is missing is named (:mod:`pdip.scan.tiff_series`). Whole numbers are counts.
"""

import logging
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from pdip.errors import InputError
from pdip.scan.bounded import BoundedFile
from pdip.scan.checks import shown
from pdip.scan.npy import check_bytes
from pdip.scan.rows import DetectorRows
from pdip.scan.tiff_series import grouped, series_of

DEFLATE_RATIO = 1032
"""Bytes that a byte of a deflated stream stands for at most (zlib, technical details)."""
MAX_FRAMES = 100_000
PLAIN, DEFLATE = 1, (8, 32946)
"""Numbers of the compressions that are read, of deflate the older one too."""
TIFF_ERRORS = (
    tifffile.TiffFileError, OSError, ValueError, TypeError, LookupError, AttributeError,
    OverflowError, RuntimeError, ArithmeticError, struct.error, zlib.error, AssertionError,
    RecursionError,
)  # fmt: skip
"""What tifffile raises for damaged files."""


@dataclass(frozen=True)
class TiffRows(DetectorRows):
    """Detector images in TIFF files; indexing reads one row of each.

    Attributes:
        paths: of the files in the order of the views; of one file, all pages are views.
        shape: (rows, views, detectors).
        dtype: of the values.
    """

    paths: tuple[Path, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype

    def __getitem__(self, index: int) -> np.ndarray:
        _, views, detectors = self.shape
        rows = np.empty((views, detectors), self.dtype)
        filled = 0
        for path in self.paths:
            with opened_tiff(path) as file:
                for page in file.pages if len(self.paths) == 1 else file.pages[:1]:
                    _check_alike(page, self.shape[::2], self.dtype, path)
                    rows[filled] = _row(page, index, path)
                    filled += 1
        return rows


def read_tiff(path: Path) -> dict:
    """The keys of one TIFF file.

    Raises:
        InputError: not such a file, or pages that are no greyscale images of one shape.
    """
    with opened_tiff(path) as file:
        pages = _number_of_pages(file, path)
        first = file.pages[0]
        shape, dtype = _greyscale(first, path)
        if pages == 1:
            return _kind({}, _values(first, path), path)
    check_bytes(pages * shape[1] * dtype.itemsize, f"a row of {path.name}")
    return _kind({}, TiffRows((path,), (shape[0], pages, shape[1]), dtype), path)


def read_tiff_folder(folder: Path) -> dict:
    """The keys of a folder of TIFFs, one for each view.

    Raises:
        InputError: no TIFF in it, views that differ in shape, or a name unlike the others.
    """
    groups = grouped(folder)
    if not groups["view"]:
        raise InputError(f"the folder {folder} holds no TIFF files; name a scan.")
    views = _rows(groups["view"])
    fields = {"series": series_of(groups["view"])}
    for kind in ("flat", "dark"):
        if groups[kind]:
            fields[kind] = _rows(groups[kind])
            _check_shape(groups[kind][0], fields[kind].shape[::2], views.shape[::2])
    return _kind(fields, views, folder)


def pages_of(paths: list[Path]) -> tuple[tuple[int, ...], np.dtype, str]:
    """Shape of the first image with their number in front, type, and how it is compressed."""
    with opened_tiff(paths[0]) as file:
        shape, dtype = _greyscale(file.pages[0], paths[0])
        pages, kind = _number_of_pages(file, paths[0]), file.pages[0].compression
    frames = max(pages, len(paths))
    note = "" if kind == PLAIN else "deflated"
    return (frames, *shape) if frames > 1 else shape, dtype, note


@contextmanager
def opened_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """The file for reading; whatever is wrong with it is an InputError."""
    log = logging.getLogger("tifffile")
    before, log.disabled = log.disabled, True
    try:
        with BoundedFile(path) as stream, tifffile.TiffFile(stream) as file:
            yield file
    except InputError:
        raise
    except TIFF_ERRORS as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{path.name} is not a readable TIFF file ({said}).") from None
    finally:
        log.disabled = before


def _kind(fields: dict, values, path: Path) -> dict:
    """Add what was measured, as counts or as line integrals."""
    if values.dtype.kind in "iu" or "flat" in fields:
        return fields | {"counts": values, "data_kind": "counts"}
    said = f"The values of {path.name} are taken as line integrals: they are no whole numbers."
    return fields | {"sinogram": values, "data_kind": "line_integrals", "assumptions": (said,)}


def _rows(paths: list[Path]) -> TiffRows:
    """The images of one file, or the first pages of several, by rows."""
    if len(paths) > MAX_FRAMES:
        raise InputError(f"{paths[0].parent} holds {len(paths)} TIFFs, more than {MAX_FRAMES}.")
    with opened_tiff(paths[0]) as file:
        pages = _number_of_pages(file, paths[0])
        (height, width), dtype = _greyscale(file.pages[0], paths[0])
    if pages > 1 and len(paths) > 1:
        raise InputError(f"{paths[0].name} has {pages} pages; a folder holds one view in a file.")
    frames = max(pages, len(paths))
    check_bytes(frames * width * dtype.itemsize, f"a row of {paths[0].parent.name}")
    return TiffRows(tuple(paths), (height, frames, width), dtype)


def _number_of_pages(file: tifffile.TiffFile, path: Path) -> int:
    pages = len(file.pages)
    if not 0 < pages <= MAX_FRAMES:
        raise InputError(f"{path.name} has {pages} pages, expected 1 to {MAX_FRAMES}.")
    declared = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    if declared != pages and declared != 1:
        raise InputError(
            f"{path.name} is an ImageJ stack of {declared} images of which {pages} have an entry; "
            "save it as an image sequence."
        )
    return pages


def _greyscale(page: tifffile.TiffPage, path: Path) -> tuple[tuple[int, int], np.dtype]:
    """Shape and type of a page of real numbers, believed as far as the bytes behind it go."""
    shape, dtype = tuple(page.shape), page.dtype
    sized = len(shape) == 2 and all(isinstance(n, int) and n > 0 for n in shape)
    if not sized or dtype is None or np.dtype(dtype).kind not in "iuf":
        raise InputError(
            f"{path.name} holds {shown(dtype)} of shape {shown(shape)}; expected grey images of "
            "real numbers."
        )
    if page.compression != PLAIN and page.compression not in DEFLATE:
        raise InputError(
            f"{path.name} is compressed as "
            f"{getattr(page.compression, 'name', shown(page.compression))}; save it without "
            "compression."
        )
    dtype = np.dtype(dtype)
    declared, size = shape[0] * shape[1] * dtype.itemsize, path.stat().st_size
    check_bytes(declared, f"a page of {path.name}")
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not all(isinstance(number, int) for part in parts for number in part):
        raise InputError(f"{path.name} says where its pixels lie in numbers that are not whole.")
    if not page.is_contiguous and len(parts) != math.prod(page.chunked):
        raise InputError(  # tifffile would go through all that are declared
            f"a page of {path.name} declares {math.prod(page.chunked)} strips or tiles but lists "
            f"{len(parts)}; it is damaged, save it again."
        )
    stored = sum(max(min(offset + count, size) - offset, 0) for offset, count in parts)
    needed = declared if page.compression == PLAIN else sum(count for _, count in parts)
    if stored < needed:
        raise InputError(
            f"a page of {path.name} declares {needed} bytes, but the file holds {stored} of it; it "
            "is cut off or damaged, save it again."
        )
    if page.compression in DEFLATE and declared > DEFLATE_RATIO * stored:
        raise InputError(
            f"a page of {path.name} declares {declared} bytes, more than its {stored} can unpack "
            "to; it is damaged, save it again."
        )
    return shape, dtype


def _check_alike(page, shape: tuple[int, int], dtype: np.dtype, path: Path) -> None:
    found, kind = _greyscale(page, path)
    _check_shape(path, found, shape)
    if kind != dtype:
        raise InputError(f"{path.name} holds {kind}, the views before it {dtype}; save all alike.")


def _check_shape(path: Path, found: tuple, expected: tuple) -> None:
    if tuple(found) != tuple(expected):
        raise InputError(
            f"{path.name} is {found[0]} x {found[1]} pixels but the views are {expected[0]} x "
            f"{expected[1]}; they must be of one detector."
        )


def _row(page: tifffile.TiffPage, index: int, path: Path) -> np.ndarray:
    """One row of a page, without the others where the page is stored plainly."""
    if not page.is_contiguous:
        return _values(page, path)[index]
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    bytes_in_row = page.shape[1] * dtype.itemsize
    stream = page.parent.filehandle
    stream.seek(page.dataoffsets[0] + index * bytes_in_row)
    return np.frombuffer(stream.read(bytes_in_row), dtype)


def _values(page: tifffile.TiffPage, path: Path) -> np.ndarray:
    """All values of a page whose declaration has been checked."""
    if page.compression in DEFLATE:
        _check_segments(page, path)
    values = page.asarray()
    if values.shape != tuple(page.shape):
        raise InputError(f"{path.name} unpacks to {values.shape} in place of {page.shape}.")
    return values.astype(values.dtype.newbyteorder("="))


def _check_segments(page: tifffile.TiffPage, path: Path) -> None:
    """Raise InputError where a deflated segment unpacks to more than a page."""
    limit = page.nbytes
    stream = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        stream.seek(offset)
        unpacked = zlib.decompressobj().decompress(stream.read(count), limit + 1)
        if len(unpacked) > limit:
            raise InputError(f"{path.name} unpacks to more than its {limit} bytes; save it again.")
