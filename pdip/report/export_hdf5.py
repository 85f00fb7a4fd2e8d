"""HDF5 files of results, laid out as NeXus NXdata, so that viewers find image, axes and errors.

/entry/data/reconstruction         (height, width) or (slices, height, width), 1/mm or as asked
/entry/data/std                    the same; reconstruction_errors is another name of it
/entry/data/slice                  of a stack: the numbers of the slices in the scan file
/entry/data/x, /entry/data/y       centres of columns and rows, mm; row 0 has the largest y
/entry/pdip                        where it comes from: software, scan, assumptions, settings

https://manual.nexusformat.org/classes/base_classes/NXdata.html
"""

from collections.abc import Mapping, Sequence
from typing import IO, Any

import h5py
import numpy as np

from pdip.scan import ImageGrid
from pdip.units import MapInUnit

SIGNAL, ERRORS = "reconstruction", "std"


def write_hdf5(
    stream: IO[bytes],
    maps: Mapping[str, MapInUnit],
    grid: ImageGrid,
    slices: Sequence[int],
    quantities: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> None:
    """Write images or volumes with their pixels and where they come from.

    Args:
        stream: open for writing and reading, from its start.
        maps: name -> image or volume, with ``reconstruction``.
        grid: their pixels.
        slices: the numbers of a volume's slices; none of an image.
        quantities: name -> what it is, in words.
        provenance: name -> text or list of texts.
    """
    with h5py.File(stream, "w") as file:
        file.attrs.update(NX_class="NXroot", default="entry")
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="data")
        data = entry.create_group("data")
        axes = ["slice", "y", "x"] if slices else ["y", "x"]
        data.attrs.update(NX_class="NXdata", signal=SIGNAL, axes=axes, pixel_mm=grid.pixel_mm)
        for name, values in maps.items():
            dataset = data.create_dataset(name, values.shape, np.float32)
            for index in range(len(values)):  # of a volume one slice after another
                dataset[index] = values[index]
            told = {"units": values.unit, "long_name": quantities[name]}
            dataset.attrs.update(told, pixel_mm=grid.pixel_mm)
        if ERRORS in maps:
            data[f"{SIGNAL}_errors"] = data[ERRORS]
        for name, centres in zip(("x", "y"), grid.centres_mm(), strict=True):
            data[name] = centres
            data[name].attrs["units"] = "mm"
        if slices:
            data["slice"] = np.array(slices)
            data["slice"].attrs["long_name"] = "slice of the scan, counted from 0"
        process = entry.create_group("pdip")
        process.attrs["NX_class"] = "NXprocess"
        for key, value in provenance.items():
            process[key] = np.array(value, dtype=h5py.string_dtype())
