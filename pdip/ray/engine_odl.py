"""Engine `odl`: ODL's geometry and RayTransform on its `astra_cpu` backend (optional package).

Set up through ODL's own conventions, so it is an independent check of every sign and unit in the
matrix engine. It works image by image in single precision on the CPU, whatever the dtype asked
for, and its adjoint is exact to single precision only. ODL's image axes are (x, y).
"""

import importlib

import numpy as np
import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.ray.engine import import_optional, line_in_fan
from pdip.ray.vectors import is_fan


class OdlEngine:
    """ODL RayTransform per image.

    Args:
        operator: the ODL RayTransform, over sorted distinct angles and a detector that may be
            wider than the scan's.
        view_index: (views,) row of the operator's sinogram for each view of the scan.
        columns: columns of the operator's sinogram that are the scan's detectors.
        projector: ASTRA's name of the projector that ODL uses.
        device: where results are returned.
        dtype: precision in which results are returned.
    """

    name = "odl"
    exact_adjoint = True

    def __init__(self, operator, view_index, columns: slice, projector, device, dtype) -> None:
        self.operator = operator
        self.view_index = view_index
        self.columns = columns
        self.projector = projector
        self.device = device
        self.dtype = dtype

    @classmethod
    def build(
        cls, geometry, grid, *, projector: str, device: torch.device, dtype: torch.dtype
    ) -> "OdlEngine":
        """Set up the ODL operator; its projectors are linear (parallel) and line (fan)."""
        name = "line_fanflat" if is_fan(geometry) else "linear"
        asked = line_in_fan(geometry, projector)
        if asked != ("line" if is_fan(geometry) else "linear"):
            raise InputError(
                f"engine 'odl' has no projector '{projector}' here; use 'linear', which ODL "
                f"computes as {name}, or engine 'matrix'"
            )
        with np.printoptions():  # importing odl changes NumPy's print options for good
            import_optional("odl", "odl", "odl>=1.0.0")
            tomo = importlib.import_module("odl.applications.tomo")
        angles, view_index = np.unique(geometry.angles_rad, return_inverse=True)
        odl_geometry, columns = tomography_geometry(geometry, angles)
        operator = tomo.RayTransform(image_space(grid), odl_geometry, impl="astra_cpu")
        return cls(operator, view_index, columns, name, device, dtype)

    def forward(self, images: Tensor) -> Tensor:
        """``A x``: (batch, height, width) -> (batch, views, detectors)."""
        batch = images.detach().cpu().numpy().astype(np.float32)
        rows = [self._project(image) for image in batch]
        shape = (len(self.view_index), self.columns.stop - self.columns.start)
        return self._tensor(rows, shape)

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """``Aᵀ y``: (batch, views, detectors) -> (batch, height, width)."""
        batch = sinograms.detach().cpu().numpy().astype(np.float32)
        return self._tensor([self._backproject(s) for s in batch], self.operator.domain.shape[::-1])

    def to(self, device: torch.device, dtype: torch.dtype) -> "OdlEngine":
        """The same operator, returning its results elsewhere or in another precision."""
        return type(self)(
            self.operator, self.view_index, self.columns, self.projector, device, dtype
        )

    def _project(self, image):
        element = self.operator.domain.element(np.ascontiguousarray(image[::-1].T))
        return self.operator(element).data[self.view_index, self.columns]

    def _backproject(self, sinogram):
        """ODL's adjoint holds for weighted inner products; undo the cell weights."""
        space, image_space = self.operator.range, self.operator.domain
        full = np.zeros(space.shape, dtype=np.float32)
        np.add.at(full[:, self.columns], self.view_index, sinogram)
        weight = image_space.weighting.const / space.weighting.const
        return self.operator.adjoint(space.element(full)).data.T[::-1] * weight

    def _tensor(self, arrays, shape) -> Tensor:
        stacked = np.stack(arrays) if arrays else np.zeros((0, *shape))
        return torch.from_numpy(stacked).to(device=self.device, dtype=self.dtype)


def image_space(grid):
    """ODL's space of images on ``grid``, axes (x, y), single precision."""
    import odl

    height, width = grid.shape
    corner = np.array([width, height]) * grid.pixel_mm / 2
    return odl.uniform_discr(-corner, corner, (width, height), dtype="float32")


def tomography_geometry(geometry, angles_rad):
    """ODL's geometry over sorted angles, and the columns of its detector that are the scan's.

    ODL's `astra_cpu` backend ignores a shift in a parallel beam. A shift by half pitches is a part
    of a wider centred detector, which is what we build; other shifts are refused.
    """
    import odl
    from odl.applications import tomo

    count, pitch = geometry.num_detectors, geometry.detector_pitch_mm
    margin = 0.1  # of the angle interval around its end points; it carries no weight
    limits = {"min_pt": angles_rad[0] - margin, "max_pt": angles_rad[-1] + margin}
    views = odl.nonuniform_partition(angles_rad, **limits)
    if is_fan(geometry):
        shift = geometry.detector_shift_mm
        detector = odl.uniform_partition(
            shift - count * pitch / 2, shift + count * pitch / 2, count
        )
        radii = {"src_radius": geometry.source_origin_mm, "det_radius": geometry.origin_detector_mm}
        return tomo.FanBeamGeometry(views, detector, **radii), slice(0, count)
    half_pitches = 2 * geometry.detector_shift_mm / pitch
    extra = round(half_pitches)
    if abs(half_pitches - extra) > 1e-6:
        raise InputError(
            f"engine 'odl' shifts a parallel detector by half pitches only but detector_shift_mm "
            f"is {geometry.detector_shift_mm:g} at pitch {pitch:g}; use engine 'matrix'"
        )
    wide = count + abs(extra)
    detector = odl.uniform_partition(-wide * pitch / 2, wide * pitch / 2, wide)
    first = max(extra, 0)
    return tomo.Parallel2dGeometry(views, detector), slice(first, first + count)
