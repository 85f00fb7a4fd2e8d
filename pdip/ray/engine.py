"""What an engine is, the list of engines, and the choice that ``engine="auto"`` makes."""

import importlib
from typing import Protocol, Self

import torch
from torch import Tensor

from pdip.errors import InputError


class Engine(Protocol):
    """Two raw linear maps between flat batches of images and sinograms.

    An engine knows nothing of autograd or batch axes: :class:`~pdip.ray.RayTransform` adds both.
    Inputs are detached, on ``device``, of ``dtype``, with exactly one batch axis.
    """

    name: str
    projector: str
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def build(
        cls, geometry, grid, *, projector: str, device: torch.device, dtype: torch.dtype
    ) -> Self:
        """Set the engine up; an InputError says what is missing or not supported."""
        ...

    def forward(self, images: Tensor) -> Tensor:
        """``A x``: (batch, height, width) -> (batch, views, detectors)."""
        ...

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """``Aᵀ y``: (batch, views, detectors) -> (batch, height, width)."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same maps on another device or in another precision."""
        ...


ENGINES = {
    "matrix": "pdip.ray.engine_matrix:MatrixEngine",
}
"""Engine name -> "module:class"; a module is imported only when its engine is asked for."""

PROJECTORS = ("linear", "line", "strip")


def choose_engine(engine: str, device: torch.device) -> tuple[str, str]:
    """The engine to build and the reason in a sentence.

    Args:
        engine: a name in :data:`ENGINES`, or "auto".
        device: where the transform will run.

    Raises:
        InputError: the name is unknown.
    """
    if engine == "auto":
        return "matrix", (
            f"engine 'matrix' was chosen because it runs on {device.type} "
            "and its adjoint is exact in every precision"
        )
    if engine not in ENGINES:
        known = ", ".join(["auto", *ENGINES])
        raise InputError(f"ray engine '{engine}' is unknown; expected one of: {known}")
    return engine, f"engine '{engine}' was asked for"


def engine_class(name: str) -> type[Engine]:
    """Import and return the class registered under ``name``."""
    module, attribute = ENGINES[name].split(":")
    return getattr(importlib.import_module(module), attribute)
