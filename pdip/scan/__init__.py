"""What was measured: geometry, scan, readers, phantoms, simulation. The room that doubts data."""

from pdip.scan.geometry import FanBeam, ParallelBeam, geometry_from_dict
from pdip.scan.grid import ImageGrid
from pdip.scan.phantoms import ellipses, rectangles, shepp_logan, walnut
from pdip.scan.readers import read_ground_truth, read_scan
from pdip.scan.scan import Scan
from pdip.scan.simulate import simulate

__all__ = [
    "FanBeam",
    "ImageGrid",
    "ParallelBeam",
    "Scan",
    "ellipses",
    "geometry_from_dict",
    "read_ground_truth",
    "read_scan",
    "rectangles",
    "shepp_logan",
    "simulate",
    "walnut",
]
