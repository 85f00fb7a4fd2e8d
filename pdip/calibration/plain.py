"""Records of this room as plain data."""

import math
from dataclasses import asdict, is_dataclass
from typing import Any

from torch import Tensor


def plain(value: Any) -> Any:
    """Records as dicts, tensors as lists, NaN and infinities as None, at any depth; for JSON.

    Keys are strings, as those of JSON are.

    Example:
        >>> from torch import tensor
        >>> plain({"share": tensor([0.5, math.inf]), 0.95: 1})
        {'share': [0.5, None], '0.95': 1}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
