"""From what a detector counted to line integrals with the noise that photons make.

Which part of the work is done is a value, :class:`Preprocessing`, and everything it did is said in
sentences. With transmission ``T = (I - D) / (F - D)`` and N photons expected to arrive,

    y = -log T,    var(y) = Var[log(N + 1/2)] + var(D) / N² + the noise of the flat and dark means

and the weight of a ray is 1 / var(y), so that a noise level of 1 means that the photon model is
right. Where the gain is not known only the ratios of variances are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pdip.errors import InputError
from pdip.scan.artefacts import harden, remove_rings
from pdip.scan.checks import finite_real, number_tuple, positive_int, shown
from pdip.scan.photons import (
    HALF_PHOTON,
    MIN_PHOTONS,
    Gain,
    estimate_gain,
    expected_transmission,
    log_variance,
)

DATA_KINDS = ("counts", "transmission", "line_integrals")
PREPROCESSING_KEYS = (
    "data_kind", "flat", "dark", "blank", "gain", "air_columns", "rings", "beam_hardening",
)  # fmt: skip
"""Keys of files and of geometry files that say how to read ``counts`` or ``sinogram``."""

PHOTON_COUNTS = 1000.0
"""Whole numbers under flats below this level are taken as photons, where no gain is known."""
DEAD_FRACTION = 0.02
"""A detector element whose flat is below this part of the median one is dead."""
STUCK_VIEWS = 8
"""An element with one and the same reading in at least so many views is stuck."""
LEAST_SIGNAL = 3.0
"""Expected photons over the readout noise; below, the logarithm is biased by 5 % and more."""
PLAUSIBLE_ZERO = 10.0
"""Expected photons up to which no photon at all may be chance (5e-5)."""


@dataclass(frozen=True)
class Measured:
    """What preprocessing makes of one slice.

    Attributes:
        sinogram: line integrals, (views, detectors) float64, finite also where a ray is not used.
        weights: inverse noise variance, (views, detectors), 0 for rays that are not used; None for
            equal rays.
        noise_std: σ of a ray of weight 1 where photon statistics say it, else None.
        said: what was done, in sentences.
    """

    sinogram: np.ndarray
    weights: np.ndarray | None = None
    noise_std: float | None = None
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preprocessing:
    """How the values of a file become line integrals.

    Args:
        data_kind: counts, transmission (counts over flat), or line_integrals.
        flat: open-beam counts, a number, (detectors,) or (frames, detectors).
        dark: counts without beam, likewise; 0 where there is none.
        blank: expected open-beam counts of every ray, (views, detectors), in place of ``flat``.
        gain: counts per photon; None to estimate it from repeated flats.
        air_columns: elements at either end of the detector that see air in every view; the mean
            transmission of each view there is set to 1.
        rings: width in detector elements of the filter that removes rings; None to leave them.
        beam_hardening: q and n of algotom's correction; None for none.

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
                "counts need the open beam to compare with; give the key 'flat', a number or an "
                "array (frames, detectors)."
            )
        for name in ("air_columns", "rings"):
            if getattr(self, name) is not None:
                positive_int(name, getattr(self, name))
        if self.beam_hardening is not None:
            harden(np.ones((1, 1)), self.beam_hardening)  # raises before a file is read

    @classmethod
    def of(cls, fields: Mapping) -> "Preprocessing":
        """The one that the keys of a file ask for; counts without line integrals ask for counts."""
        given = {key: fields[key] for key in PREPROCESSING_KEYS if fields.get(key) is not None}
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
            found = Measured(np.asarray(values, dtype=np.float64))
        else:
            found = _Counts.of(self, np.asarray(values)).measured()
        if self.air_columns is not None:
            found = _at_air(found, self.air_columns)
        if self.beam_hardening is not None:
            found = _hardened(found, self.beam_hardening)
        if self.rings is not None:
            smooth = remove_rings(found.sinogram, self.rings)
            found = replace(found, sinogram=smooth, said=(*found.said, (
                f"Rings are removed by sorting and a median over {self.rings} detector elements; "
                "the error bars do not know of it."
            )))  # fmt: skip
        return found


