"""Whether another reading of the same numbers explains them better: what a wrong key looks like.

Each reading of detector and angles is judged by what no image explains of a small copy of the scan
(:mod:`pdip.scan.view_fit`): first the rotation axis is found (:mod:`pdip.scan.axis_check`), and
another mistake is named only where it explains clearly more than the best axis does. Exchanged axes
are judged by the sums of the views, which an object keeps as it turns (the condition of order 0 of
Helgason and Ludwig). Nothing is changed here: what is found is said.
A parallel beam sees a mirrored object where the rotation runs the other way or the detector is
flipped about the axis, which no data can tell; a fan, or an axis off the middle, can.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from pdip.scan.arc_gap import check_arc
from pdip.scan.axis_check import STEPS, NearAxis, near_axis, other_axis
from pdip.scan.bright_ends import is_brightest_at_the_ends
from pdip.scan.geometry import FanBeam, ParallelBeam
from pdip.scan.grid import ImageGrid
from pdip.scan.odd_elements import odd_elements, odd_elements_sentence
from pdip.scan.odd_views import odd_sentence, odd_views
from pdip.scan.open_beam import open_beam_drift
from pdip.scan.repeated_views import check_repeated_views
from pdip.scan.scan import Scan, used_values
from pdip.scan.view_fit import at_cor, thinned, unexplained

SIZE = (60, 64, 48)
"""Views, detector elements and pixels a side of the small copy."""
LEAST_VIEWS = 16
"""Fewer views leave an image so free that it may explain them better in a wrong place."""
BETTER = 1.5
"""Ratio of what is left over as the scan is read and as it might be, from which that is named."""
HARDER = 3.0
"""The same where views move closer together, and so are more alike, or to a wider arc, as which
views of a narrow one can often be read."""
SURE = 1.5
"""Standard errors over views by which the two must differ, too."""
UNEVEN = 3.0
"""Relative scatter of the views' sums over that of the detector elements', with exchanged axes."""
SAME_AXIS = 0.1
"""Elements of the small copy off the middle, up to which a mirrored axis is the same one."""
EXCHANGED = (
    "WARNING: the sums of the views differ more than those of the detector elements, but an object "
    "keeps its sum as it turns; if the axes are (detectors, views), transpose the sinogram."
)
FAR_ARC_DEG = (20.0, 800.0)
"""Spans of angles in the other unit that are tried."""


@dataclass(frozen=True)
class Reading:
    """One way to read a scan, and what no image explains of it then.

    Attributes:
        name: what is otherwise, in words; empty for the scan as it is.
        remedy: what to change if it is right.
        error: root of the squared residual over the squared data.
        ratio: squared residual of the scan with the best axis over this one's.
        sure: the difference between the two in standard errors over views.
        needed: ratio from which it is named.
    """

    name: str
    remedy: str
    error: float
    ratio: float = 1.0
    sure: float = 0.0
    needed: float = BETTER

    @property
    def is_better(self) -> bool:
        """Whether it explains the scan clearly better than the best axis does."""
        return self.ratio > self.needed and self.sure > SURE


def check_reading(scan: Scan) -> tuple[str, ...]:
    """What to say where another reading of the scan explains it clearly better; else nothing.

    Args:
        scan: any.

    Returns:
        a sentence on views and one on detector elements that do not fit the others, one on a drift
        of the open beam, and one on how they are read, checked without all that; or else one on the
        directions that were left out. Nothing of how it is read: that is as it should be, or there
        are fewer than 16 views, or noise hides the difference.
    """
    count = scan.geometry.num_views
    if count == 1:
        return (
            "WARNING: 1 view: it does not tell what lies along its rays, so that the image is a "
            "guess of the prior; give more views (a smaller --view-step).",
        )
    return _check_views(scan) or check_arc(scan)


def _check_views(scan: Scan) -> tuple[str, ...]:
    """What to say of single views, and of the scan without them."""
    odd = odd_views(scan)
    if not odd:
        return _check_elements(scan)
    kept = scan.select([view for view in range(scan.geometry.num_views) if view not in odd])
    if _has_exchanged_axes(kept):  # the odd ones are elements at the edge of the object
        return (EXCHANGED,)
    return odd_sentence(scan, odd), *_check_elements(kept)


def _check_elements(scan: Scan) -> tuple[str, ...]:
    """What to say of single detector elements, and of the scan without them."""
    odd = [] if _has_exchanged_axes(scan) else odd_elements(scan)
    if not odd:
        return _check_drift(scan)
    weights = torch.ones_like(scan.sinogram) if scan.weights is None else scan.weights.clone()
    weights[:, odd] = 0
    return odd_elements_sentence(odd), *_check_drift(replace(scan, weights=weights))


def _check_drift(scan: Scan) -> tuple[str, ...]:
    """What to say of a drift, and of the scan without it."""
    drift = None if _has_exchanged_axes(scan) else open_beam_drift(scan)
    if drift is None:
        return _check_others(scan)
    curve = torch.from_numpy(drift.curve).to(scan.sinogram)
    return drift.sentence, *_check_others(replace(scan, sinogram=scan.sinogram - curve[:, None]))


def _check_others(scan: Scan) -> tuple[str, ...]:
    """What to say of a scan whose views belong together."""
    if is_brightest_at_the_ends(used_values(scan)):
        return (
            "WARNING: every view reads most at the ends of the detector, as counts and "
            "transmissions of an object in air do and line integrals do not; if they are such, say "
            "--data-kind counts with --scan.flat, or --data-kind transmission.",
        )
    if _has_exchanged_axes(scan):
        return (EXCHANGED,)
    if scan.geometry.num_views < LEAST_VIEWS:
        return ()
    repeated = check_repeated_views(scan)
    if repeated:
        return repeated
    small, grid = _small_copy(scan)
    near = near_axis(small, grid)
    given, *others = readings(scan, small, grid, near)
    better = [found for found in others if found.is_better]
    if better:
        best = max(better, key=lambda found: found.ratio)
        return (_sentence(best.name, best.remedy, given.error, best.error),)
    axis = None if near is None else other_axis(scan, small, near)
    return () if axis is None else (_sentence(axis.name, axis.remedy, axis.before, axis.after),)


def _sentence(name: str, remedy: str, before: float, after: float) -> str:
    return (
        f"WARNING: the views contradict each other as they are read: no image explains "
        f"{before:.1%} of them, but one all but {after:.1%} if {name}; {remedy}."
    )


def _small_copy(scan: Scan) -> tuple[Scan, ImageGrid]:
    """The copy that all readings are tried on, and one grid for all places of its axis."""
    small = thinned(scan, *SIZE[:2])
    middle = (small.geometry.num_detectors - 1) / 2
    reach = max(STEPS) + abs(middle - small.geometry.cor)
    return small, at_cor(small.geometry, max(middle - reach, 0.0)).covering_grid(SIZE[2])


def readings(scan: Scan, small: Scan, grid: ImageGrid, near: NearAxis | None) -> list[Reading]:
    """A small copy as it is and every other way to read it, the place of its axis apart.

    Args:
        scan: all of it.
        small: its copy.
        grid: of the copy's image.
        near: where its axis is, if that can be told.
    """
    given = unexplained(small, small.geometry, grid)[0]
    best = given
    if near is not None and near.left.sum() < float(given.sum()):
        best = torch.from_numpy(near.left)
    found = [Reading("", "", float(given.sum().sqrt()))]
    for name, remedy, beam, sinogram, needed in _others(scan, small):
        weights = small.weights if sinogram is small.sinogram else small.weights.flip(1)
        left = unexplained(Scan(sinogram, beam, grid, weights), beam, grid)[0]
        apart = best - left
        sure = apart.mean() / (apart.std() / len(apart) ** 0.5).clamp(min=1e-30)
        ratio = float(best.sum() / left.sum().clamp(min=1e-30))
        found.append(Reading(name, remedy, float(left.sum().sqrt()), ratio, float(sure), needed))
    return found


Other = tuple[str, str, ParallelBeam | FanBeam, torch.Tensor, float]
"""Name, remedy, geometry, sinogram and the ratio needed."""


def _others(scan: Scan, small: Scan) -> Iterator[Other]:
    """Every other reading of the small copy."""
    beam, sinogram = small.geometry, small.sinogram
    if isinstance(beam, FanBeam):
        yield from _senses(beam, sinogram)
    angles = np.array(scan.geometry.angles_deg)
    steps = np.diff(angles)
    if np.ptp(steps) < 0.1 * abs(steps.mean()):
        arc = float(abs(steps.mean()) * len(angles))
        for other in (180.0, 360.0):
            if not 0.8 < arc / other < 1.25:
                yield (
                    f"the views span {other:g} degrees, not {arc:.0f}",
                    f"give their angles (step_deg: {steps.mean() * other / arc:.4g})",
                    _turned(beam, other / arc), sinogram, HARDER,
                )  # fmt: skip
    for factor, unit, key in (
        (180 / np.pi, "radians", "angles"),
        (np.pi / 180, "degrees", "angles_deg"),
    ):
        if FAR_ARC_DEG[0] < np.ptp(angles) * factor < FAR_ARC_DEG[1]:
            needed = BETTER if factor > 1 else HARDER
            remedy = f"give them with the key '{key}'"
            name = f"the angles are in {unit}"
            yield name, remedy, _turned(beam, factor), sinogram, needed


def _senses(beam: FanBeam, sinogram: torch.Tensor) -> Iterator[Other]:
    """The rotation the other way and the detector flipped, which are one where it is centred."""
    if abs(beam.cor - (beam.num_detectors - 1) / 2) < SAME_AXIS:
        name = "the rotation runs the other way or the detector is flipped"
        remedy = "negate the angles, or reverse the detector axis, which mirrors the image"
        yield name, remedy, _turned(beam, -1.0), sinogram, BETTER
        return
    name, remedy = "the rotation runs the other way", "negate the angles"
    yield name, remedy, _turned(beam, -1.0), sinogram, BETTER
    name, remedy = "the detector is flipped", "reverse the detector axis"
    yield name, remedy, beam, sinogram.flip(1), BETTER


def _turned(beam, factor: float):
    return replace(beam, angles_deg=tuple(factor * angle for angle in beam.angles_deg))


def _has_exchanged_axes(scan: Scan) -> bool:
    """Whether views differ in their sums as only detector elements should."""
    if min(scan.geometry.shape) <= 2:
        return False
    sinogram = scan.sinogram.double()
    views, elements = (
        float(sums.std() / sums.mean().clamp(min=1e-30))
        for sums in (sinogram.sum(1), sinogram.sum(0))
    )
    return views > UNEVEN * elements
