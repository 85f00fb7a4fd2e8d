"""Neighbouring detector elements as one: fewer rays, each of more photons."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pdip.errors import InputError
from pdip.scan.checks import finite_real, positive_int

OPEN_BEAM = ("flat", "dark", "blank")


def binned_fields(fields: dict, binning: int) -> tuple[dict, tuple[str, ...]]:
    """The keys of a scan whose detector elements are ``binning`` times as wide.

    What arrives on the wide element is what arrives on its parts: counts are added, transmissions
    averaged, and line integrals averaged as transmissions, ``-log mean exp(-y)``. The axis at
    index c of the detector is then at ``(c - (binning - 1) / 2) / binning``.

    Args:
        fields: the keys of a file, before anything is made of them.
        binning: elements that become one; 1 leaves all as it is.

    Returns:
        the keys, and what to say of them.

    Raises:
        InputError: not a divisor of the number of elements.
    """
    binning = positive_int("binning", binning)
    names = [name for name in ("sinogram", "counts") if getattr(fields.get(name), "ndim", 0)]
    if binning == 1 or not names:
        return fields, ()
    detectors = fields[names[0]].shape[-1]
    if detectors % binning:
        divisors = ", ".join(str(k) for k in range(2, detectors) if detectors % k == 0) or "none"
        raise InputError(
            f"{detectors} detector elements cannot be joined by {binning}; give one of {divisors}."
        )
    kind = fields.get("data_kind", "line_integrals" if "sinogram" in fields else "counts")
    join = Join(binning, detectors, np.sum if kind == "counts" else np.mean)
    weights = fields.get("weights")
    out = dict(fields)
    for name in names:
        lines = name == "sinogram" and kind == "line_integrals"
        own = Join(binning, detectors, _mean_intensity) if lines else join
        out[name] = own.of(fields[name])
    for name in OPEN_BEAM:
        if getattr(fields.get(name), "ndim", 0):
            out[name] = join.of(fields[name])
        elif name in fields and kind == "counts":  # a number for every element
            out[name] = binning * finite_real(name, fields[name])
    if getattr(weights, "ndim", 0):
        out["weights"] = Join(binning, detectors, _joint_weight).of(weights)
    said = f"{binning} detector elements each are read as one."
    if "det_pixel_mm" in fields:
        out["det_pixel_mm"] = binning * finite_real("det_pixel_mm", fields["det_pixel_mm"])
    elif fields.get("geometry", "parallel") == "parallel":
        out["det_pixel_mm"] = float(binning)
        said += " The pitch of the detector is taken as 1 mm before that."
    if "num_detectors" in fields:
        out["num_detectors"] = positive_int("num_detectors", fields["num_detectors"]) // binning
    if "cor" in fields and not isinstance(fields["cor"], str):
        out["cor"] = (finite_real("cor", fields["cor"]) - (binning - 1) / 2) / binning
    return out, (said,)


@dataclass(frozen=True)
class Join:
    """How values along a detector become fewer.

    Attributes:
        binning: elements that become one.
        detectors: elements before.
        joined: of an array, along its last axis (``axis=-1``).
    """

    binning: int
    detectors: int
    joined: Callable

    def of(self, values):
        """The array with a shorter last axis; one of slices stays where it is until indexed."""
        if values.ndim and values.shape[-1] == 1:  # the same for all elements
            values = np.repeat(np.asarray(values), self.detectors, -1)
        if values.ndim == 3:
            return JoinedSlices(values, self)
        if values.shape[-1] != self.detectors or values.dtype.kind not in "iuf":
            return values  # refused with a sentence of its own where it is used
        whole = np.asarray(values, dtype=np.float64)
        return self.joined(whole.reshape(*whole.shape[:-1], -1, self.binning), axis=-1)


class JoinedSlices:
    """Slices whose detector elements are joined when one is asked for.

    Args:
        slices: (slices, views, detectors), in memory or on disk.
        join: how.
    """

    def __init__(self, slices, join: Join):
        self.slices, self.join = slices, join
        *rest, detectors = slices.shape
        self.shape = (*rest, detectors // join.binning)
        self.dtype, self.ndim = np.dtype(np.float64), 3

    def __getitem__(self, number: int) -> np.ndarray:
        return self.join.of(self.slices[number])


def _mean_intensity(values: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        least = values.min(axis, keepdims=True)  # so that nothing overflows
        return least.squeeze(axis) - np.log(np.exp(least - values).mean(axis))


def _joint_weight(weights: np.ndarray, axis: int) -> np.ndarray:
    """Of the mean of k rays, ``k² / Σ 1/w``; 0 where one of them is not to be used."""
    with np.errstate(all="ignore"):
        return weights.shape[axis] ** 2 / (1 / weights).sum(axis)
