"""Devices by name, refused in a sentence where there is none; the same bits in every run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pdip.errors import ComputationError, InputError
from pdip.ranks import count, local_rank

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def checked_device(name: str | torch.device) -> torch.device:
    """The device of that name; for ``"cuda"`` in a run of several ranks, the GPU of the rank.

    Raises:
        InputError: there is no such device on this machine, or several ranks ask for one GPU.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {str(name)!r} is unknown; expected 'cpu' or 'cuda'.") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(
                "device 'cuda' was asked for but torch finds no usable GPU here; use --device cpu."
            )
        if count() > 1:
            return _own_gpu(device)
        if (device.index or 0) >= torch.cuda.device_count():
            raise InputError(
                f"device {str(device)!r} was asked for but there are {torch.cuda.device_count()} "
                "GPUs; count from cuda:0."
            )
    elif device.type != "cpu":
        raise InputError(f"device {str(device)!r} is not supported; expected 'cpu' or 'cuda'.")
    return device


def _own_gpu(device: torch.device) -> torch.device:
    if device.index not in (None, local_rank()):
        raise InputError(
            f"device {str(device)!r} was asked for but each of several processes has a GPU of its "
            "own; use --device cuda."
        )
    if local_rank() >= torch.cuda.device_count():
        raise InputError(
            f"process {local_rank() + 1} of this machine has no GPU as there are "
            f"{torch.cuda.device_count()}; give torchrun --nproc-per-node so many."
        )
    return torch.device("cuda", local_rank())


@contextmanager
def deterministic() -> Iterator[None]:
    """Inside, torch uses only algorithms that give the same bits in every run on one machine.

    On a CPU it does so anyway, for one number of threads. On CUDA some algorithms are slower and
    others refused; it has to be entered before the first CUDA computation of the process.

    Raises:
        ComputationError: an operation has no such algorithm.

    Example:
        >>> with deterministic():
        ...     torch.are_deterministic_algorithms_enabled()
        True
        >>> torch.are_deterministic_algorithms_enabled()
        False
    """
    cudnn, workspace = torch.backends.cudnn, os.environ.get(CUBLAS)
    before = cudnn.benchmark, cudnn.deterministic
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark, cudnn.deterministic = False, True
    os.environ.setdefault(CUBLAS, ":4096:8")  # cuBLAS is not deterministic without one of its own
    try:
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        raise ComputationError(
            f"expected operations with deterministic algorithms only, got {str(error).split()[0]}, "
            "which has none on this device; leave --deterministic out"
        ) from None
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        cudnn.benchmark, cudnn.deterministic = before
        if workspace is None:
            os.environ.pop(CUBLAS, None)
