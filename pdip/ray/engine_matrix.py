"""Engine `matrix`: the system matrix of ASTRA's CPU projector as a torch sparse matrix.

``A[i, j]`` (mm) is the weight of pixel j in ray i. Rows run over views, then detectors; columns
over image rows from the top, then image columns: the order of a row-major tensor. Both A and Aᵀ
are stored in CSR, so the adjoint is exact and both directions are row-wise products, which run on
any torch device. ASTRA computes the weights in single precision; float64 makes the algebra, not
the weights, double.
"""

import warnings

import numpy as np
import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.ray.engine import line_in_fan
from pdip.ray.vectors import beam_axis, detector_axis, is_fan


class MatrixEngine:
    """Sparse matrix engine; ``matrix`` is A and ``transposed`` is Aᵀ, both torch CSR.

    Args:
        matrix: A, (views * detectors, height * width), sparse CSR, mm.
        transposed: Aᵀ in CSR.
        domain_shape: (height, width).
        range_shape: (views, detectors).
        projector: ASTRA's name of the projector the weights come from.
    """

    name = "matrix"
    exact_adjoint = True

    def __init__(
        self,
        matrix: Tensor,
        transposed: Tensor,
        domain_shape: tuple[int, int],
        range_shape: tuple[int, int],
        projector: str,
    ) -> None:
        self.matrix = matrix
        self.transposed = transposed
        self.domain_shape = domain_shape
        self.range_shape = range_shape
        self.projector = projector

    @classmethod
    def build(
        cls, geometry, grid, *, projector: str, device: torch.device, dtype: torch.dtype
    ) -> "MatrixEngine":
        """Let ASTRA compute the matrix of ``geometry`` on ``grid``.

        "linear", "line" and "strip" are ASTRA's projectors of that name in a parallel beam. ASTRA
        has no linear projector for a fan beam: there "linear" and "line" both mean `line_fanflat`.
        """
        name = astra_projector(geometry, projector)
        weights = astra_matrix(geometry, grid, name)
        matrix = csr_tensor(weights, device, dtype)
        transposed = csr_tensor(weights.T.tocsr(), device, dtype)
        return cls(matrix, transposed, tuple(grid.shape), tuple(geometry.shape), name)

    @property
    def device(self) -> torch.device:
        return self.matrix.device

    @property
    def dtype(self) -> torch.dtype:
        return self.matrix.dtype

    def forward(self, images: Tensor) -> Tensor:
        """``A x``: (batch, height, width) -> (batch, views, detectors)."""
        return multiply(self.matrix, images.flatten(1)).unflatten(1, self.range_shape)

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """``Aᵀ y``: (batch, views, detectors) -> (batch, height, width)."""
        return multiply(self.transposed, sinograms.flatten(1)).unflatten(1, self.domain_shape)

    def to(self, device: torch.device, dtype: torch.dtype) -> "MatrixEngine":
        """The same matrix on another device or in another precision."""
        matrix = self.matrix.to(device=device, dtype=dtype)
        transposed = self.transposed.to(device=device, dtype=dtype)
        return type(self)(matrix, transposed, self.domain_shape, self.range_shape, self.projector)


def multiply(matrix: Tensor, rows: Tensor) -> Tensor:
    """``(matrix @ rowsᵀ)ᵀ``: the matrix applied to every row of a (batch, n) tensor."""
    if len(rows) == 0:
        return rows.new_zeros(0, matrix.shape[0])
    if len(rows) == 1:  # a matrix-vector product costs half of a one-column matrix product
        return (matrix @ rows[0])[None]
    return (matrix @ rows.T).T.contiguous()


def csr_tensor(weights, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A scipy CSR matrix as a torch CSR tensor with 32-bit indices (the fast ones in MKL).

    Raises:
        InputError: it has more entries than 32 bits count.
    """
    if weights.nnz > np.iinfo(np.int32).max:
        raise InputError(
            f"the system matrix has {weights.nnz} entries, expected at most "
            f"{np.iinfo(np.int32).max}; use fewer views or pixels, or a matrix-free engine"
        )
    weights.sort_indices()
    with warnings.catch_warnings():  # torch says once that its sparse CSR layout is in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            torch.from_numpy(weights.indptr.astype(np.int32)),
            torch.from_numpy(weights.indices.astype(np.int32)),
            torch.from_numpy(weights.data).to(dtype),
            weights.shape,
            check_invariants=True,
        ).to(device)


def astra_projector(geometry, projector: str) -> str:
    """ASTRA's name for ``projector`` in this geometry."""
    if not is_fan(geometry):
        return projector
    return f"{line_in_fan(geometry, projector)}_fanflat"


def astra_geometry(geometry, projector: str) -> dict:
    """The ASTRA projection geometry: one vector per view, so that the detector shift is exact."""
    import astra

    beam, axis = beam_axis(geometry), detector_axis(geometry)
    pitch, shift = geometry.detector_pitch_mm, geometry.detector_shift_mm
    count = geometry.num_detectors
    if not is_fan(geometry):
        vectors = np.concatenate([beam, shift * axis, pitch * axis], axis=1)
        return astra.create_proj_geom("parallel_vec", count, vectors)
    source, distance = geometry.source_origin_mm, geometry.origin_detector_mm
    if projector != "strip_fanflat":
        centre = -distance * beam + shift * axis
        vectors = np.concatenate([source * beam, centre, pitch * axis], axis=1)
        return astra.create_proj_geom("fanflat_vec", count, vectors)
    if shift != 0:
        raise InputError(
            "projector 'strip' in a fan beam needs a centred detector but detector_shift_mm is "
            f"{shift:g}; use projector 'line'"
        )
    return astra.create_proj_geom("fanflat", pitch, count, geometry.angles_rad, source, distance)


def astra_volume(grid) -> dict:
    """The ASTRA volume geometry, centred on the rotation axis."""
    import astra

    height, width = (size / 2 for size in grid.size_mm)
    return astra.create_vol_geom(*grid.shape, -width, width, -height, height)


def astra_matrix(geometry, grid, projector: str):
    """The scipy CSR matrix of one ASTRA projector, in mm; leaves no object behind in ASTRA."""
    import astra

    projector_id = astra.create_projector(
        projector, astra_geometry(geometry, projector), astra_volume(grid)
    )
    try:
        matrix_id = astra.projector.matrix(projector_id)
        try:
            return astra.matrix.get(matrix_id)
        finally:
            astra.matrix.delete(matrix_id)
    finally:
        astra.projector.delete(projector_id)
