"""What the engines over ASTRA's CUDA projectors share: their set-up and its gate."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.ray.cuda_gate import require_astra_cuda
from pdip.ray.slab import obliquity


class CudaEngine(ABC):
    """ASTRA's CUDA projectors, without a gate; :meth:`build` is the gated way to make one.

    They interpolate linearly between pixel centres (Joseph), in single precision.

    Args:
        geometry: parallel or fan beam.
        grid: image grid.
        device: where tensors live.
        dtype: precision in which results are returned; ASTRA computes in torch.float32.
    """

    name: str
    projector = "linear"
    exact_adjoint = False

    def __init__(self, geometry, grid, device: torch.device, dtype: torch.dtype) -> None:
        self.geometry = geometry
        self.grid = grid
        self.device = device
        self.dtype = dtype
        self.ray_weights = torch.from_numpy(obliquity(geometry)).to(device, torch.float32)

    @classmethod
    def build(
        cls, geometry, grid, *, projector: str, device: torch.device, dtype: torch.dtype
    ) -> "CudaEngine":
        """Set up the projectors; only "linear" exists."""
        if projector != cls.projector:
            raise InputError(
                f"engine '{cls.name}' has no projector '{projector}'; use 'linear' or engine "
                "'matrix'"
            )
        cls.require(device)
        return cls(geometry, grid, device, dtype)

    @classmethod
    def require(cls, device: torch.device) -> None:
        """Pass where the engine works on tensors of ``device``.

        Raises:
            InputError: it does not; the sentence says why and what to use.
        """
        require_astra_cuda(cls.name, device)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """``A x``: (batch, height, width) -> (batch, views, detectors)."""

    @abstractmethod
    def adjoint(self, sinograms: Tensor) -> Tensor:
        """Backprojection: (batch, views, detectors) -> (batch, height, width)."""

    def to(self, device: torch.device, dtype: torch.dtype) -> "CudaEngine":
        """The same projectors for tensors elsewhere or in another precision."""
        if device != self.device:
            self.require(device)
        return type(self)(self.geometry, self.grid, device, dtype)
