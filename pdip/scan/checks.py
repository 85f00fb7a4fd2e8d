"""Checks of single values: each returns the value in its own type or raises InputError."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from torch import Tensor

from pdip.errors import InputError

Angles = Sequence[float] | np.ndarray | Tensor


def finite_real(name: str, value) -> float:
    """Return ``value`` as a finite float; ``name`` is what the message calls it."""
    if isinstance(value, (np.ndarray, Tensor)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number, got {value!r:.60}.")
    try:
        number = float(value)
    except (OverflowError, ValueError):
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {value!r:.60}.")
    return number


def positive_mm(name: str, value) -> float:
    """Return ``value`` as a positive length in mm."""
    length = finite_real(name, value)
    if length <= 0:
        raise InputError(f"{name} must be positive (in mm), got {length:g}.")
    return length


def positive_int(name: str, value) -> int:
    """Return ``value`` as a positive whole number."""
    number = finite_real(name, value)
    if number != int(number) or number < 1:
        raise InputError(f"{name} must be a positive whole number, got {number:g}.")
    return int(number)


def angle_tuple(values: Angles, name: str = "angles_deg") -> tuple[float, ...]:
    """Return the view angles as a tuple of finite floats, at least one."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
        raise InputError(f"{name} must be a list of numbers, got {values!r:.60}.")
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise InputError(f"{name} must be one row of numbers, got an array of {values.shape}.")
    if len(values) == 0:
        raise InputError(f"{name} is empty; a scan needs at least one view.")
    return tuple(finite_real(f"{name}[{i}]", value) for i, value in enumerate(values))


def view_indices_within(view_indices: Sequence[int] | np.ndarray | Tensor, num_views: int) -> list:
    """Return the indices as a list of ints in 0 .. num_views - 1, at least one."""
    indices = view_indices.tolist() if hasattr(view_indices, "tolist") else list(view_indices)
    if not indices:
        raise InputError("no view is selected; a scan needs at least one view.")
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, Integral) or not 0 <= index < num_views:
            raise InputError(f"view {index!r} does not exist; the scan has 0 to {num_views - 1}.")
    return [int(index) for index in indices]
