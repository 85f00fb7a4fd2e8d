"""From what a detector counted to line integrals with the noise that photons make.

Which part of the work is done is a value, :class:`Preprocessing`, and everything it did is said in
sentences. Counts are taken care of by :mod:`pdip.scan.counts`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pdip.errors import InputError
from pdip.scan.artefacts import harden, remove_rings
from pdip.scan.binning import joined_lines
from pdip.scan.checks import finite_real, number_tuple, positive_int, shown
from pdip.scan.counts import Counts, Measured, filled
from pdip.scan.detector import stuck_in_lines

DATA_KINDS = ("counts", "transmission", "line_integrals")
PREPROCESSING_KEYS = (
    "data_kind", "flat", "dark", "blank", "gain", "air_columns", "rings", "beam_hardening",
)  # fmt: skip
"""Keys of files and of geometry files that say how to read ``counts`` or ``sinogram``."""


@dataclass(frozen=True)
class Preprocessing:
    """How the values of a file become line integrals.

    Args:
        data_kind: counts, transmission (counts over flat), or line_integrals.
        flat: open-beam counts, a number, (detectors,) or (frames, detectors).
        dark: counts without beam, likewise; 0 where there is none.
        blank: expected open-beam counts of every ray, (views, detectors), in place of ``flat``.
        gain: counts per photon; None to estimate it from repeated flats.
        air_columns: elements, as joined, at either end of the detector that see air in every view;
            the mean transmission of each view there is set to 1.
        rings: width in detector elements, as joined, of the filter that removes rings; None to
            leave them.
        beam_hardening: q and n of algotom's correction; None for none.
        binning: neighbouring elements that become one: the photons that arrive on those that work
            are added, line integrals averaged as transmissions.

    Raises:
        InputError: an unknown word, a number out of range, or keys that contradict each other.
    """

    data_kind: str = "line_integrals"
    flat: np.ndarray | float | None = None
    dark: np.ndarray | float | None = None
    blank: np.ndarray | None = None
    gain: float | None = None
    air_columns: int | None = None
    rings: int | None = None
    beam_hardening: tuple[float, ...] | None = None
    binning: int = 1

    def __post_init__(self) -> None:
        if self.data_kind not in DATA_KINDS:
            raise InputError(
                f"data_kind must be one of {', '.join(DATA_KINDS)}, got {shown(self.data_kind)}."
            )
        if self.gain is not None and finite_real("gain", self.gain) <= 0:
            raise InputError(f"gain must be positive (counts per photon), got {self.gain:g}.")
        if self.data_kind == "line_integrals" and self.gain is not None:
            raise InputError("a gain is of counts; give data_kind counts or transmission with it.")
        if self.data_kind == "counts" and self.flat is None and self.blank is None:
            raise InputError(
                "counts need the open beam to compare with; give the key 'flat' (--scan.flat), a "
                "number or a file (frames, detectors)."
            )
        for name in ("air_columns", "rings"):
            if getattr(self, name) is not None:
                positive_int(name, getattr(self, name))
        if self.beam_hardening is not None:
            harden(np.ones((1, 1)), self.beam_hardening)  # raises before a file is read

    @classmethod
    def of(cls, fields: Mapping) -> "Preprocessing":
        """The one that the keys of a file ask for; counts without line integrals ask for counts."""
        read = (*PREPROCESSING_KEYS, "binning")
        given = {key: fields[key] for key in read if fields.get(key) is not None}
        if "counts" in fields and "sinogram" not in fields:
            given.setdefault("data_kind", "counts")
        if given.get("data_kind", "line_integrals") != "counts":
            for key in ("flat", "dark", "blank"):  # beside line integrals they are provenance
                given.pop(key, None)
        if given.get("beam_hardening") is not None:
            given["beam_hardening"] = number_tuple("beam_hardening", given["beam_hardening"])
        return cls(**given)

    def slice(self, number: int, count: int) -> "Preprocessing":
        """That of one slice of ``count``: flats and darks of three axes hold one for each slice."""

        def own(name: str):
            values = getattr(self, name)
            if getattr(values, "ndim", 0) != 3:
                return values
            if values.shape[0] != count:
                raise InputError(
                    f"{name} has shape {tuple(values.shape)} but there are {count} slices; give "
                    "(slices, frames, detectors), or (frames, detectors) for all of them."
                )
            return values[number]

        return replace(self, **{name: own(name) for name in ("flat", "dark", "blank")})

    def measured(self, values: np.ndarray) -> Measured:
        """Line integrals, weights and noise level of one slice.

        Args:
            values: of the file, (views, detectors); NaN marks rays without a reading.

        Raises:
            InputError: flats or darks of another shape, or hardly a ray that can be used.
        """
        if self.data_kind == "line_integrals":
            found = _lines(values, self.binning)
        else:
            found = Counts.of(self, np.asarray(values)).joined(self.binning).measured()
        if self.binning > 1:
            sentence = f"{self.binning} detector elements each are read as one."
            found = replace(found, said=(sentence, *found.said))
        if self.air_columns is not None:
            found = _at_air(found, self.air_columns)
        if self.beam_hardening is not None:
            found = _hardened(found, self.beam_hardening)
        if self.rings is not None:
            if 2 * self.rings > found.sinogram.shape[1]:
                raise InputError(
                    f"rings {self.rings} must be at most half of the {found.sinogram.shape[1]} "
                    "detector elements; give the width of the stripes, a few elements."
                )
            smooth = remove_rings(found.sinogram, self.rings)
            found = replace(found, sinogram=smooth, said=(*found.said, (
                f"Rings are removed by sorting and a median over {self.rings} detector elements; "
                "the error bars do not know of it."
            )))  # fmt: skip
        return found


def _lines(values: np.ndarray, binning: int) -> Measured:
    """Line integrals of elements of which those that stand still are not used."""
    stuck = stuck_in_lines(values)
    if not stuck.any():
        return Measured(joined_lines(values, binning))
    said = (
        f"{int(stuck.sum())} detector element(s) between others have the same value in every view "
        "and are not used.",
    )
    return Measured(filled(joined_lines(values, binning, ~stuck)), said=said, alive=~stuck)


def _at_air(found: Measured, columns: int) -> Measured:
    """Each view shifted so that its ends see air."""
    if 2 * columns >= found.sinogram.shape[1]:
        raise InputError(
            f"air_columns {columns} at either end leave nothing of "
            f"{found.sinogram.shape[1]} detector elements; give fewer."
        )
    ends = np.r_[0:columns, -columns:0]
    used = 1.0 if found.weights is None else found.weights[:, ends] > 0
    number = np.broadcast_to(used, (len(found.sinogram), len(ends))).sum(1, keepdims=True)
    shift = (found.sinogram[:, ends] * used).sum(1, keepdims=True) / np.maximum(number, 1)
    sentence = (
        f"The {columns} elements at either end of the detector see air: views were shifted by "
        f"{float(shift.min()):.2g} to {float(shift.max()):.2g}."
    )
    return replace(found, sinogram=found.sinogram - shift, said=(*found.said, sentence))


def _hardened(found: Measured, constants: tuple[float, ...]) -> Measured:
    """Line integrals and their variances through the response curve."""
    sinogram, slope = harden(found.sinogram, constants)
    weights = None if found.weights is None else found.weights / slope**2
    sentence = (
        f"Beam hardening is corrected with q = {constants[0]:g} and n = {constants[1]:g} "
        "(algotom); the error bars do not know how well they fit."
    )
    return replace(found, sinogram=sinogram, weights=weights, said=(*found.said, sentence))
