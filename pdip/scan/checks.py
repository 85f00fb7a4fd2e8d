"""Checks of single values: each returns the value in its own type or raises InputError."""

import math
import reprlib
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from torch import Tensor

from pdip.errors import InputError

Angles = Sequence[float] | np.ndarray | Tensor


def shown(value) -> str:
    """Return a short text of any value, however large or nested, for a message."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer with more digits than Python prints
        return f"a huge {type(value).__name__}"


def plural(count: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> plural(1, "view"), plural(2, "view")
        ('1 view', '2 views')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def finite_real(name: str, value) -> float:
    """Return ``value`` as a finite float; ``name`` is what the message calls it."""
    if isinstance(value, (np.ndarray, np.number, Tensor)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number, got {shown(value)}.")
    try:
        number = float(value)
    except (OverflowError, ValueError):
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {shown(value)}.")
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


def check_seed(seed: int) -> None:
    """Raise InputError for a seed that torch would take for another one, or refuse."""
    if not 0 <= seed < 2**63:
        raise InputError(f"expected a seed from 0 to 2^63 - 1, got {seed}")


def number_tuple(name: str, values: Angles) -> tuple[float, ...]:
    """Return a row of numbers as a tuple of finite floats, at least one."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
        raise InputError(f"{name} must be a list of numbers, got {shown(values)}.")
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise InputError(f"{name} must be one row of numbers, got an array of {values.shape}.")
    if len(values) == 0:
        raise InputError(f"{name} is empty; give at least one number.")
    return tuple(finite_real(f"{name}[{i}]", value) for i, value in enumerate(values))


def view_indices_within(view_indices: Sequence[int] | np.ndarray | Tensor, num_views: int) -> list:
    """Return the indices as a list of ints in 0 .. num_views - 1, at least one."""
    indices = view_indices.tolist() if hasattr(view_indices, "tolist") else list(view_indices)
    if not indices:
        raise InputError("no view is selected; a scan needs at least one view.")
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, Integral) or not 0 <= index < num_views:
            raise InputError(
                f"view {shown(index)} does not exist; the scan has 0 to {num_views - 1}."
            )
    return [int(index) for index in indices]
