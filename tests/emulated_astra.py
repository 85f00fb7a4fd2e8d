"""ASTRA's CUDA projectors and tomosipo, written down in numpy from their documented definitions.

A 3-D volume is (z, y, x) with row 0 at the smallest y; projections are (row, view, column); element
(row, column) of a detector lies at ``centre + (column - (n-1)/2) u + (row - (m-1)/2) v``. The
projection interpolates linearly between the pixel centres of each row or column crossed. The
backprojection interpolates linearly on the detector and multiplies by the size of a voxel over that
of a detector element scaled by the magnification: squared in a 3-D cone, plain in a 2-D fan.
"""

from types import ModuleType

import astra
import numpy as np
import torch


class EmulatedProjector:
    """One pair of geometries; ``project`` and ``backproject`` are ASTRA's in float64."""

    def __init__(self, projection: dict, volume: dict) -> None:
        vectors, self.flat = np.asarray(projection["Vectors"]), vectors_are_flat(projection)
        if self.flat:  # row 0 of a 2-D image has the largest y
            vectors = np.pad(vectors.reshape(-1, 3, 2), ((0, 0), (0, 1), (0, 1)))
            vectors = vectors * np.array([1.0, -1.0, 1.0])
            vectors[:, 3, 2] = 1.0
        self.first, self.centre, self.u, self.v = vectors.reshape(-1, 4, 3).transpose(1, 0, 2)
        self.cone = projection["type"] in ("cone_vec", "fanflat_vec")
        self.rows = projection.get("DetectorRowCount", 1)
        self.columns = projection.get("DetectorColCount", projection.get("DetectorCount"))
        window = volume["option"]
        count = volume["GridColCount"], volume["GridRowCount"], volume.get("GridSliceCount", 1)
        low = [window.get(f"WindowMin{axis}", -0.5) for axis in "XYZ"]
        high = [window.get(f"WindowMax{axis}", 0.5) for axis in "XYZ"]
        self.voxel = (np.array(high) - low) / count
        axes = zip(low, count, self.voxel, strict=True)
        self.centres = [start + (np.arange(n) + 0.5) * step for start, n, step in axes]
        self.shape = count[::-1]

    def element(self, view: int, row, column):
        """Place of a detector element."""
        along_u = np.multiply.outer(column - (self.columns - 1) / 2, self.u[view])
        return self.centre[view] + along_u + (row - (self.rows - 1) / 2) * self.v[view]

    def project(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, view, column)."""
        result = np.zeros((self.rows, len(self.first), self.columns))
        for row, view, column in np.ndindex(*result.shape):
            place = self.element(view, row, column)
            ray = place - self.first[view] if self.cone else self.first[view]
            result[row, view, column] = self.line(volume, place, ray)
        return result

    def line(self, volume: np.ndarray, place, ray) -> float:
        """The integral along a ray, which must stay in one plane of voxel centres."""
        plane = np.abs(self.centres[2] - place[2]).argmin()
        assert ray[2] == 0 and abs(self.centres[2][plane] - place[2]) < 1e-9
        (x, y, _), image = self.centres, volume[plane]
        if abs(ray[1]) >= abs(ray[0]):
            (x, y), image, place, ray = (y, x), image.T, place[[1, 0]], ray[[1, 0]]
        crossing = place[1] + (x - place[0]) * ray[1] / ray[0]
        share = 1 - np.abs(crossing[:, None] - y) / self.voxel[0]
        step = self.voxel[0] * np.hypot(ray[0], ray[1]) / abs(ray[0])
        return step * float((np.maximum(share, 0) * image.T).sum())

    def backproject(self, sinogram: np.ndarray) -> np.ndarray:
        """(row, view, column) -> (z, y, x)."""
        result = np.zeros(self.shape)
        for voxel in np.ndindex(*self.shape):
            point = np.array([self.centres[axis][voxel[2 - axis]] for axis in range(3)])
            for view in range(len(self.first)):
                result[voxel] += self.seen(sinogram[:, view], point, view)
        return result

    def seen(self, detector: np.ndarray, point, view: int) -> float:
        """What one view adds to the voxel at ``point``."""
        source, u, v = self.first[view], self.u[view], self.v[view]
        ray = point - source if self.cone else source
        moved, column, row = np.linalg.solve(
            np.stack([-ray, u, v], axis=1), point - self.centre[view]
        )
        magnification = 1 + moved if self.cone else 1.0
        size = np.linalg.norm(np.cross(u, v))
        weight = self.voxel.prod() * magnification ** (1 if self.flat else 2) / size
        rows = 1 - np.abs(np.arange(self.rows) - (row + (self.rows - 1) / 2))
        columns = 1 - np.abs(np.arange(self.columns) - (column + (self.columns - 1) / 2))
        return weight * float(np.maximum(rows, 0) @ detector @ np.maximum(columns, 0))


def vectors_are_flat(projection: dict) -> bool:
    return projection["type"] in ("parallel_vec", "fanflat_vec")


def run(projector: EmulatedProjector, values: torch.Tensor, out: torch.Tensor, back: bool) -> None:
    """One call under the DLPack contract: float32, contiguous, exact shape, detached, writeable."""
    sinogram_shape = (projector.rows, len(projector.first), projector.columns)
    shapes = [projector.shape, sinogram_shape]
    for tensor, shape in zip((values, out), shapes[::-1] if back else shapes, strict=True):
        assert tensor.dtype == torch.float32 and tensor.is_contiguous()
        assert not tensor.requires_grad
        assert tuple(tensor.shape) == (shape[1:] if projector.flat else shape)
    assert bool(out.isnan().all()), "the output was not filled with NaN"
    array = values.double().numpy()
    array = array[None] if projector.flat else array
    result = projector.backproject(array) if back else projector.project(array)
    out.copy_(torch.from_numpy(result.reshape(out.shape)))


class EmulatedAstra:
    """Stands in for ASTRA's projectors "cuda" and "cuda3d"; all others stay ASTRA's own."""

    def __init__(self, monkeypatch) -> None:
        self.alive: dict[str, EmulatedProjector] = {}
        self.calls: list[str] = []
        self.create_own, self.delete_own = astra.create_projector, astra.projector.delete
        monkeypatch.setattr("pdip.ray.cuda_gate.astra_cuda_fault", lambda device: None)
        monkeypatch.setattr(astra, "create_projector", self.create)
        for module in (astra.projector, astra.projector3d):
            monkeypatch.setattr(module, "delete", self.delete)
            monkeypatch.setattr(module, "direct_FP", self.direct_FP)
            monkeypatch.setattr(module, "direct_BP", self.direct_BP)

    def create(self, kind, projection, volume):
        if kind not in ("cuda", "cuda3d"):
            return self.create_own(kind, projection, volume)
        assert vectors_are_flat(projection) == (kind == "cuda")
        name = f"{kind} {len(self.calls)}"
        self.alive[name] = EmulatedProjector(projection, volume)
        return name

    def delete(self, projector):
        if projector not in self.alive:
            return self.delete_own(projector)
        del self.alive[projector]

    def direct_FP(self, projector, volume, *, out):
        self.calls.append(f"FP {tuple(volume.shape)}")
        run(self.alive[projector], volume, out, back=False)

    def direct_BP(self, projector, projection, *, out):
        self.calls.append(f"BP {tuple(projection.shape)}")
        run(self.alive[projector], projection, out, back=True)


class EmulatedOperator:
    """tomosipo's operator: ``A(x, out=y)`` and ``A.T(y, out=x)``."""

    def __init__(self, projector: EmulatedProjector, back: bool = False) -> None:
        self.projector = projector
        self.back = back

    @property
    def T(self):
        return EmulatedOperator(self.projector, not self.back)

    def __call__(self, values, out=None):
        run(self.projector, values, out, self.back)
        return out


def emulated_tomosipo() -> ModuleType:
    """The part of tomosipo 0.7 that the engine uses; all axes are (z, y, x)."""

    def volume(*, shape, size):
        low_high = [sign * length / 2 for length in size[::-1] for sign in (-1, 1)]
        return astra.create_vol_geom(shape[1], shape[2], shape[0], *low_high)

    def vectors(kind, shape, first, det_pos, det_v, det_u):
        stacked = np.concatenate([v[:, ::-1] for v in (first, det_pos, det_u, det_v)], axis=1)
        return astra.create_proj_geom(kind, *shape, stacked)

    module = ModuleType("tomosipo")
    module.__dict__.update(
        volume=volume,
        parallel_vec=lambda *, ray_dir, **d: vectors("parallel3d_vec", first=ray_dir, **d),
        cone_vec=lambda shape, src_pos, **d: vectors("cone_vec", shape, src_pos, **d),
        operator=lambda volume, rays: EmulatedOperator(EmulatedProjector(rays, volume)),
    )
    return module
