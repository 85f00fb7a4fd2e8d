"""What strict JSON can hold of records, tensors and numbers."""

import math
from dataclasses import asdict, is_dataclass
from typing import Any

from torch import Tensor


def strict(value: Any) -> Any:
    """The value as strict JSON has it, at any depth.

    Records become dicts, tensors and tuples lists, keys strings, NaN and infinities None.

    Example:
        >>> from torch import tensor
        >>> strict({"share": tensor([0.5, math.inf]), 0.95: (1, 2)})
        {'share': [0.5, None], '0.95': [1, 2]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): strict(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
