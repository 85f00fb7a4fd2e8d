"""An engine: rays sampled at equal steps, each sample taken from the pixel it falls into."""

import numpy as np
import scipy.sparse
import torch

from pdip.ray.engine_matrix import csr_tensor, multiply


class SampledEngine:
    """The samples of all rays as one sparse matrix; works for every geometry with ``ray_lines``."""

    name = "sampled"
    exact_adjoint = True

    def __init__(self, matrix, transposed, domain_shape, range_shape, projector):
        self.matrix, self.transposed = matrix, transposed
        self.domain_shape, self.range_shape = domain_shape, range_shape
        self.projector = projector

    @classmethod
    def build(cls, geometry, grid, *, projector, device, dtype):
        weights = sampled_rays(geometry, grid)
        parts = (csr_tensor(m.tocsr(), device, dtype) for m in (weights, weights.T))
        return cls(*parts, tuple(grid.shape), tuple(geometry.shape), "nearest pixel")

    @property
    def device(self):
        return self.matrix.device

    @property
    def dtype(self):
        return self.matrix.dtype

    def forward(self, images):
        return multiply(self.matrix, images.flatten(1)).unflatten(1, self.range_shape)

    def adjoint(self, sinograms):
        return multiply(self.transposed, sinograms.flatten(1)).unflatten(1, self.domain_shape)

    def to(self, device: torch.device, dtype: torch.dtype):
        parts = (part.to(device=device, dtype=dtype) for part in (self.matrix, self.transposed))
        return type(self)(*parts, self.domain_shape, self.range_shape, self.projector)


def sampled_rays(geometry, grid, steps_per_pixel: int = 4) -> scipy.sparse.coo_matrix:
    """Entry (ray, pixel): how many samples of the ray fall into the pixel, times their step, mm."""
    step = grid.pixel_mm / steps_per_pixel
    reach = np.hypot(*grid.size_mm) / 2
    along = np.arange(-reach, reach + step, step)
    normal, offset = (part.reshape(-1, 1) for part in geometry.ray_lines())
    x = offset * np.cos(normal) + along * np.sin(normal)
    y = offset * np.sin(normal) - along * np.cos(normal)
    height, width = grid.shape
    row = np.rint((height - 1) / 2 - y / grid.pixel_mm).astype(int)
    column = np.rint(x / grid.pixel_mm + (width - 1) / 2).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    ray = np.broadcast_to(np.arange(len(x))[:, None], x.shape)
    pixel = row * width + column
    values = np.full(int(inside.sum()), step)
    return scipy.sparse.coo_matrix(
        (values, (ray[inside], pixel[inside])), shape=(len(x), height * width)
    )
