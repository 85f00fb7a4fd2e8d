"""One detector row, or some, of a scan whose file holds whole detector images."""

from abc import ABC, abstractmethod

import numpy as np

from pdip.errors import InputError

PER_ROW = (
    "sinogram", "counts", "flat", "dark", "blank", "weights", "reference", "ground_truth",
)  # fmt: skip
"""Keys whose arrays have, in a stack, an axis of rows or slices in front."""


class DetectorRows(ABC):
    """Detector images, seen as (rows, frames, detectors); indexing reads one row of each.

    Attributes:
        shape: (rows, frames, detectors).
        dtype: of the values.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    ndim = 3

    @abstractmethod
    def __getitem__(self, index: int) -> np.ndarray:
        """Row ``index`` of every frame, (frames, detectors)."""


def measured_array(fields: dict):
    """The array that is to be reconstructed, whether counts or line integrals, or None."""
    first, second = ("counts", "sinogram") if fields.get("data_kind") == "counts" else (
        "sinogram", "counts",
    )  # fmt: skip
    return fields.get(first, fields.get(second))


def at_row(fields: dict, row: int) -> dict:
    """The keys of one row, or of one slice of a stack; of a single scan, row 0 is all of it.

    Args:
        fields: the keys of a file.
        row: counted from 0, or from the end where negative.

    Raises:
        InputError: the file does not have this row.
    """
    found = measured_array(fields)
    if getattr(found, "ndim", None) != 3:
        if row in (0, -1):
            return fields
        raise InputError(
            f"row {row} does not exist; the file holds a single scan (views, detectors), row 0."
        )
    count = found.shape[0]
    if not -count <= row < count:
        raise InputError(f"row {row} does not exist; there are rows 0 to {count - 1}.")
    return {
        key: value[row % count] if key in PER_ROW and getattr(value, "ndim", None) == 3 else value
        for key, value in fields.items()
    }


def one_row(fields: dict) -> dict:
    """The same keys, those of the row where the detector has a single one."""
    found = measured_array(fields)
    single = isinstance(found, DetectorRows) and found.shape[0] == 1
    return at_row(fields, 0) if single else fields


def check_rows_named(fields: dict, slices: str | int | None, name: str) -> None:
    """Raise InputError where a detector has several rows and nothing says which to use."""
    found = measured_array(fields)
    if slices is None and isinstance(found, DetectorRows):
        rows, views, _ = found.shape
        raise InputError(
            f"{name} holds {views} views of {rows} detector rows; name one with --row "
            f"{rows // 2} (0 to {rows - 1}), or several with --rows 0:{rows} for a stack."
        )


def cone_remark(fields: dict) -> tuple[str, ...]:
    """What is assumed where rows of a cone beam are read as fan beams."""
    found = measured_array(fields)
    if not isinstance(found, DetectorRows) or fields.get("geometry") != "fanflat":
        return ()
    return (
        "Each detector row is read as a fan beam of its own, which is exact for the row at the "
        f"height of the source alone (row {(found.shape[0] - 1) / 2:g} where it is in the middle).",
    )
