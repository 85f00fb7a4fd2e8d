"""How much of a scan no image explains: what a wrong geometry leaves over.

A small copy of the scan is reconstructed by CGLS, stopped early as a regularisation, and projected
again. Views that contradict each other leave a residual, whatever the image.
"""

from dataclasses import replace

import torch

from pdip.ray import ray_transform
from pdip.ray.cgls import cgls
from pdip.scan.geometry import FanBeam, ParallelBeam
from pdip.scan.grid import ImageGrid
from pdip.scan.scan import Scan
from pdip.typing import Image

ITERATIONS = 20
LEAST_VIEWS = 8
"""Fewer views are explained by some image under any geometry."""


def thinned(scan: Scan, max_views: int, max_detectors: int) -> Scan:
    """The scan with at most so many views, evenly spread, and about so many detector elements.

    Its weights have mean 1.
    """
    count = min(scan.geometry.num_views, max_views)
    views = torch.linspace(0, scan.geometry.num_views - 1, count).round().long().tolist()
    scan, bins = scan.select(views), max(1, round(scan.geometry.num_detectors / max_detectors))
    weights = torch.ones_like(scan.sinogram) if scan.weights is None else scan.weights
    kept = scan.geometry.num_detectors // bins * bins
    weights = weights[:, :kept].unflatten(1, (-1, bins))
    weighted = (weights * scan.sinogram[:, :kept].unflatten(1, (-1, bins))).sum(2)
    total = weights.sum(2)
    sinogram = torch.where(total > 0, weighted / torch.where(total > 0, total, 1.0), 0.0)
    beam = scan.geometry
    beam = replace(
        beam,
        num_detectors=kept // bins,
        detector_pitch_mm=bins * beam.detector_pitch_mm,
        detector_shift_mm=beam.detector_shift_mm
        - (beam.num_detectors - kept) / 2 * beam.detector_pitch_mm,
    )
    return Scan(sinogram, beam, beam.covering_grid(), total / total.mean())


def at_cor(beam: ParallelBeam | FanBeam, cor: float) -> ParallelBeam | FanBeam:
    """The same beam with the axis on another detector index."""
    shift = ((beam.num_detectors - 1) / 2 - cor) * beam.detector_pitch_mm
    return replace(beam, detector_shift_mm=shift)


def unexplained(
    scan: Scan, beam: ParallelBeam | FanBeam, grid: ImageGrid
) -> tuple[torch.Tensor, Image]:
    """What the image of a scan leaves over in each view, under a geometry that may not be its own.

    Args:
        scan: a small one, of :func:`thinned`.
        beam: the geometry to try.
        grid: of the image, which has to hold all of the object.

    Returns:
        ``Σ w (y - A x)² / Σ w y²`` with the upper sum over the rays of a view and the lower over
        all, (views,) float64, and the image, 1/mm.
    """
    ray = ray_transform(beam, grid, engine="matrix")
    image = cgls(ray, scan.sinogram, iterations=ITERATIONS, weights=scan.weights)[-1]
    squares = scan.weights * (scan.sinogram - ray.forward(image)).square()
    energy = (scan.weights * scan.sinogram.square()).sum().double()
    return squares.sum(1).double() / energy, image
