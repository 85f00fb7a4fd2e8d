"""How far a long stage is, kept for it by someone else: the stages themselves write no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor


class Keeper:
    """One place for the state of a long computation; this one keeps nothing. Subclasses store.

    A stage that is called again with the same arguments, or a fit with more steps, first asks its
    places what they hold and goes on from there, to the same result bit for bit. A state is named
    tensors and nothing else; what is kept and what is recalled are copies.

    Example:
        >>> keeper = Keeper().within("fit").within("restart 0")
        >>> keeper.keep({"step": torch.tensor(25)})
        >>> keeper.recall() is None
        True
    """

    def within(self, name: str) -> Keeper:
        """A place inside this one."""
        return self

    @property
    def due(self) -> bool:
        """Whether so much time has passed that the present state is worth keeping."""
        return False

    def keep(self, state: Mapping[str, Tensor]) -> None:
        """Keep a state in place of the one before."""

    def recall(self) -> dict[str, Tensor] | None:
        """The last state that was kept, on the CPU; None where there is none."""
        return None


def exact(value) -> Tensor:
    """A number, a list of numbers or a tensor as a tensor of the same bits.

    The way back from a number or list is ``tolist()``.
    """
    return value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))


def tensors_of(record) -> dict[str, Tensor]:
    """The fields of a dataclass of tensors and numbers, by name."""
    return {field.name: exact(getattr(record, field.name)) for field in fields(record)}


def record_of(kind: type, tensors: Mapping[str, Tensor], device: torch.device):
    """The dataclass of which :func:`tensors_of` gave the fields: numbers have no axes."""
    values = {field.name: tensors[field.name] for field in fields(kind)}
    return kind(**{k: v.to(device) if v.ndim else v.tolist() for k, v in values.items()})


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, by the rest of the name."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
