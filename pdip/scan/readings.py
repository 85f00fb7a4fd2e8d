"""Whether another reading of the same numbers explains them better: what a wrong key looks like.

Each reading of detector and angles is judged by what no image explains of a small copy of the scan
(:mod:`pdip.scan.view_fit`), exchanged axes by the sums of the views, which an object keeps as it
turns (the condition of order 0 of Helgason and Ludwig). Nothing is changed: what is found is said.
A parallel beam sees a mirrored object where the rotation runs the other way or the detector is
flipped about the axis, which no data can tell; a fan, or an axis off the middle, can.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from pdip.scan.geometry import FanBeam, ParallelBeam
from pdip.scan.scan import Scan
from pdip.scan.view_fit import at_cor, thinned, unexplained

SIZE = (60, 64, 48)
"""Views, detector elements and pixels a side of the small copy."""
LEAST_VIEWS = 16
"""Fewer views leave an image so free that it may explain them better in a wrong place."""
BETTER = 1.5
"""Ratio of what is left over as the scan is read and as it might be, from which that is named."""
HARDER = 3.0
"""The same where views move closer together, and so are more alike, and for an axis elsewhere."""
SURE = 1.5
"""Standard errors over views by which the two must differ, too."""
PLAINER = 2.0
"""An axis that is elsewhere is named only where it explains so much more than any other mistake."""
UNEVEN = 3.0
"""Relative scatter of the views' sums over that of the detector elements', with exchanged axes."""
BRIGHTER = 1.1
"""Mean at the ends of the detector over that of the view, from which the ends are brighter."""
END_PART = 32
"""The ends of the detector are this part of it, either one."""
AXIS_STEPS = (2, 5, 8)
"""Elements of the small copy by which the axis is moved to see whether it is elsewhere."""
AXIS_ARC_DEG = 150.0
"""Parallel views over less know the axis hardly better than where the object is."""
SAME_AXIS = 0.1
"""Elements of the small copy off the middle, up to which a mirrored axis is the same one."""
FAR_ARC_DEG = (20.0, 800.0)
"""Spans of angles in the other unit that are tried."""


@dataclass(frozen=True)
class Reading:
    """One way to read a scan, and what no image explains of it then.

    Attributes:
        name: what is otherwise, in words; empty for the scan as it is.
        remedy: what to change if it is right.
        error: root of the squared residual over the squared data.
        ratio: squared residual of the scan as it is over this one's.
        sure: the difference between the two in standard errors over views.
        needed: ratio from which it is named.
        plain: whether it is one mistake with one remedy, and not an axis of unknown place.
    """

    name: str
    remedy: str
    error: float
    ratio: float = 1.0
    sure: float = 0.0
    needed: float = BETTER
    plain: bool = True

    @property
    def is_better(self) -> bool:
        """Whether it explains the scan clearly better than the reading as it is."""
        return self.ratio > self.needed and self.sure > SURE


def check_reading(scan: Scan) -> tuple[str, ...]:
    """What to say where another reading of the scan explains it clearly better; else nothing.

    Args:
        scan: any.

    Returns:
        one sentence, or none: the scan is read as it should be, or it has fewer than 16 views, or
        noise hides the difference.
    """
    if _is_brightest_at_the_ends(scan):
        return (
            "WARNING: every view reads most at the ends of the detector, as counts and "
            "transmissions of an object in air do and line integrals do not; if they are such, say "
            "--data-kind counts with --scan.flat, or --data-kind transmission.",
        )
    if _has_exchanged_axes(scan):
        return (
            "WARNING: the sums of the views differ more than those of the detector elements, but "
            "an object keeps its sum as it turns; if the axes are (detectors, views), transpose "
            "the sinogram.",
        )
    tried = readings(scan)
    better = [found for found in tried if found.is_better]
    if not better:
        return ()
    best = max(better, key=lambda found: found.ratio * (PLAINER if found.plain else 1.0))
    return (
        f"WARNING: the views contradict each other as they are read: no image explains "
        f"{tried[0].error:.1%} of them, but one all but {best.error:.1%} if {best.name}; "
        f"{best.remedy}.",
    )


def readings(scan: Scan) -> list[Reading]:
    """The scan as it is and every other way to read it; none for fewer than 16 views."""
    if scan.geometry.num_views < LEAST_VIEWS:
        return []
    small = thinned(scan, *SIZE[:2])
    reach = max(AXIS_STEPS) + abs((small.geometry.num_detectors - 1) / 2 - small.geometry.cor)
    middle = (small.geometry.num_detectors - 1) / 2
    grid = at_cor(small.geometry, max(middle - reach, 0.0)).covering_grid(SIZE[2])
    given = unexplained(small, small.geometry, grid)[0]
    found = [Reading("", "", float(given.sum().sqrt()))]
    for name, remedy, beam, sinogram, needed, plain in _others(scan, small):
        weights = small.weights if sinogram is small.sinogram else small.weights.flip(1)
        left = unexplained(Scan(sinogram, beam, grid, weights), beam, grid)[0]
        apart = given - left
        sure = apart.mean() / (apart.std() / len(apart) ** 0.5).clamp(min=1e-30)
        ratio = float(given.sum() / left.sum().clamp(min=1e-30))
        found.append(
            Reading(name, remedy, float(left.sum().sqrt()), ratio, float(sure), needed, plain)
        )
    return found


Other = tuple[str, str, ParallelBeam | FanBeam, torch.Tensor, float, bool]
"""Name, remedy, geometry, sinogram, ratio needed, and whether it is one plain mistake."""


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
                    _turned(beam, other / arc), sinogram, BETTER if other > arc else HARDER, True,
                )  # fmt: skip
    for factor, unit, key in (
        (180 / np.pi, "radians", "angles"),
        (np.pi / 180, "degrees", "angles_deg"),
    ):
        if FAR_ARC_DEG[0] < np.ptp(angles) * factor < FAR_ARC_DEG[1]:
            needed = BETTER if factor > 1 else HARDER
            remedy = f"give them with the key '{key}'"
            name = f"the angles are in {unit}"
            yield name, remedy, _turned(beam, factor), sinogram, needed, True
    if isinstance(beam, FanBeam) or np.ptp(angles) > AXIS_ARC_DEG:
        yield from _axes(scan, small)


def _senses(beam: FanBeam, sinogram: torch.Tensor) -> Iterator[Other]:
    """The rotation the other way and the detector flipped, which are one where it is centred."""
    if abs(beam.cor - (beam.num_detectors - 1) / 2) < SAME_AXIS:
        name = "the rotation runs the other way or the detector is flipped"
        remedy = "negate the angles, or reverse the detector axis, which mirrors the image"
        yield name, remedy, _turned(beam, -1.0), sinogram, BETTER, True
        return
    name, remedy = "the rotation runs the other way", "negate the angles"
    yield name, remedy, _turned(beam, -1.0), sinogram, BETTER, True
    name, remedy = "the detector is flipped", "reverse the detector axis"
    yield name, remedy, beam, sinogram.flip(1), BETTER, True


def _axes(scan: Scan, small: Scan) -> Iterator[Other]:
    """The axis counted from the other end, and elsewhere."""
    beam, middle = small.geometry, (small.geometry.num_detectors - 1) / 2
    if abs(beam.cor - middle) > 0.5:
        mirrored = scan.geometry.num_detectors - 1 - scan.geometry.cor
        yield (
            "the detector is flipped, or the axis is counted from its other end",
            f"reverse the detector axis, or give cor {mirrored:.6g}",
            at_cor(beam, 2 * middle - beam.cor), small.sinogram, BETTER, True,
        )  # fmt: skip
    places = [beam.cor + step for step in (*AXIS_STEPS, *(-step for step in AXIS_STEPS))]
    by_mass = _axis_by_mass(small)
    if abs(by_mass - beam.cor) > max(AXIS_STEPS):
        places.append(by_mass)
    for place in places:
        if 0 < place < 2 * middle:
            yield (
                "the rotation axis is elsewhere",
                "estimate it with --cor auto, or give the key 'cor'",
                at_cor(beam, place), small.sinogram, HARDER, False,
            )  # fmt: skip


def _axis_by_mass(small: Scan) -> float:
    """The detector index about which the centre of mass of the views swings as the object turns.

    ``c(t) = cor + x cos t + y sin t``, exact for a whole object in a parallel beam (Helgason and
    Ludwig's condition of order 1) and near it in a fan.
    """
    mass = small.sinogram.double().clamp(min=0).numpy()
    centre = mass @ np.arange(mass.shape[1]) / np.maximum(mass.sum(1), 1e-30)
    angles = np.array(small.geometry.angles_rad)
    swing = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    return float(np.linalg.lstsq(swing, centre, rcond=None)[0][0])


def _turned(beam, factor: float):
    return replace(beam, angles_deg=tuple(factor * angle for angle in beam.angles_deg))


def _is_brightest_at_the_ends(scan: Scan) -> bool:
    """Whether the air beside the object reads more than the object, and nothing reads 0."""
    sinogram, weights = scan.sinogram.double(), scan.weights
    if weights is not None:
        sinogram = torch.where(weights > 0, sinogram, torch.nan)
    part = max(1, sinogram.shape[1] // END_PART)
    ends = torch.cat([sinogram[:, :part], sinogram[:, -part:]], dim=1).nanmean(1)
    least = sinogram.nan_to_num(nan=torch.inf).min()
    return bool(least > 0 and (ends > BRIGHTER * sinogram.nanmean(1)).all())


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
