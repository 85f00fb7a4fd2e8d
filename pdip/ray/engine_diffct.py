"""Engine `diffct`: Siddon traversal of the optional package diffct.

An implementation independent of ASTRA, in single and double precision on any torch device, with
an exact adjoint and no stored matrix: torch operations, slower than the matrix engine on a CPU, and
diffct's own CUDA kernels for single precision on a GPU.
"""

import math
import warnings
from contextlib import contextmanager

import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.ray.engine import import_optional, line_in_fan
from pdip.ray.vectors import beam_axis, detector_axis, is_fan


class DiffctEngine:
    """diffct Projector with rays weighted by their intersection length with pixels.

    Args:
        geometry: parallel or fan beam.
        grid: image grid.
        device: where tensors live.
        dtype: torch.float32 or torch.float64.
    """

    name = "diffct"
    exact_adjoint = True
    projector = "line"

    def __init__(self, geometry, grid, device: torch.device, dtype: torch.dtype) -> None:
        diffct = import_optional("diffct", "diffct", "diffct>=2.5.0")
        self.geometry = geometry
        self.grid = grid
        self.device = device
        self.dtype = dtype
        scale = detector_scale(geometry, grid)
        self.operator = diffct.Projector(
            trajectory(geometry, scale, device),
            tuple(grid.shape),
            (geometry.num_detectors,),
            beam="fan" if is_fan(geometry) else "parallel",
            detector_spacing=scale * geometry.detector_pitch_mm,
            voxel_spacing=grid.pixel_mm,
            **traversal(device, dtype),
        )

    @classmethod
    def build(
        cls, geometry, grid, *, projector: str, device: torch.device, dtype: torch.dtype
    ) -> "DiffctEngine":
        """Set up the projector; only "line" exists ("linear" means "line" in a fan beam)."""
        if line_in_fan(geometry, projector) != "line":
            raise InputError(
                f"engine 'diffct' has no projector '{projector}'; use 'line' or engine 'matrix'"
            )
        return cls(geometry, grid, device, dtype)

    def forward(self, images: Tensor) -> Tensor:
        """``A x``: (batch, height, width) -> (batch, views, detectors). diffct has y upwards."""
        with quiet_launches():
            return self.operator.project(images.flip(-2))

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """``Aᵀ y``: (batch, views, detectors) -> (batch, height, width)."""
        with quiet_launches():
            return self.operator.backproject(sinograms).flip(-2)

    def to(self, device: torch.device, dtype: torch.dtype) -> "DiffctEngine":
        """The same projector on another device or in another precision."""
        return type(self)(self.geometry, self.grid, device, dtype)


def traversal(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """diffct's names for how to compute: its CUDA kernels know single precision only."""
    if dtype == torch.float64:
        return {"backend": "torch", "precision": "float64"}
    if device.type == "cuda":
        return {"backend": "numba", "precision": "fast"}
    return {"backend": "torch", "precision": "float32"}


@contextmanager
def quiet_launches():
    """Numba warns of every launch that is too small to fill a GPU, as that of a small image is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Grid size .* under-utilization")
        yield


def detector_scale(geometry, grid) -> float:
    """Magnification that moves a fan beam's detector out of the image without moving its rays.

    diffct ends a ray at the detector, and a detector may be given as scaled to the rotation axis.
    """
    if not is_fan(geometry):
        return 1.0
    beyond = geometry.source_origin_mm + math.hypot(*grid.shape) * grid.pixel_mm / 2
    return max(1.0, beyond / (geometry.source_origin_mm + geometry.origin_detector_mm))


def trajectory(geometry, scale: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """diffct's frames: source or ray direction, detector centre, detector axis; (views, 2)."""
    axis = torch.from_numpy(detector_axis(geometry)).to(device)
    beam = torch.from_numpy(beam_axis(geometry)).to(device)
    shift = scale * geometry.detector_shift_mm * axis
    if not is_fan(geometry):
        return beam, shift, axis
    source = geometry.source_origin_mm * beam
    source_detector = geometry.source_origin_mm + geometry.origin_detector_mm
    return source, source - scale * source_detector * beam + shift, axis
