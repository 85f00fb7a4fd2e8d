"""Neighbouring detector elements as one: fewer rays, each of more photons."""

import numpy as np

from pdip.errors import InputError
from pdip.scan.checks import finite_real, positive_int


def binned_fields(fields: dict, binning: int) -> tuple[dict, tuple[str, ...]]:
    """The keys of a scan whose detector elements are ``binning`` times as wide.

    The values are joined by :class:`~pdip.scan.preprocessing.Preprocessing`, which knows which
    elements work. The axis at index c of the file's is then at ``(c - (k - 1) / 2) / k``.

    Args:
        fields: the keys of a file, before anything is made of them.
        binning: k, elements that become one; 1 leaves all as it is.

    Returns:
        the keys, and what is assumed of them.

    Raises:
        InputError: not a divisor of the number of elements.
    """
    binning = positive_int("binning", binning)
    fields = {key: value for key, value in fields.items() if key != "binning"}  # not a file's
    arrays = [fields.get(name) for name in ("sinogram", "counts")]
    shapes = [array.shape for array in arrays if getattr(array, "ndim", 0)]
    if binning == 1 or not shapes:
        return fields, ()
    detectors = shapes[0][-1]
    if detectors % binning:
        divisors = ", ".join(str(k) for k in range(2, detectors) if detectors % k == 0) or "none"
        raise InputError(
            f"{detectors} detector elements cannot be joined by {binning}; give one of {divisors}."
        )
    out, said = {**fields, "binning": binning}, ()
    if "det_pixel_mm" in fields:
        out["det_pixel_mm"] = binning * finite_real("det_pixel_mm", fields["det_pixel_mm"])
    elif fields.get("geometry", "parallel") == "parallel":
        out["det_pixel_mm"] = float(binning)
        said = ("The pitch of the detector is taken as 1 mm before its elements are joined.",)
    if "num_detectors" in fields:
        out["num_detectors"] = positive_int("num_detectors", fields["num_detectors"]) // binning
    if "cor" in fields and not isinstance(fields["cor"], str):
        out["cor"] = joined_index(finite_real("cor", fields["cor"]), binning)
    return out, said


def joined_index(index: float, binning: int) -> float:
    """The place of a detector index of the file among joined elements."""
    return (index - (binning - 1) / 2) / binning


def file_index(index: float, binning: int) -> float:
    """The inverse of :func:`joined_index`: what every axis that is told counts."""
    return binning * index + (binning - 1) / 2


def counted(binning: int) -> str:
    """Words behind an index of the file, where joined elements might be meant as well."""
    return "" if binning == 1 else " (of the elements as they are in the file)"


def grouped(values: np.ndarray, binning: int) -> np.ndarray:
    """The same numbers with an axis more: (..., detectors / binning, binning)."""
    return values.reshape(*values.shape[:-1], values.shape[-1] // binning, binning)


def joined_lines(line_integrals: np.ndarray, binning: int, alive=True) -> np.ndarray:
    """Line integrals averaged as transmissions, ``-log mean exp(-y)``, over the elements ``alive``,
    (detectors,); NaN where none is."""
    lines = np.asarray(line_integrals, dtype=np.float64)
    parts = grouped(np.where(alive, lines, np.inf), binning)
    number, least = np.isfinite(parts).sum(-1), parts.min(-1)  # so that nothing overflows
    with np.errstate(invalid="ignore", divide="ignore"):
        return least - np.log(np.exp(least[..., None] - parts).sum(-1) / number)


def joined_weights(weights: np.ndarray, binning: int, alive=True) -> np.ndarray:
    """Of means of m of k rays, ``m² / Σ 1/w``; 0 where one of them is not to be used.

    Args:
        weights: of the rays of the file.
        binning: k.
        alive: elements that work, (detectors,), which are the m; the others are no part.
    """
    weights = np.asarray(weights, dtype=np.float64)
    works = grouped(np.broadcast_to(alive, weights.shape), binning)
    with np.errstate(divide="ignore"):
        variance = np.where(works, 1 / grouped(weights, binning), 0.0).sum(-1)
    number = works.sum(-1)
    return np.where(number > 0, number**2 / np.where(number > 0, variance, 1.0), 0.0)
