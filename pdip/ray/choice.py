"""The choice that ``engine="auto"`` makes, and its reason in a sentence.

On a CPU the matrix. On a GPU the matrix while it is small against the GPU's memory, as its adjoint
is exact; beyond that ASTRA's CUDA projectors, then diffct's.
"""

import importlib.util
import math

import torch

from pdip.errors import InputError
from pdip.ray.cuda_gate import astra_cuda_fault
from pdip.ray.engine import ENGINES, line_in_fan

MATRIX_SHARE = 0.25
"""The share of a GPU's memory that the matrix and its transpose may take."""


def choose_engine(
    engine: str, geometry, grid, *, projector: str, device: torch.device, dtype: torch.dtype
) -> tuple[str, str]:
    """The engine to build and the reason in a sentence.

    Args:
        engine: a name in :data:`~pdip.ray.engine.ENGINES`, or "auto".
        geometry, grid, projector, device, dtype: as for :func:`pdip.ray_transform`.

    Raises:
        InputError: the name is unknown.
    """
    if engine == "auto" and device.type == "cuda":
        return choose_on_gpu(geometry, grid, projector, device, dtype)
    if engine == "auto":
        return "matrix", (
            f"engine 'matrix' was chosen because it runs on {device.type} "
            "and its adjoint is exact in every precision"
        )
    if engine not in ENGINES:
        known = ", ".join(["auto", *ENGINES])
        raise InputError(f"ray engine '{engine}' is unknown; expected one of: {known}")
    return engine, f"engine '{engine}' was asked for"


def choose_on_gpu(geometry, grid, projector, device, dtype) -> tuple[str, str]:
    """The matrix while it is small; else the first matrix-free engine that works, if any does."""
    size, memory = matrix_bytes(geometry, grid, projector, dtype), gpu_memory_bytes(device)
    sizes = (
        f"its {size / 1e9:.3g} GB are {{}} {MATRIX_SHARE:.0%} of the GPU's {memory / 1e9:.3g} GB"
    )
    if size <= MATRIX_SHARE * memory:
        return "matrix", (
            f"engine 'matrix' was chosen because its adjoint is exact and {sizes.format('within')}"
        )
    faults = []
    for name, fault_of in {"astra_cuda": astra_fault, "diffct": diffct_fault}.items():
        fault = fault_of(geometry, projector, device)
        if fault is None:
            why = [f"that of engine 'matrix' is exact but {sizes.format('over')}", *faults]
            return name, f"engine '{name}' was chosen because {'; '.join(why)}"
        faults.append(f"engine '{name}' is out: {fault}")
    return "matrix", (
        f"engine 'matrix' was chosen although {sizes.format('over')}, because no matrix-free "
        f"engine is left: {'; '.join(faults)}"
    )


def matrix_bytes(geometry, grid, projector: str, dtype: torch.dtype) -> int:
    """An upper bound on the memory of A and Aᵀ in CSR, in bytes.

    A ray weighs 2 pixels in each row or column that it crosses ("linear"), or at most one more than
    the lines that it crosses ("line"); a strip as many as the lines within its width.
    """
    height, width = grid.shape
    per_ray = 2 * max(height, width)
    asked = line_in_fan(geometry, projector)
    if asked != "linear":
        per_ray = height + width
    if asked == "strip":
        per_ray *= math.ceil(geometry.detector_pitch_mm / grid.pixel_mm) + 1
    entry = 4 + torch.empty((), dtype=dtype).element_size()  # column index and weight
    return 2 * geometry.num_views * geometry.num_detectors * per_ray * entry


def gpu_memory_bytes(device: torch.device) -> int:
    """All of the GPU's memory, so that a run chooses alike whatever else is running."""
    return torch.cuda.get_device_properties(device).total_memory


def astra_fault(geometry, projector: str, device: torch.device) -> str | None:
    """Why engine 'astra_cuda' cannot be chosen, or None."""
    if projector != "linear":
        return f"it has no projector '{projector}'"
    return astra_cuda_fault(device)


def diffct_fault(geometry, projector: str, device: torch.device) -> str | None:
    """Why engine 'diffct' cannot be chosen, or None."""
    if line_in_fan(geometry, projector) != "line":
        return f"it has no projector '{projector}' here"
    if importlib.util.find_spec("diffct") is None:
        return "the package diffct is not installed"
    return None
