"""What was measured: geometry, scan, readers, phantoms, simulation. The room that doubts data."""

from pdip.scan.axis_search import estimate_rotation_axis
from pdip.scan.datasets import ImageSet, read_images
from pdip.scan.dicom import read_dicom
from pdip.scan.geometry import FanBeam, ParallelBeam, geometry_from_dict
from pdip.scan.grid import ImageGrid
from pdip.scan.ground_truth import read_ground_truth, read_true_slices
from pdip.scan.likely_axis import read_on_likely_axis
from pdip.scan.phantoms import drilled_disc, ellipses, rectangles, shepp_logan, walnut
from pdip.scan.preprocessing import Preprocessing
from pdip.scan.readers import holds_stack, read_scan, read_stack
from pdip.scan.readings import check_reading
from pdip.scan.rotation_axis import RotationAxis
from pdip.scan.scan import Scan
from pdip.scan.simulate import simulate
from pdip.scan.stack import Stack
from pdip.scan.visibility import edge_visibility

__all__ = [
    "FanBeam",
    "ImageGrid",
    "ImageSet",
    "ParallelBeam",
    "Preprocessing",
    "RotationAxis",
    "Scan",
    "Stack",
    "check_reading",
    "drilled_disc",
    "edge_visibility",
    "ellipses",
    "estimate_rotation_axis",
    "geometry_from_dict",
    "holds_stack",
    "read_dicom",
    "read_ground_truth",
    "read_images",
    "read_on_likely_axis",
    "read_scan",
    "read_stack",
    "read_true_slices",
    "rectangles",
    "shepp_logan",
    "simulate",
    "walnut",
]
