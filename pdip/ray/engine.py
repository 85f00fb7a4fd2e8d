"""What an engine is, the list of engines, and how one is built."""

import importlib
import warnings
from types import ModuleType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.ray.vectors import is_fan


@runtime_checkable
class Engine(Protocol):
    """Two raw linear maps between flat batches of images and sinograms.

    An engine knows nothing of autograd or batch axes: :class:`~pdip.ray.RayTransform` adds both.
    Inputs are on ``device``, of ``dtype``, with exactly one batch axis. ``exact_adjoint`` says
    whether ``adjoint`` is the transpose of ``forward`` to rounding, or only an approximation.
    """

    name: str
    projector: str
    exact_adjoint: bool
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def build(
        cls, geometry, grid, *, projector: str, device: torch.device, dtype: torch.dtype
    ) -> "Engine":
        """Set the engine up; an InputError says what is missing or not supported."""
        ...

    def forward(self, images: Tensor) -> Tensor:
        """``A x``: (batch, height, width) -> (batch, views, detectors)."""
        ...

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """``Aᵀ y``: (batch, views, detectors) -> (batch, height, width)."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> "Engine":
        """The same maps on another device or in another precision."""
        ...


ENGINES = {
    "matrix": "pdip.ray.engine_matrix:MatrixEngine",
    "odl": "pdip.ray.engine_odl:OdlEngine",
    "diffct": "pdip.ray.engine_diffct:DiffctEngine",
    "astra_cuda": "pdip.ray.engine_astra_cuda:AstraCudaEngine",
    "tomosipo": "pdip.ray.engine_tomosipo:TomosipoEngine",
}
"""Engine name -> "module:class"; a module is imported only when its engine is asked for."""

PROJECTORS = ("linear", "line", "strip")


def build_engine(
    name: str, geometry, grid, *, projector: str, device: torch.device, dtype: torch.dtype
) -> Engine:
    """Import the class registered under ``name`` and set it up.

    Raises:
        InputError: its package is missing, or it cannot do what is asked.
    """
    module, attribute = ENGINES[name].split(":")
    engine = getattr(importlib.import_module(module), attribute)
    return engine.build(geometry, grid, projector=projector, device=device, dtype=dtype)


def line_in_fan(geometry, projector: str) -> str:
    """``projector``, with "linear" taken as "line" in a fan beam, where no linear one exists."""
    return "line" if is_fan(geometry) and projector == "linear" else projector


def import_optional(engine: str, module: str, requirement: str) -> ModuleType:
    """Import an optional package, or say in one sentence how to install it.

    Raises:
        InputError: the package is not installed.
    """
    try:
        with (
            warnings.catch_warnings()
        ):  # diffct warns of a deprecated module that it imports itself
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"ray engine '{engine}' needs the package {error.name}, which is not installed; "
            f"run: pip install '{requirement}'"
        ) from error
