"""NumPy archives of results."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from pdip.units import MapInUnit


def write_npz(
    stream: IO[bytes],
    maps: Mapping[str, MapInUnit],
    pixel_mm: float,
    slices: Sequence[int],
    provenance: Mapping[str, Any],
) -> None:
    """Write images or volumes, ``pixel_mm``, ``units`` and ``provenance`` (JSON) as savez would.

    Of a volume ``slices``, too.

    Args:
        stream: open for writing, from its start.
        maps: name -> image or volume, all in one unit.
        pixel_mm: side of a pixel.
        slices: the numbers of a volume's slices in the scan file; none of an image.
        provenance: what can be JSON.
    """
    entries = {
        **{name: values[:] for name, values in maps.items()},
        "pixel_mm": np.float64(pixel_mm),
        "units": np.array(next(iter(maps.values())).unit),
        **({"slices": np.array(slices)} if slices else {}),
        "provenance": np.array(json.dumps(provenance)),
    }
    write_entries(stream, entries)


def write_entries(stream: IO[bytes], entries: Mapping[str, Any]) -> None:
    """Write arrays, numbers and texts as numpy.savez would, the same bytes for the same entries.

    Args:
        stream: open for writing, from its start.
        entries: name -> what NumPy makes an array of numbers or text of.
    """
    with zipfile.ZipFile(stream, "w") as archive:
        for name, values in entries.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy_format.write_array(member, np.asarray(values), allow_pickle=False)