@dataclass(frozen=True)
class _Counts:
    """Counts less their dark level, in photons where the gain is known, else in counts.

    Attributes:
        arrived, blank: N and B, (views, detectors).
        alive: which rays have a reading of an element that works.
        readout: variance of one reading without a photon.
        flat_variance, dark_variance: of the means of the flat and dark frames.
        gain: counts per photon, or None.
        said: how all that was found.
    """

    arrived: np.ndarray
    blank: np.ndarray
    alive: np.ndarray
    readout: float
    flat_variance: np.ndarray
    dark_variance: float
    gain: Gain | None
    said: list[str]

    @classmethod
    def of(cls, how: Preprocessing, values: np.ndarray) -> "_Counts":
        said: list[str] = []
        values = values.astype(np.float64)
        views, detectors = values.shape
        dark = _frames("dark", 0.0 if how.dark is None else how.dark, detectors)
        level = dark.mean(0)
        readout = float(dark.var(0, ddof=1).mean()) if len(dark) > 1 else 0.0
        transmission = how.data_kind == "transmission"
        if how.blank is not None:
            flat = np.asarray(how.blank, dtype=np.float64)
            if flat.shape != values.shape:
                raise InputError(
                    f"the blank scan has shape {flat.shape} but the counts {values.shape}; give "
                    "one expected count for each ray, or 'flat' (frames, detectors)."
                )
            blank = flat - level
            said.append("The blank scan is taken as exact: it has no noise of its own.")
        else:
            flat = _frames("flat", 1.0 if transmission else how.flat, detectors)
            blank = np.broadcast_to(flat.mean(0) - level, values.shape)
        gain = _gain(how, values, flat, readout, level, said)
        unit = 1.0 if gain is None else gain.value
        exact = how.blank is not None or transmission or np.ndim(how.flat) == 0
        noise = 0.0 if exact else (np.maximum(blank / unit, 0) + readout / unit**2) / len(flat)
        alive = np.isfinite(values) & _working(values, blank, said)
        return cls(
            arrived=np.where(alive, (values - level) / unit, 0.0),
            blank=np.where(alive, blank / unit, 0.0),
            alive=alive,
            readout=readout / unit**2,
            flat_variance=np.broadcast_to(noise, values.shape),
            dark_variance=readout / unit**2 / len(dark),
            gain=gain,
            said=said,
        )

    def measured(self) -> Measured:
        """Logarithm, noise variance and mask."""
        known = self.gain is not None
        part = expected_transmission(self.arrived, self.blank, self.alive)
        photons = part * self.blank
        added = HALF_PHOTON if known else 0.0
        usable = self.alive & np.isfinite(photons)
        with np.errstate(invalid="ignore"):
            chance = known & (self.arrived > -HALF_PHOTON) & (photons <= PLAUSIBLE_ZERO)
            dark = usable & (self.arrived <= 0) & ~chance
            fewest = max(MIN_PHOTONS, LEAST_SIGNAL * self.readout**0.5)
            few = usable & ~dark & known & (photons < fewest)
        usable &= ~dark & ~few
        self._tell(usable, dark, few, fewest)
        n, b = photons[usable], self.blank[usable]
        variance = np.zeros(usable.shape)
        variance[usable] = (
            (log_variance(n) if known else 1 / n)
            + self.readout / n**2
            + self.flat_variance[usable] / b**2
            + self.dark_variance * (1 / n - 1 / b) ** 2
        )
        y = np.full(usable.shape, np.nan)
        y[usable] = -np.log((self.arrived[usable] + added) / b)
        if y[usable].mean() < 0:
            raise InputError(
                "on average more counts arrive with the object than without; were flat and dark, "
                "or flat and counts, exchanged?"
            )
        weights = np.where(usable, 1 / np.where(usable, variance, 1.0), 0.0)
        if not known:
            weights /= np.median(weights[usable])
        self._tell_flats(variance, usable)
        return Measured(filled(y), weights, 1.0 if known else None, tuple(self.said))

    def _tell(self, usable, dark, few, fewest: float) -> None:
        """Say how many rays are left out and why; refuse what leaves hardly any."""
        lost = {
            "without a reading or on a dead or stuck detector element": int((~self.alive).sum()),
            "without a positive count": int(dark.sum()),
            f"that expect fewer than {fewest:.3g} photons": int(few.sum()),
        }
        total = usable.size
        told = [f"{count} {why}" for why, count in lost.items() if count]
        if 2 * usable.sum() < total:
            raise InputError(
                f"only {int(usable.sum())} of {total} rays can be used "
                f"({', '.join(told) or 'no neighbours'}); check flat, dark and their order."
            )
        if told:
            self.said.append(
                f"{total - int(usable.sum())} of {total} rays have weight 0: {', '.join(told)}."
            )

    def _tell_flats(self, variance: np.ndarray, usable: np.ndarray) -> None:
        """Say what part of the noise is the flats', as it is the same in every view."""
        own = self.flat_variance[usable] / self.blank[usable] ** 2
        share = float(np.mean(own / variance[usable]))
        if share > 0.02:
            self.said.append(
                f"{share:.0%} of the noise variance is that of the flats, the same in every view: "
                "it makes rings, which the error bars take for independent noise; average more "
                "flats."
            )


