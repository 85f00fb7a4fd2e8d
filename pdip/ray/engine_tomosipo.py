"""Engine `tomosipo`: the optional package tomosipo (>= 0.7) over ASTRA's 3-D CUDA projectors.

tomosipo orders axes (z, y, x) and sinograms (detector row, view, detector column). A parallel-beam
batch is the planes of one volume; fan-beam images are one plane and a cone with one detector row.
In that plane the cone's rays are the fan's, whatever the thickness of the plane. Its
backprojection is not the fan's: it weighs a pixel by ``m² p³ / (pitch h)`` with the magnification
``m = D / (R - x·b)`` (D source to detector, R source to axis, b towards the source, h the height
of the row), a fan's by ``m p² / pitch``. With h = p the two differ by 1/m, linear in the pixel's
place, so three backprojections make the fan's:

    ``Aᵀ y = (R B(y) - x ⊙ B(b_x y) - y ⊙ B(b_y y)) / D``

Source: Hendriksen et al. (2021), tomosipo; the weights are those of ASTRA's cone backprojection.
"""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor

from pdip.ray.cuda_engine import CudaEngine
from pdip.ray.cuda_gate import check_written, unwritten
from pdip.ray.engine import import_optional
from pdip.ray.slab import planes_at_once, slab_extent_mm, slab_vectors
from pdip.ray.vectors import beam_axis, is_fan

REQUIREMENT = "git+https://github.com/cicwi/tomosipo.git@v0.7.0"


class TomosipoEngine(CudaEngine):
    """A tomosipo operator per size of batch."""

    name = "tomosipo"

    def __init__(self, geometry, grid, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(geometry, grid, device, dtype)
        self.operators: dict[int, Callable] = {}

    @classmethod
    def require(cls, device):
        import_optional(cls.name, "tomosipo", REQUIREMENT)
        super().require(device)

    def forward(self, images):
        images = images.detach().float()
        results = self._map(images, tuple(self.geometry.shape), lambda operator: operator)
        return results.to(self.dtype)

    def adjoint(self, sinograms):
        weighted = sinograms.detach().float() * self.ray_weights
        if is_fan(self.geometry):
            return self._fan_backprojection(weighted).to(self.dtype)
        return self._backprojection(weighted).to(self.dtype)

    def operator(self, planes: int) -> Callable:
        """tomosipo's operator on a stack of planes; kept, as ASTRA never frees its projector."""
        if planes not in self.operators:
            tomosipo = import_optional(self.name, "tomosipo", REQUIREMENT)
            importlib.import_module("tomosipo.torch_support")
            first, centre, step_u, step_v = (
                v[:, ::-1] for v in slab_vectors(self.geometry, self.grid)
            )
            shape = (planes, self.geometry.num_detectors)
            detector = {"shape": shape, "det_pos": centre, "det_v": step_v, "det_u": step_u}
            volume = tomosipo.volume(
                shape=(planes, *self.grid.shape), size=slab_extent_mm(self.grid, planes)
            )
            if is_fan(self.geometry):
                rays = tomosipo.cone_vec(src_pos=first, **detector)
            else:
                rays = tomosipo.parallel_vec(ray_dir=first, **detector)
            self.operators[planes] = tomosipo.operator(volume, rays)
        return self.operators[planes]

    def _fan_backprojection(self, sinograms: Tensor) -> Tensor:
        """The three backprojections of the formula above."""
        geometry = self.geometry
        beam_x, beam_y = torch.from_numpy(beam_axis(geometry)).to(sinograms).T[..., None]
        x, y = (torch.from_numpy(centres).to(sinograms) for centres in self.grid.centres_mm())
        along_x = x * self._backprojection(beam_x * sinograms)
        along_y = y[:, None] * self._backprojection(beam_y * sinograms)
        near = geometry.source_origin_mm * self._backprojection(sinograms) - along_x - along_y
        return near / (geometry.source_origin_mm + geometry.origin_detector_mm)

    def _backprojection(self, sinograms: Tensor) -> Tensor:
        return self._map(sinograms, tuple(self.grid.shape), lambda operator: operator.T)

    def _map(self, values: Tensor, shape: tuple[int, int], way: Callable) -> Tensor:
        values = values.contiguous()
        results = unwritten((len(values), *shape), self.device)
        planes = 1 if is_fan(self.geometry) else planes_at_once(self.geometry, self.grid)
        if values.is_cuda:  # ASTRA works on streams of its own and waits for them itself
            torch.cuda.synchronize(self.device)
        for start in range(0, len(values), planes):
            part = values[start : start + planes]
            way(self.operator(len(part)))(part, out=results[start : start + planes])
        check_written(results, values, self.name)
        return results
