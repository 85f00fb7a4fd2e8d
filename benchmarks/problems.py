"""What is timed: simulated scans of one phantom in several sizes."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

import pdip
from pdip.scan import walnut
from pdip.scan.geometry import Geometry

ATTENUATION = 0.05  # 1/mm, the brightest material is just below
NOISE_FRACTION = 0.05


@dataclass(frozen=True)
class Problem:
    """A scan to reconstruct, and the network to do it with.

    Attributes:
        name: in the table.
        geometry, grid: of the scan, which is simulated on the same grid.
        channels: of the network; its number of scales follows from the grid.
        fit_steps: where the fit is cut off. The fit is the same work in every method, and what
            the inference costs hardly depends on how good it is.
    """

    name: str
    geometry: Geometry
    grid: pdip.ImageGrid
    channels: int = 32
    fit_steps: int = 100

    def scan(self) -> pdip.Scan:
        """The walnut phantom with 5 % noise."""
        generator = torch.Generator().manual_seed(0)
        truth = ATTENUATION * walnut(self.grid, generator)
        ray = pdip.ray_transform(self.geometry, self.grid)
        return pdip.simulate(truth, ray, noise_fraction=NOISE_FRACTION, generator=generator)

    def settings(self) -> dict:
        """Defaults, but for one restart and a fit that is cut off."""
        return {
            "network": {"channels": self.channels},
            "dip": {"restarts": 1, "max_steps": self.fit_steps},
        }


def parallel(views: int, detectors: int, width_mm: float) -> pdip.ParallelBeam:
    """Views over half a turn, the detector as wide as the diagonal of a square image."""
    return pdip.ParallelBeam(
        np.arange(views) * 180 / views, detectors, width_mm * math.sqrt(2) / detectors
    )


def square(pixels: int, width_mm: float) -> pdip.ImageGrid:
    return pdip.ImageGrid((pixels, pixels), width_mm / pixels)


SMALL = Problem("28x28", parallel(20, 41, 28.0), square(28, 28.0))
MIDDLE = Problem("64x64", parallel(30, 91, 64.0), square(64, 64.0))
LARGE = Problem(
    "128x128",
    pdip.FanBeam(np.arange(60) * 6.0, 140, 1.45, source_origin_mm=256.0, origin_detector_mm=128.0),
    square(128, 128.0),
)
PROBLEMS = (SMALL, MIDDLE, LARGE)
QUICK = (replace(SMALL, fit_steps=25),)

BASE = Problem("base", parallel(20, 63, 44.0), square(44, 44.0), channels=16, fit_steps=25)
GROWTH = (
    BASE,
    replace(BASE, name="rays x2", geometry=parallel(40, 63, 44.0)),
    replace(BASE, name="pixels x4", grid=square(88, 44.0)),
    replace(BASE, name="channels x2", channels=32),
)
