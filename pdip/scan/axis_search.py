"""Where the rotation axis projects onto the detector, found from the scan itself.

The axis is where one image best explains all views (:mod:`pdip.scan.view_fit`): for parallel and
for fan beams, for half turns, full turns and few views alike. Of a fan only the shift of the
detector is searched; a source that stands off the line through axis and detector is not told from
it.
"""

import math

import numpy as np

from pdip.errors import InputError
from pdip.scan.binning import file_index
from pdip.scan.checks import plural
from pdip.scan.rotation_axis import RotationAxis
from pdip.scan.scan import Scan
from pdip.scan.view_fit import LEAST_VIEWS, at_cor, thinned, unexplained

RANGE = 0.15
"""Part of the detector on either side of its middle that is searched."""
COARSE, FINE = (32, 64, 48), (60, 128, 96)
"""Views, detector elements and pixels a side, for the search and for the result."""
FINE_STEPS = (1.0, 0.5)
GROUPS = 10
"""Groups of views whose scatter gives the standard error."""
COPY_ERROR = 0.03
"""Elements of the small copy by which its pixels alone move the result, as simulated scans show."""


def estimate_rotation_axis(scan: Scan) -> RotationAxis:
    """Find ``cor`` by how well one image explains all views.

    Args:
        scan: any; its own ``cor`` is not looked at.

    Returns:
        the estimate, with its standard error, in elements of the file that the scan was read
        from, as ``cor`` of :func:`~pdip.scan.read_scan` counts them.

    Raises:
        InputError: too few views, or the best place is at the edge of what is searched.

    Example:
        >>> import torch
        >>> from pdip.ray import ray_transform
        >>> from pdip.scan import ParallelBeam, shepp_logan, simulate
        >>> beam = ParallelBeam([6.0 * view for view in range(30)], 64, 1.0, 2.0)
        >>> ray = ray_transform(beam, beam.inscribed_grid())
        >>> scan = simulate(shepp_logan(ray.grid), ray, noise_fraction=0.02,
        ...                 generator=torch.Generator().manual_seed(0))
        >>> found = estimate_rotation_axis(scan)
        >>> abs(found.cor - beam.cor) < 0.3
        True
    """
    count = scan.geometry.num_views
    if count < LEAST_VIEWS:
        raise InputError(
            f"the rotation axis cannot be estimated from {plural(count, 'view')}, expected at "
            f"least {LEAST_VIEWS}; give cor."
        )
    coarse, fine = Copy.of(scan, COARSE), Copy.of(scan, FINE)
    reach = round(RANGE * coarse.scan.geometry.num_detectors)
    tried = coarse.middle + np.arange(-reach, reach + 1)
    errors = coarse.errors(tried).sum(1)
    if errors.argmin() in (0, len(errors) - 1):
        raise InputError(
            f"the rotation axis was not found within {RANGE:.0%} of the detector's width from its "
            "middle; check geometry and angles, or give cor."
        )
    index, error = refined(fine, fine.index(coarse.original(tried[errors.argmin()])))
    centred, binning = (scan.geometry.num_detectors - 1) / 2, scan.binning
    return RotationAxis(
        cor=file_index(fine.original(index), binning),
        standard_error=binning * fine.bins * error,
        tried=tuple(file_index(coarse.original(place), binning) for place in tried),
        errors=tuple(np.sqrt(errors).tolist()),
        centred=file_index(centred, binning),
        before=fine.fit(fine.index(centred))[1],
        after=fine.fit(index)[1],
        pixel_mm=fine.grid.pixel_mm,
        binning=binning,
    )


def refined(copy: "Copy", index: float) -> tuple[float, float]:
    """Where the axis is, near an index of a copy, and its standard error in the copy's elements."""
    for step in FINE_STEPS:
        places = index + step * np.arange(-2, 3)
        by_view = copy.errors(places)
        index = vertex(places, by_view.sum(1))
    return index, standard_error(places, by_view)


class Copy:
    """A small copy of a scan and the pixels of its image, which are those of a centred detector.

    One grid serves all places: with finer pixels a place would do better for no reason of its own,
    and with more pixels than rays any place does well.
    """

    def __init__(self, small: Scan, bins: float, pixels: int, farthest: float | None) -> None:
        beam = small.geometry
        self.scan, self.bins, self.middle = small, bins, (beam.num_detectors - 1) / 2
        place = self.middle if farthest is None else self.index(farthest)
        self.grid = at_cor(beam, place).covering_grid(pixels)

    @classmethod
    def of(cls, scan: Scan, size: tuple[int, int, int], farthest: float | None = None) -> "Copy":
        """Of so many views, elements and pixels; its pixels reach as an axis at ``farthest`` asks.

        There are no more pixels than rays.
        """
        small = thinned(scan, *size[:2])
        bins = small.geometry.detector_pitch_mm / scan.geometry.detector_pitch_mm
        rays = small.sinogram.numel()
        return cls(small, bins, min(size[2], math.isqrt(rays)), farthest)

    def original(self, index: float) -> float:
        """The detector index of the scan at an index of the copy; both begin at one edge."""
        return float((index + 0.5) * self.bins - 0.5)

    def index(self, original: float) -> float:
        """The inverse of :meth:`original`."""
        return float((original + 0.5) / self.bins - 0.5)

    def fit(self, cor: float):
        return unexplained(self.scan, at_cor(self.scan.geometry, float(cor)), self.grid)

    def errors(self, places: np.ndarray) -> np.ndarray:
        """What is left over, (places, views)."""
        return np.array([self.fit(place)[0].numpy() for place in places])


def standard_error(places: np.ndarray, by_view: np.ndarray) -> float:
    """Of the vertex, from groups of views left out (Efron and Stein 1981) and the copy's pixels."""
    group = np.arange(by_view.shape[1]) % min(GROUPS, by_view.shape[1])
    kept = [group != one for one in np.unique(group)]
    without = np.array([vertex(places, by_view[:, views].sum(1)) for views in kept])
    count = len(without)
    jackknife = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    return math.hypot(jackknife, COPY_ERROR)


def vertex(places: np.ndarray, errors: np.ndarray) -> float:
    """Where the parabola through equally spaced values is lowest, within their range."""
    curvature, slope, _ = np.polyfit(places - places.mean(), errors, 2)
    if not curvature > 0:
        return float(places[errors.argmin()])
    return float(np.clip(places.mean() - slope / 2 / curvature, places[0], places[-1]))
