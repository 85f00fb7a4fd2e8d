"""Tensors and a record as the bytes of one safetensors file, with a checksum over all of it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save as serialised
from torch import Tensor

from pdip.errors import InputError
from pdip.strict_json import strict


def packed(tensors: Mapping[str, Tensor], record) -> bytes:
    """The file's content.

    Args:
        tensors: by name; on any device, they may share memory.
        record: what JSON can hold; NaN and infinities become null.
    """
    separate = {"memory_format": torch.contiguous_format}  # the format takes no shared memory
    content = {key: value.detach().cpu().clone(**separate) for key, value in tensors.items()}
    text = json.dumps(strict(record), allow_nan=False)
    written = {"record": text, "sha256": checksum(content, text)}
    # one entry: safetensors writes several in any order, and equal files shall have equal bytes
    return serialised(content, metadata={"pdip": json.dumps(written)})


def unpacked(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and record of a file that holds what :func:`packed` gave.

    Each tensor lies in memory of its own, as one that was computed does: what some kernels
    round depends on where their operands begin.

    Raises:
        InputError: the file is damaged: cut off, changed, unreadable, or of an earlier pdip.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as stored:
            written = json.loads(stored.metadata()["pdip"])
            tensors = {key: stored.get_tensor(key).clone() for key in stored.keys()}
        if checksum(tensors, written["record"]) != written["sha256"]:
            raise ValueError
        return tensors, json.loads(written["record"])
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError):
        raise InputError(
            f"{path} is damaged or from an earlier pdip; the command that made it writes it "
            "again with --resume or --overwrite."
        ) from None


def checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 of names, types, shapes and bits of all tensors and of the record's text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