def _gain(how, values, flat, readout, level, said) -> Gain | None:
    """The gain that was given, that of the flats, that of a photon counter, or None; said."""
    if how.gain is not None:
        said.append(f"The noise of the counts is that of photons at the given gain {how.gain:g}.")
        return Gain(float(how.gain))
    if how.data_kind == "counts" and how.blank is None:
        found = estimate_gain(flat, readout, level)
        if found is not None:
            said.append(
                f"The gain is {found.value:.4g} +- {found.standard_error:.2g} counts per photon, "
                f"from {found.frames} flats by photon transfer."
            )
            return found
    finite = values[np.isfinite(values)]
    if how.data_kind == "counts" and np.array_equal(finite, np.round(finite)):
        if float(np.median(flat)) < PHOTON_COUNTS and readout == 0 and not np.any(level):
            said.append("The counts are taken as photons (gain 1); give the gain if they are not.")
            return Gain(1.0)
    said.append(
        "No gain is known: rays are weighted by their counts, and the noise level is estimated."
    )
    return None


def _frames(name: str, values, detectors: int) -> np.ndarray:
    """Flats or darks as (frames, detectors) float64."""
    if isinstance(values, str):
        raise InputError(f"{name} must be a number or an array, got the text {shown(values)}.")
    fits = getattr(values, "ndim", 0) <= 2
    frames = np.atleast_2d(np.asarray(values if fits else np.nan, dtype=np.float64))
    if not fits or frames.shape[1] not in (1, detectors) or not len(frames):
        raise InputError(
            f"{name} has shape {np.shape(values)} but there are {detectors} detector elements; "
            "give a number, (detectors,) or (frames, detectors)."
        )
    return np.broadcast_to(frames, (len(frames), detectors))


def _working(values: np.ndarray, blank: np.ndarray, said: list[str]) -> np.ndarray:
    """Which rays belong to elements that see the open beam and do not stand still."""
    with np.errstate(invalid="ignore"):
        lit = np.isfinite(blank) & (blank > 0)
        lit &= blank > DEAD_FRACTION * np.median(blank[lit]) if lit.any() else lit
        stuck = (len(values) >= STUCK_VIEWS) & (values == values[:1]).all(0)
    dead = int((~lit).all(0).sum())
    for count, why in ((dead, "no flat"), (int(stuck.sum()), "the same reading in every view")):
        if count:
            said.append(f"{count} detector element(s) have {why} and are not used.")
    return lit & ~stuck


def filled(sinogram: np.ndarray) -> np.ndarray:
    """The same with NaN replaced from the nearest rays of the view, so that it can be looked at."""
    out, place = sinogram.copy(), np.arange(sinogram.shape[1])
    for row in out:
        known = np.isfinite(row)
        row[~known] = np.interp(place[~known], place[known], row[known]) if known.any() else 0.0
    return out


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
