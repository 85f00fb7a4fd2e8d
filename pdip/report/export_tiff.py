"""TIFF files of results: float32, the pixel size as resolution, and a description in JSON."""

import json
import math
from collections.abc import Mapping
from typing import IO, Any

import tifffile

from pdip.units import MapInUnit

BIG_TIFF_BYTES = 2**31
"""Size beyond which places in a file are written with 64 bits."""


def write_tiff(
    stream: IO[bytes], images: MapInUnit, pixel_mm: float, description: Mapping[str, Any]
) -> None:
    """Write an image, or one page for each of several.

    Args:
        stream: open for writing, from its start.
        images: one or several; they are read one after another.
        pixel_mm: side of a pixel; stored as pixels per centimetre.
        description: what stands in the tag ImageDescription of the first page.
    """
    resolution = (10 / pixel_mm, 10 / pixel_mm)
    text = json.dumps(description)
    with tifffile.TiffWriter(stream, bigtiff=4 * math.prod(images.shape) > BIG_TIFF_BYTES) as file:
        for image in images.pages:
            file.write(
                image,
                photometric="minisblack",
                resolution=resolution,
                resolutionunit="CENTIMETER",
                description=text,
                software=description.get("software", ""),
                metadata=None,
            )
            text = None
