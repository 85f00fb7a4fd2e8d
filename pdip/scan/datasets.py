"""Sets of test images and their scans: a KMNIST-like file, or random rectangles without one."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pdip.errors import InputError
from pdip.scan.geometry import ParallelBeam
from pdip.scan.grid import ImageGrid
from pdip.scan.ground_truth import read_ground_truth
from pdip.scan.npy import regular_file
from pdip.scan.npz import read_npz
from pdip.scan.phantoms import rectangles
from pdip.scan.readers import read_scan
from pdip.scan.scan import Scan
from pdip.scan.simulate import simulate
from pdip.typing import Image

NOISE_OF_CASES = 0.05
"""Noise of the stored sinograms, as a fraction of mean|A x|."""


@dataclass(frozen=True)
class ImageSet:
    """Numbered true images on one grid, and how they are scanned.

    Attributes:
        name: of the file without its ending, or ``rectangles``.
        grid: pixels of every image.
        images: (count, height, width) in [0, 1]; None for random rectangles, one for each number.
        cases: folder of stored sinograms ``k{views}_{image}.npz``; None for none.
    """

    name: str
    grid: ImageGrid
    images: np.ndarray | None = field(default=None, repr=False, compare=False)
    cases: Path | None = None

    def geometry(self, views: int) -> ParallelBeam:
        """Views spread over 180 degrees, on a detector that sees the whole diagonal.

        28 x 28 pixels have 41 detectors of pitch 28√2/41, the geometry of the KMNIST comparison
        of Antorán et al. (2022).
        """
        side = max(self.grid.shape)
        detectors = int(1.45 * side) | 1
        pitch_mm = side * 2**0.5 / detectors * self.grid.pixel_mm
        return ParallelBeam(np.arange(views) * 180 / views - 90, detectors, pitch_mm)

    def measure(self, number: int, ray, noise_fraction: float) -> tuple[Scan, Image]:
        """The scan of one image and the image: the stored case where there is one, or simulated.

        Args:
            number: of the image; it is also the seed of the noise.
            ray: the ray transform of :meth:`geometry`.
            noise_fraction: σ over mean|A x|.

        Raises:
            InputError: there is no such image.
        """
        case = None if self.cases is None else self.cases / f"k{ray.range_shape[0]}_{number}.npz"
        if case is not None and case.is_file() and noise_fraction == NOISE_OF_CASES:
            scan = read_scan(case)
            return scan, read_ground_truth(case, scan.grid)
        generator = torch.Generator().manual_seed(number)
        truth = self._truth(number, generator)
        return simulate(truth, ray, noise_fraction=noise_fraction, generator=generator), truth

    def _truth(self, number: int, generator: torch.Generator) -> Image:
        if self.images is None:
            return rectangles(self.grid, generator)
        if not 0 <= number < len(self.images):
            raise InputError(
                f"{self.name} holds images 0 to {len(self.images) - 1}, got number {number}; ask "
                "for fewer."
            )
        return torch.as_tensor(self.images[number]).float()


def read_images(path: str | Path | None, *, side: int = 28) -> ImageSet:
    """The images of a file, with the stored cases beside it, or random rectangles.

    Args:
        path: ``.npz`` with ``images`` (count, height, width): bytes, of which 255 is read as
            1 1/mm, or real numbers as they are. None for rectangles.
        side: pixels along a side of the rectangles.

    Raises:
        InputError: the file cannot be used.
    """
    if path is None:
        return ImageSet("rectangles", ImageGrid((side, side)))
    path = regular_file(path, "image file")
    images = read_npz(path, ("images",)).get("images")
    if not isinstance(images, np.ndarray) or images.ndim != 3 or images.size == 0:
        found = "none" if images is None else np.shape(images)
        raise InputError(
            f"expected 'images' (count, height, width) in {path.name}, got {found}; save it with "
            "numpy.savez(path, images=images)."
        )
    images = images / 255 if images.dtype == np.uint8 else images.astype(float)
    if not np.isfinite(images).all():
        raise InputError(f"the images in {path.name} must be finite; replace NaN and infinities.")
    return ImageSet(path.stem, ImageGrid(images.shape[1:]), images, path.parent / "cases")
