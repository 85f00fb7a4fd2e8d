"""Regions of an image, from a mask file or a box in text, and the slice that they are of."""

import math
import re
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy_format

from pdip.errors import InputError
from pdip.run_directory import RunDirectory
from pdip.scan.npy import read_npy, regular_file
from pdip.typing import Mask


def read_mask(path: str | Path, shape: tuple[int, int]) -> Mask:
    """The region marked in a ``.npy`` image of 0 and 1 (or False and True).

    Args:
        path: the file.
        shape: (height, width) of the reconstruction.

    Raises:
        InputError: not such a file, another shape, other values, or no pixel marked.
    """
    path = regular_file(path, "mask")
    if _is_boolean(path):
        values = np.load(path, allow_pickle=False, mmap_mode="r")
    else:
        values = read_npy(path)["sinogram"]
    if values.shape != shape:
        raise InputError(
            f"the mask in {path.name} has shape {values.shape} but the reconstruction {shape}; "
            "draw it on the reconstruction."
        )
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"the mask in {path.name} must hold 0 and 1 only; compare it with > 0.")
    if not values.any():
        raise InputError(f"the mask in {path.name} marks no pixel; set some to 1.")
    return torch.from_numpy(values.astype(bool))


def _is_boolean(path: Path) -> bool:
    """Whether the file is a whole boolean array, which read_npy does not take."""
    try:
        with path.open("rb") as stream:
            version = npy_format.read_magic(stream)
            found, _, dtype = npy_format.read_array_header_1_0(stream)
            whole = math.prod(found) == path.stat().st_size - stream.tell()
            return version == (1, 0) and dtype.kind == "b" and whole
    except (OSError, ValueError):
        return False  # whatever is wrong, read_npy says it in a sentence


def read_box(text: str, shape: tuple[int, int]) -> Mask:
    """The region ``r0:r1,c0:c1``: rows r0 to r1 - 1 and columns c0 to c1 - 1, counted from 0.

    Args:
        text: the box.
        shape: (height, width) of the reconstruction.

    Raises:
        InputError: another text, or a box that is empty or reaches outside of the image.

    Example:
        >>> int(read_box("0:2,1:4", (8, 8)).sum())
        6
    """
    found = re.fullmatch(r"\s*(\d{1,9}):(\d{1,9})\s*,\s*(\d{1,9}):(\d{1,9})\s*", text)
    if found is None:
        raise InputError(f"--box must be r0:r1,c0:c1 such as 10:20,5:15, got {text[:80]!r}.")
    top, bottom, left, right = (int(number) for number in found.groups())
    height, width = shape
    if not (top < bottom <= height and left < right <= width):
        raise InputError(
            f"the box {text.strip()} is empty or reaches outside of the {height} x {width} image."
        )
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def slice_directory(directory: RunDirectory, number: int | None) -> RunDirectory:
    """The folder that answers: the run's own, or that of the slice that was named."""
    numbers = directory.slice_numbers()
    if not numbers and number is None:
        return directory
    if number in numbers:
        return directory.slice(number)
    if not numbers:
        raise InputError(f"{directory.path} holds no stack of slices; leave --slice out.")
    listed = ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "")
    raise InputError(
        f"{directory.path} holds a stack of slices ({listed}); name one of them with --slice N."
    )
