"""Devices by name, refused in a sentence where a machine has none of that kind."""

import torch

from pdip.errors import InputError
from pdip.ranks import count, local_rank


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
