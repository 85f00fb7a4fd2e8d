"""Engine `astra_cuda`: ASTRA's CUDA projectors on tensors shared through DLPack.

In a parallel beam all images of a batch are planes of one 3-D volume, projected in one call. In a
fan beam they go one by one through the 2-D projector: a 3-D cone would weigh its backprojection by
the square of the magnification. ASTRA interpolates linearly between pixel centres (Joseph) in both
beams, in single precision and with texture fractions of 8 bits.

The adjoint is ASTRA's pixel-driven backprojection. It is not the transpose of the ray-driven
projection; :func:`pdip.ray.adjoint_mismatch` measures by how much.
Source: Palenstijn, Batenburg and Sijbers (2011); ASTRA 2.5, ``direct_FP`` and ``direct_BP``.
"""

from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from pdip.ray.cuda_engine import CudaEngine
from pdip.ray.cuda_gate import check_written, unwritten
from pdip.ray.engine_matrix import astra_geometry, astra_volume
from pdip.ray.slab import planes_at_once, slab_extent_mm, slab_vectors
from pdip.ray.vectors import is_fan


class AstraCudaEngine(CudaEngine):
    """ASTRA's own calls; it copies tensors of the CPU to its GPU and back."""

    name = "astra_cuda"

    def forward(self, images):
        return self._map(images.detach().float(), tuple(self.geometry.shape), "direct_FP")

    def adjoint(self, sinograms):
        weighted = sinograms.detach().float() * self.ray_weights
        return self._map(weighted, tuple(self.grid.shape), "direct_BP")

    def _map(self, values: Tensor, shape: tuple[int, int], direction: str) -> Tensor:
        values = values.contiguous()
        results = unwritten((len(values), *shape), self.device)
        apply = project_each if is_fan(self.geometry) else project_stack
        with torch.cuda.device_of(values):  # DLPack exports tensors of the current device only
            if values.is_cuda:  # ASTRA works on streams of its own and waits for them itself
                torch.cuda.synchronize()
            planes = planes_at_once(self.geometry, self.grid)
            for start in range(0, len(values), planes):
                part = slice(start, start + planes)
                apply(self.geometry, self.grid, values[part], results[part], direction)
        check_written(results, values, self.name)
        return results.to(self.dtype)


def project_stack(geometry, grid, values: Tensor, results: Tensor, direction: str) -> None:
    """Project a parallel-beam batch forward or back, as planes of one volume, into ``results``."""
    import astra

    planes = len(values)
    with astra_projector_of(
        stack_geometry(geometry, grid, planes), stack_volume(grid, planes)
    ) as p:
        getattr(astra.projector3d, direction)(p, values, out=results)


def project_each(geometry, grid, values: Tensor, results: Tensor, direction: str) -> None:
    """Project a fan-beam batch forward or back image by image, into ``results``."""
    import astra

    with astra_projector_of(astra_geometry(geometry, "cuda"), astra_volume(grid)) as p:
        apply: Callable = getattr(astra.projector, direction)
        for value, result in zip(values, results, strict=True):
            apply(p, value, out=result)


@contextmanager
def astra_projector_of(projection: dict, volume: dict):
    """The id of ASTRA's CUDA projector between two geometries; it is deleted at the end."""
    import astra

    solid = "GridSliceCount" in volume
    module = astra.projector3d if solid else astra.projector
    projector_id = astra.create_projector("cuda3d" if solid else "cuda", projection, volume)
    try:
        yield projector_id
    finally:
        module.delete(projector_id)


def stack_geometry(geometry, grid, planes: int) -> dict:
    """ASTRA's ``parallel3d_vec`` geometry with one detector row for each plane."""
    import astra

    vectors = np.concatenate(slab_vectors(geometry, grid), axis=1)
    return astra.create_proj_geom("parallel3d_vec", planes, geometry.num_detectors, vectors)


def stack_volume(grid, planes: int) -> dict:
    """ASTRA's volume of that many planes, cubic voxels, centred on the rotation axis."""
    import astra

    depth, height, width = (size / 2 for size in slab_extent_mm(grid, planes))
    window = (-width, width, -height, height, -depth, depth)
    return astra.create_vol_geom(*grid.shape, planes, *window)
