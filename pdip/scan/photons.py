"""What counting photons does to line integrals: the gain, the logarithm's moments, expected counts.

A detector of gain g reads ``I = g N + D``: N photons, Poisson distributed, on a dark level D with
a readout noise of its own. Photon transfer (Janesick 2007, Photon Transfer, chapter 5):
``var(I) = g (mean(I) - D) + var(D)``.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import convolve1d
from scipy.special import gammaln, xlogy

HALF_PHOTON = 0.5
"""Added before the logarithm: ``E[log(N + 1/2)] = log μ + O(1/μ²)`` (Anscombe 1948)."""
MIN_PHOTONS = 2.0
"""Expected photons of a ray that is used; below, the logarithm of its count is biased by 3 % and
more (17 % at one photon) and far from Gaussian."""
MANY_PHOTONS = 200.0
"""From here on the variance of the logarithm is 1/μ to 0.3 %."""
NEIGHBOURS = np.array([1.0, 1.0, 0.0, 1.0, 1.0])


@dataclass(frozen=True)
class Gain:
    """Detector counts per photon.

    Attributes:
        value: g.
        standard_error: of it; 0 where it was given.
        frames: flat frames behind it.
    """

    value: float
    standard_error: float = 0.0
    frames: int = 0


def estimate_gain(flat: np.ndarray, dark_variance: float, dark: np.ndarray) -> Gain | None:
    """The gain from repeated flats: ``g = (mean var(F) - var(D)) / mean(F - D)`` over pixels.

    The variance is half the mean square of differences of successive frames, each first divided by
    its brightness: what drifts slowly is no noise.

    Args:
        flat: (frames, detectors), at least two frames.
        dark_variance: of one dark frame, counts².
        dark: the dark level, (detectors,).

    Returns:
        the gain and its standard error over pixels, or None where the flats show no photon noise:
        fewer than 8 pixels, or a gain that is not four standard errors above 0.
    """
    net = flat - dark
    usable = np.isfinite(net).all(0) & (net > 0).all(0)
    if len(flat) < 2 or usable.sum() < 8:
        return None
    net = net[:, usable]
    brightness = net.mean(1, keepdims=True)
    net = net * brightness.mean() / brightness
    excess, level = (np.diff(net, axis=0) ** 2).mean(0) / 2 - dark_variance, net.mean(0)
    value = excess.mean() / level.mean()
    error = (excess - value * level).std(ddof=1) / np.sqrt(len(level)) / level.mean()
    if not value > 4 * error:
        return None
    return Gain(float(value), float(error), len(flat))


def log_variance(photons: np.ndarray) -> np.ndarray:
    """``Var[log(N + 1/2)]`` of a Poisson count N of that mean; 1/μ where photons are many."""
    means, _, variances = _log_moments()
    scaled = np.interp(np.log(np.maximum(photons, means[0])), np.log(means), means * variances)
    return scaled / np.maximum(photons, means[0])


def log_bias(photons: np.ndarray) -> np.ndarray:
    """``E[log(N + 1/2)] - log μ`` of a Poisson count N of that mean μ."""
    means, biases, _ = _log_moments()
    return np.interp(np.log(np.maximum(photons, means[0])), np.log(means), biases)


@cache
def _log_moments() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, and the bias and the variance of the logarithm there, summed over all counts."""
    means = np.geomspace(0.25, MANY_PHOTONS, 200)
    counts = np.arange(int(MANY_PHOTONS + 12 * np.sqrt(MANY_PHOTONS)))
    chance = np.exp(xlogy(counts, means[:, None]) - means[:, None] - gammaln(counts + 1))
    logarithm = np.log(counts + HALF_PHOTON)
    first = chance @ logarithm
    second = (chance * (logarithm - first[:, None]) ** 2).sum(1)
    return means, first - np.log(means), second


def expected_transmission(photons: np.ndarray, blank: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """What part of its blank a ray is expected to transmit, from its neighbours on the detector.

    ``Σ N / Σ B`` over the two usable elements on either side, the ray itself left out: a weight
    that knew the ray's own count would favour low counts or high ones, and with them a bias
    (weights of the observed counts shift a weighted mean by -1/μ).

    Args:
        photons, blank: N and B, (views, detectors).
        usable: which rays count.

    Returns:
        (views, detectors), above 0; where no neighbour transmitted anything, what half a photon
        among them would say. NaN without a usable neighbour.
    """
    seen = convolve1d(np.where(usable, photons, 0.0), NEIGHBOURS, axis=1, mode="mirror")
    open_beam = convolve1d(np.where(usable, blank, 0.0), NEIGHBOURS, axis=1, mode="mirror")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(open_beam > 0, np.maximum(seen, HALF_PHOTON) / open_beam, np.nan)
