"""Make the scan of `make demo`: a walnut-like object, 30 fan-beam views, 4 % noise.

Run from the repository root: python data/example/make_scan.py
The object is drawn on pixels a quarter as wide as those of the reconstruction and measured over
the width of each detector element, so that the demo does not invert the matrix that made its data.
"""

from pathlib import Path

import numpy as np
import torch

from pdip.ray import ray_transform
from pdip.scan import FanBeam, ImageGrid, simulate, walnut

GRID = ImageGrid((56, 56), pixel_mm=0.75)
FINER = 4
ATTENUATION = 0.05  # 1/mm, the brightest material is just below

if __name__ == "__main__":
    generator = torch.Generator().manual_seed(2)
    beam = FanBeam(np.arange(0, 360, 12.0), 60, 1.0625, 120.0, 40.0)
    fine = ImageGrid((FINER * 56, FINER * 56), GRID.pixel_mm / FINER)
    truth = ATTENUATION * walnut(fine, generator)
    ray = ray_transform(beam, fine, projector="strip")
    scan = simulate(truth, ray, noise_fraction=0.04, generator=generator)
    np.savez_compressed(
        Path(__file__).with_name("scan.npz"),
        sinogram=scan.sinogram.numpy(),
        angles=beam.angles_rad,
        geometry="fanflat",
        source_origin_mm=beam.source_origin_mm,
        origin_detector_mm=beam.origin_detector_mm,
        det_pixel_mm=beam.detector_pitch_mm,
        cor=beam.cor,
        image_shape=GRID.shape,
        pixel_mm=GRID.pixel_mm,
        ground_truth=torch.nn.functional.avg_pool2d(truth[None], FINER)[0].numpy(),
    )
