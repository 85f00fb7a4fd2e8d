"""What a detector reads: its gain and fields, and which of its readings no photons explain."""

import numpy as np

from pdip.errors import InputError
from pdip.scan.checks import shown
from pdip.scan.photons import Gain, estimate_gain

PHOTON_COUNTS = 1000.0
"""Whole numbers under flats below this level are taken as photons, where no gain is known."""
DEAD_FRACTION = 0.02
"""A detector element whose flat is below this part of the median one is dead."""
STUCK_VIEWS = 8
"""An element with one and the same reading in at least so many views is stuck."""
TOO_BRIGHT = 2.0
"""A reading above so many times the open beam is none of photons that came through the object."""
SURE = 10.0
"""Standard deviations of the photons by which it must be above it, too."""
NOT_POSITIVE = 0.05
"""Part of the transmissions that are not positive, from which they may be line integrals."""
SATURATED = 0.5
"""Part of the readings at the end of their range, from which on flats or views are no measurement.
"""
BITS = (8, 10, 12, 14, 16)
"""Of converters, whose readings may lie in a wider type."""
EXCHANGED = (
    "on average more counts arrive with the object than without; were flat and dark, or flat and "
    "counts, exchanged?"
)
PERCENT = (
    "the transmissions are above 1 on average but must lie between 0 and 1; divide percent by 100."
)


def gain_of(how, values, flat, readout, level, said) -> Gain | None:
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


def frames_of(name: str, values, detectors: int) -> np.ndarray:
    """Flats or darks as (frames, detectors) float64."""
    if isinstance(values, str):
        raise InputError(f"{name} must be a number or an array, got the text {shown(values)}.")
    if np.asarray(values).dtype.kind not in "biuf":
        raise InputError(f"{name} holds {np.asarray(values).dtype}; expected real numbers.")
    if not np.size(values):
        without = "" if name == "flat" else " (0 where there is none)"
        raise InputError(
            f"{name} has shape {np.shape(values)} and is empty; give a file of frames or a "
            f"number{without} with --scan.{name}."
        )
    fits = getattr(values, "ndim", 0) <= 2
    frames = np.atleast_2d(np.asarray(values if fits else np.nan, dtype=np.float64))
    if not fits or frames.shape[1] not in (1, detectors):
        raise InputError(
            f"{name} has shape {np.shape(values)} but there are {detectors} detector elements; "
            "give a number, (detectors,) or (frames, detectors)."
        )
    return np.broadcast_to(frames, (len(frames), detectors))


def usable_flats(given, flat: np.ndarray, said: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Flats without those that are copies of others, and the elements that saturate in one.

    Args:
        given: as the file has them, in its type.
        flat: the same, (frames, detectors) float64.
        said: receives what is left out.

    Raises:
        InputError: most readings are at the end of their range.
    """
    if np.ndim(given) == 0:
        return flat, np.zeros(flat.shape[1], bool)
    dtype, top = np.asarray(given).dtype, flat.max(where=np.isfinite(flat), initial=-np.inf)
    at_top = flat == top
    ends = dtype.kind in "iu" and top == np.iinfo(dtype).max
    narrow = [bits for bits in BITS if top == 2**bits - 1]
    if (ends or narrow) and at_top.mean() > SATURATED:
        raise InputError(
            f"the flats are saturated: {at_top.mean():.0%} of their readings are at {top:.0f}, the "
            f"largest value of {dtype if ends else f'{narrow[0]} bits'}; measure them with less "
            "exposure, or give the open beam as a number (--scan.flat)."
        )
    saturated = at_top.any(0) if ends else np.zeros(flat.shape[1], bool)
    if saturated.any():
        said.append(
            f"{int(saturated.sum())} detector element(s) have a saturated flat and are not used."
        )
    places: dict[bytes, int] = {}
    for place, frame in enumerate(flat):
        places.setdefault(frame.tobytes(), place)
    kept = list(places.values())
    if len(kept) == 1 < len(flat):
        said.append(
            f"WARNING: the {len(flat)} flats are copies of one another and count as one; no gain "
            "can be estimated from them."
        )
    elif len(kept) < len(flat):
        said.append(
            f"WARNING: {len(flat) - len(kept)} of the {len(flat)} flats are copies of others and "
            "are left out."
        )
    return flat[kept], saturated


def working(values: np.ndarray, blank: np.ndarray, said: list[str]) -> np.ndarray:
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


def stuck_in_lines(values: np.ndarray) -> np.ndarray:
    """Which elements of line integrals stand still, (detectors,).

    Those that do at an end of the detector are in air, and where most do the object is round and
    without noise.
    """
    still = (values == values[:1]).all(0)
    moving = np.flatnonzero(~still)
    if len(values) < STUCK_VIEWS or 2 * still.sum() > still.size:
        return np.zeros_like(still)
    place = np.arange(still.size)
    return still & (place > moving[0]) & (place < moving[-1])


def tell_of_kind(values, transmission: bool, has_dark: bool, said: list[str]) -> None:
    """Say what the values are taken for where nobody said it, and doubt what does not look it.

    Raises:
        InputError: they are positive and too large for transmissions.
    """
    if not transmission:
        if not has_dark:
            said.append("No dark field is given: the counts without beam are taken as 0.")
        return
    with np.errstate(invalid="ignore"):
        part = float(np.mean(values <= 0))
    if part > NOT_POSITIVE:
        said.append(
            f"WARNING: {part:.0%} of the transmissions are not positive, as line integrals of air "
            "would be; if they are such, say --data-kind line_integrals."
        )
    elif np.nanmean(values) > 1:
        raise InputError(PERCENT)


def dazzled(arrived, blank, saturated, gain, alive, said: list[str]) -> np.ndarray:
    """Which readings are at the end of their type, or far brighter than the open beam."""
    unit = 1.0 if gain is None else gain.value
    with np.errstate(invalid="ignore"):
        bright = arrived > TOO_BRIGHT * blank
        bright &= arrived - blank > SURE * np.sqrt(np.maximum(blank, 0) * unit)
    if (alive & saturated).sum() > SATURATED * alive.sum():
        raise InputError(
            f"the views are saturated: {(alive & saturated).sum() / alive.sum():.0%} of their "
            "readings are at the end of their type; measure them with less exposure."
        )
    found = alive & (saturated | bright)
    if 2 * found.sum() > alive.sum():
        raise InputError(EXCHANGED)
    if found.any():
        said.append(
            f"{int(found.sum())} readings are saturated or more than {TOO_BRIGHT:g} times as "
            "bright as the open beam and are not used."
        )
    return found
