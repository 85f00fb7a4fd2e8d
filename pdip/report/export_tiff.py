"""TIFF files of results: float32, the pixel size as resolution, and a description in JSON."""

import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import tifffile

BIG_TIFF_BYTES = 2**31
"""Size beyond which places in a file are written with 64 bits."""


def write_tiff(
    stream: IO[bytes], images: np.ndarray, pixel_mm: float, description: Mapping[str, Any]
) -> None:
    """Write an image, or one page for each of several.

    Args:
        stream: open for writing, from its start.
        images: (height, width) or (pages, height, width); pages are read one after another.
        pixel_mm: side of a pixel; stored as pixels per centimetre.
        description: what stands in the tag ImageDescription of the first page.
    """
    resolution = (10 / pixel_mm, 10 / pixel_mm)
    text = json.dumps(description)
    with tifffile.TiffWriter(stream, bigtiff=images.nbytes > BIG_TIFF_BYTES) as file:
        for image in images[None] if images.ndim == 2 else images:
            file.write(
                np.ascontiguousarray(image, np.float32),
                photometric="minisblack",
                resolution=resolution,
                resolutionunit="CENTIMETER",
                description=text,
                software=description.get("software", ""),
                metadata=None,
            )
            text = None
