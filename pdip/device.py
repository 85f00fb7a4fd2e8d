"""Devices by name, refused in a sentence where a machine has none of that kind."""

import torch

from pdip.errors import InputError


def checked_device(name: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        InputError: there is no such device on this machine.
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
        if (device.index or 0) >= torch.cuda.device_count():
            raise InputError(
                f"device {str(device)!r} was asked for but there are {torch.cuda.device_count()} "
                "GPUs; count from cuda:0."
            )
    elif device.type != "cpu":
        raise InputError(f"device {str(device)!r} is not supported; expected 'cpu' or 'cuda'.")
    return device
