"""Read ``.npz`` files: sizes come from the directory of the archive before anything is read."""

import difflib
import lzma
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from pdip.errors import InputError
from pdip.scan.fields import GEOMETRY_KEYS, GRID_KEYS
from pdip.scan.likely_angles import likely_angles
from pdip.scan.npy import MAX_BYTES, read_array, read_header
from pdip.scan.preprocessing import PREPROCESSING_KEYS

MAX_EXPANSION = 200
"""Unpacked over packed size that is believed, for members above 1 MiB (zlib reaches 1032)."""

ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,  # encrypted, or a method that is not there
    ValueError,
    LookupError,
    OverflowError,
)
"""What zipfile and the decompressors behind it raise for damaged archives."""

VALUE_KEYS = ("sinogram", "counts", "reference", "ground_truth")
NPZ_KEYS = (
    *VALUE_KEYS,
    "weights",
    "angle_convention",
    "ref_pixel_mm",
    *GEOMETRY_KEYS,
    *GRID_KEYS,
    *PREPROCESSING_KEYS,
)


def read_npz(path: Path, known: Collection[str] = NPZ_KEYS) -> dict:
    """Return the known keys of a ``.npz`` file: arrays, and text where an entry is text.

    Other entries are not read; one that looks like a misspelt key is an error, and one that looks
    like the angles is told of in ``assumptions``.

    Raises:
        InputError: no such archive, none of the keys, or one that cannot be used.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
            check_names(members, path, known)
            wanted = {key: members[key] for key in known if key in members}
            _check_sizes(wanted, path)
            shapes = _shapes(archive, {n: i for n, i in members.items() if n not in known}, path)
            if "sinogram" in known and not wanted.keys() & VALUE_KEYS:
                first = sorted(shapes.items(), key=lambda entry: -len(entry[1]))[:8]
                listed = ", ".join(f"{name} {shape}" for name, shape in first)
                raise InputError(
                    f"{path.name} has no key 'sinogram' or 'counts'{listed and f' but {listed}'}; "
                    "save line integrals with numpy.savez(..., sinogram=array), or counts with "
                    "counts=array and flat=array."
                )
            fields = {key: _read_member(archive, info, path) for key, info in wanted.items()}
            said = likely_angles(shapes, fields)
            return fields | ({"assumptions": said} if said else {})
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    except ARCHIVE_ERRORS as error:
        raise InputError(
            f"{path} is not a readable .npz archive ({str(error)[:200]}); save it again with "
            "numpy.savez."
        ) from None


def check_names(names: Collection[str], path: Path, known: Collection[str] = NPZ_KEYS) -> None:
    """Raise InputError for a name that looks like a misspelt key."""
    missing = [key for key in known if key not in names]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
            if near:
                raise InputError(f"unknown key {name!r} in {path.name}; did you mean {near[0]!r}?")


def _check_sizes(members: dict[str, zipfile.ZipInfo], path: Path) -> None:
    total = sum(info.file_size for info in members.values())
    if total > MAX_BYTES:
        raise InputError(
            f"{path.name} unpacks to {total / 2**20:.0f} MiB, more than the limit of "
            f"{MAX_BYTES / 2**20:.0f} MiB; cut out one slice or bin it."
        )
    for key, info in members.items():
        if info.file_size > 2**20 and info.file_size > MAX_EXPANSION * info.compress_size:
            raise InputError(
                f"{key!r} in {path.name} expands {info.file_size / max(info.compress_size, 1):.0f} "
                f"times, more than {MAX_EXPANSION}; if it is real data, use numpy.savez."
            )


def _shapes(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: Path
) -> dict[str, tuple[int, ...]]:
    """Shapes of arrays that are not read; one whose header cannot be read has none."""
    shapes = {}
    for name, info in members.items():
        try:
            with archive.open(info) as stream:
                shapes[name] = read_header(stream, f"{name!r} in {path.name}").shape
        except (InputError, *ARCHIVE_ERRORS):
            shapes[name] = ()
    return shapes


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray | str:
    key = info.filename.removesuffix(".npy")
    with archive.open(info) as stream:
        array = read_array(stream, info.file_size, f"{key!r} in {path.name}")
    if array.dtype.kind not in "US":
        return array
    if array.size != 1:
        raise InputError(f"{key!r} in {path.name} is a list of texts; expected numbers.")
    text = array.reshape(-1)[0]
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
