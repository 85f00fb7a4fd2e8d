"""TIFF files of results: float32, the pixel size as resolution, and a description in JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import IO, Any

import tifffile

from pdip.units import MapInUnit

BIG_TIFF_BYTES = 2**31
"""Size beyond which places in a file are written with 64 bits."""
PAGE_NAME = 285
"""The tag PageName."""


def write_tiff(
    stream: IO[bytes],
    images: MapInUnit,
    pixel_mm: float,
    slices: Sequence[int],
    description: Mapping[str, Any],
) -> None:
    """Write an image, or one page for each of several.

    Args:
        stream: open for writing, from its start.
        images: one or several; they are read one after another.
        pixel_mm: side of a pixel; stored as pixels per centimetre.
        slices: the numbers of the pages' slices in the scan file, in the description of the first
            and in the name of each; none where the pages are no slices.
        description: what stands in the tag ImageDescription of the first page.
    """
    resolution = (10 / pixel_mm, 10 / pixel_mm)
    text = json.dumps({**description, "slices": list(slices)} if slices else description)
    pages = 1 if len(images.shape) == 2 else len(images)
    names = [[(PAGE_NAME, "s", 0, f"slice {number}", True)] for number in slices] or [()] * pages
    with tifffile.TiffWriter(stream, bigtiff=4 * math.prod(images.shape) > BIG_TIFF_BYTES) as file:
        for image, name in zip(images.pages, names, strict=True):
            file.write(
                image,
                photometric="minisblack",
                resolution=resolution,
                resolutionunit="CENTIMETER",
                description=text,
                software=description.get("software", ""),
                metadata=None,
                extratags=name,
            )
            text = None
