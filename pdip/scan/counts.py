"""Counts of one slice: how many photons arrived, which rays can be used, and what noise they have.

With transmission ``T = (I - D) / (F - D)`` and N photons expected to arrive,

    y = -log T,    var(y) = Var[log(N + 1/2)] + var(D) / N² + the noise of the flat and dark means

and the weight of a ray is 1 / var(y), so that a noise level of 1 means that the photon model is
right. Where the gain is not known only the ratios of variances are.
"""

from dataclasses import dataclass, replace

import numpy as np

from pdip.errors import InputError
from pdip.scan.binning import grouped
from pdip.scan.detector import (
    EXCHANGED,
    dazzled,
    frames_of,
    gain_of,
    tell_of_kind,
    usable_flats,
    working,
)
from pdip.scan.photons import (
    HALF_PHOTON,
    MIN_PHOTONS,
    Gain,
    expected_transmission,
    log_variance,
)

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
        alive: elements of the file that work, (detectors,), where line integrals show that some
            do not and the weights are still to be made; else None.
    """

    sinogram: np.ndarray
    weights: np.ndarray | None = None
    noise_std: float | None = None
    said: tuple[str, ...] = ()
    alive: np.ndarray | None = None


@dataclass(frozen=True)
class Counts:
    """Counts less their dark level, in photons where the gain is known, else in counts.

    Attributes:
        arrived, blank: N and B, (views, detectors).
        alive: which rays have a reading of an element that works.
        readout: variance of a reading without a photon.
        flat_variance, dark_variance: of the means of the flat and dark frames.
        gain: counts per photon, or None.
        said: how all that was found.
    """

    arrived: np.ndarray
    blank: np.ndarray
    alive: np.ndarray
    readout: np.ndarray
    flat_variance: np.ndarray
    dark_variance: np.ndarray
    gain: Gain | None
    said: list[str]

    @classmethod
    def of(cls, how, values: np.ndarray) -> "Counts":
        """What a slice holds, as a :class:`~pdip.scan.preprocessing.Preprocessing` reads it."""
        said: list[str] = []
        saturated = values == (np.iinfo(values.dtype).max if values.dtype.kind in "iu" else np.inf)
        values = values.astype(np.float64)
        views, detectors = values.shape
        dark = frames_of("dark", 0.0 if how.dark is None else how.dark, detectors)
        level = dark.mean(0)
        readout = float(dark.var(0, ddof=1).mean()) if len(dark) > 1 else 0.0
        transmission = how.data_kind == "transmission"
        tell_of_kind(values, transmission, how.dark is not None, said)
        if how.blank is not None:
            flat = np.asarray(how.blank, dtype=np.float64)
            if flat.shape != values.shape:
                raise InputError(
                    f"the blank scan has shape {flat.shape} but the counts {values.shape}; give "
                    "one expected count for each ray, or 'flat' (frames, detectors)."
                )
            blank, overexposed = flat - level, False
            said.append("The blank scan is taken as exact: it has no noise of its own.")
        else:
            given = 1.0 if transmission else how.flat
            flat, overexposed = usable_flats(given, frames_of("flat", given, detectors), said)
            blank = np.broadcast_to(flat.mean(0) - level, values.shape)
        gain = gain_of(how, values, flat, readout, level, said)
        unit = 1.0 if gain is None else gain.value
        exact = how.blank is not None or transmission or np.ndim(how.flat) == 0
        noise = 0.0 if exact else (np.maximum(blank / unit, 0) + readout / unit**2) / len(flat)
        alive = np.isfinite(values) & working(values, blank, said) & np.logical_not(overexposed)
        alive &= ~dazzled(values - level, blank, saturated, gain, alive, said)
        return cls(
            arrived=np.where(alive, (values - level) / unit, 0.0),
            blank=np.where(alive, blank / unit, 0.0),
            alive=alive,
            readout=np.full(values.shape, readout / unit**2),
            flat_variance=np.broadcast_to(noise, values.shape),
            dark_variance=np.full(values.shape, readout / unit**2 / len(dark)),
            gain=gain,
            said=said,
        )

    def joined(self, binning: int) -> "Counts":
        """Those of wider elements: what the working parts of each see, added."""
        if binning == 1:
            return self

        def added(values: np.ndarray) -> np.ndarray:
            return grouped(np.where(self.alive, values, 0.0), binning).sum(-1)

        sums = {
            name: added(getattr(self, name))
            for name in ("arrived", "blank", "readout", "flat_variance", "dark_variance")
        }
        return replace(self, alive=grouped(self.alive, binning).any(-1), **sums)

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
            fewest = np.maximum(MIN_PHOTONS, LEAST_SIGNAL * self.readout**0.5)
            few = usable & ~dark & known & (photons < fewest)
        usable &= ~dark & ~few
        self._tell(usable, dark, few, float(fewest.max()))
        n, b = photons[usable], self.blank[usable]
        variance = np.zeros(usable.shape)
        variance[usable] = (
            (log_variance(n) if known else 1 / n)
            + self.readout[usable] / n**2
            + self.flat_variance[usable] / b**2
            + self.dark_variance[usable] * (1 / n - 1 / b) ** 2
        )
        y = np.full(usable.shape, np.nan)
        y[usable] = -np.log((self.arrived[usable] + added) / b)
        if y[usable].mean() < 0:
            raise InputError(EXCHANGED)
        weights = np.where(usable, 1 / np.where(usable, variance, 1.0), 0.0)
        if not known:
            weights /= np.median(weights[usable])
        self._tell_flats(variance, usable)
        return Measured(filled(y), weights, 1.0 if known else None, tuple(self.said))

    def _tell(self, usable, dark, few, fewest: float) -> None:
        """Say how many rays are left out and why; refuse what leaves hardly any."""
        lost = {
            "without a usable reading or on a dead or stuck detector element": int(
                (~self.alive).sum()
            ),
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
                f"{total - int(usable.sum())} of the {total} rays that were measured have weight "
                f"0: {', '.join(told)}."
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


def filled(sinogram: np.ndarray) -> np.ndarray:
    """The same with NaN replaced from the nearest rays of the view, so that it can be looked at."""
    out, place = sinogram.copy(), np.arange(sinogram.shape[1])
    for row in out:
        known = np.isfinite(row)
        row[~known] = np.interp(place[~known], place[known], row[known]) if known.any() else 0.0
    return out
