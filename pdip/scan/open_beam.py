"""Whether the open beam drifts over a scan, as the air at both ends of the detector shows."""

from dataclasses import dataclass

import numpy as np

from pdip.scan.scan import Scan, used_values

END_PART = 32
"""The ends of the detector are this part of it, either one, or more."""
DEGREE = 3
"""Of the polynomial in the number of the view that a drift is."""
LEAST = 0.03
"""Line integral from which a drift is named."""
CLEAR = 3.0
"""The drift over what the ends differ by, and over what it leaves of them."""
SLOPE = (0.5, 1.5)
"""A drift adds as much to all rays: how much more the views' means have where the ends have 1."""
NOISIER, SURE = 1.5, 4.0
"""Scatter of an element over that of the ends, from which it is no air, and standard errors of its
mean, or what the means of the ends usually are, from which it is none either."""


@dataclass(frozen=True)
class Drift:
    """A drift of the open beam.

    Attributes:
        curve: line integral that it adds to each view, (views,).
        columns: elements at either end that see air in every view.
    """

    curve: np.ndarray
    columns: int

    @property
    def sentence(self) -> str:
        """The drift and its remedy in words."""
        first, last = sorted((int(self.curve.argmin()), int(self.curve.argmax())))
        part = abs(float(np.expm1(self.curve[first] - self.curve[last])))
        return (
            f"WARNING: the open beam drifts by {part:.0%} over the scan, as the air at both ends "
            f"of the detector shows; give --scan.air_columns {self.columns}."
        )


def open_beam_drift(scan: Scan) -> Drift | None:
    """The drift that both ends of the detector show together, if they see air in every view.

    Object that reaches beyond the detector is none: it does not add as much to all rays, nor the
    same to the elements at an end.
    """
    values = used_values(scan)
    part = max(1, values.shape[1] // END_PART)
    ends = np.r_[0:part, values.shape[1] - part : values.shape[1]]
    if len(values) <= 4 * DEGREE or np.isnan(values[:, ends]).any():
        return None
    left, right = values[:, ends[:part]].mean(1), values[:, ends[part:]].mean(1)
    both = (left + right) / 2
    curve = _smooth(both)
    size, error = np.ptp(curve), CLEAR * max(np.ptp(_smooth(left - right)), (both - curve).std())
    if size < max(LEAST, error):
        return None
    slope = np.polyfit(curve, np.nanmean(values, axis=1), 1)[0]
    if not SLOPE[0] < slope < SLOPE[1]:
        return None
    rest = np.nan_to_num(values - curve[:, None])
    mean, scatter = rest.mean(0), rest.std(0)  # an element may have an offset of its own: a ring
    noise = np.sqrt(np.square(scatter[ends]).mean())
    sure = SURE * max(noise / len(values) ** 0.5, np.sqrt(np.square(mean[ends]).mean()))
    air = (scatter < NOISIER * noise) & (np.abs(mean) < sure)
    columns = min(int(np.argmin(air)), int(np.argmin(air[::-1])))
    return Drift(curve, columns) if columns >= part else None


def _smooth(values: np.ndarray) -> np.ndarray:
    place = np.linspace(-1.0, 1.0, len(values))
    return np.polyval(np.polyfit(place, values, DEGREE), place)
