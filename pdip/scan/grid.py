"""The pixels of the image."""

from dataclasses import dataclass

import numpy as np

from pdip.errors import InputError
from pdip.scan.checks import positive_int, positive_mm, shown

MAX_PIXELS = 2**28


@dataclass(frozen=True)
class ImageGrid:
    """Square pixels in (height, width) = ``shape`` rows and columns, centred on the rotation axis.

    The centre of pixel (r, c) is x = (c - (width - 1)/2) p, y = ((height - 1)/2 - r) p with
    p = ``pixel_mm``: row 0 has the largest y.

    Args:
        shape: rows and columns, both positive.
        pixel_mm: side of a pixel in mm, positive.

    Raises:
        InputError: a size is not positive.

    Example:
        >>> ImageGrid((2, 4), 0.5).size_mm
        (1.0, 2.0)
    """

    shape: tuple[int, int]
    pixel_mm: float = 1.0

    def __post_init__(self) -> None:
        try:
            height, width = self.shape
        except (TypeError, ValueError):
            raise InputError(
                f"the image shape must be (height, width), got {shown(self.shape)}."
            ) from None
        shape = (positive_int("image height", height), positive_int("image width", width))
        if shape[0] * shape[1] > MAX_PIXELS:
            raise InputError(
                f"an image of {shape[0]} x {shape[1]} pixels is larger than any detector resolves; "
                "give a smaller image or larger pixels."
            )
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "pixel_mm", positive_mm("pixel_mm", self.pixel_mm))

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of the image in mm."""
        return self.shape[0] * self.pixel_mm, self.shape[1] * self.pixel_mm

    def resized(self, image_size: int) -> "ImageGrid":
        """Return image_size x image_size pixels over the same (longer) side."""
        image_size = positive_int("image size", image_size)
        return ImageGrid((image_size, image_size), max(self.size_mm) / image_size)

    def centres_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x of the columns (width,) and y of the rows (height,) in mm."""
        height, width = self.shape
        x = (np.arange(width) - (width - 1) / 2) * self.pixel_mm
        y = ((height - 1) / 2 - np.arange(height)) * self.pixel_mm
        return x, y
