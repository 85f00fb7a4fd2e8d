"""Views that share an angle and should be equal but for noise."""

import numpy as np
import torch

from pdip.scan.scan import Scan

SAME_DEG = 0.01
"""Degrees within which two angles are one, modulo 360 for any beam."""
DIFFERENCE = 0.1
"""Part of a view by which another of the same angle has to differ, noise apart."""
SURE = 4.0
"""Standard errors by which that part has to stand out of white noise."""


def check_repeated_views(scan: Scan) -> tuple[str, ...]:
    """What to say where views of one angle contradict each other; else nothing.

    Noise that is independent from ray to ray makes the squared difference d of two views of one
    angle as large as half of that between neighbouring rays, ``mean d² = mean (Δd)² / 2``; two
    views of different angles differ smoothly, and leave ``mean d² - mean (Δd)² / 2`` over.
    """
    pairs = _pairs(scan)
    parts = [_difference(scan, one, other) for one, other in pairs]
    apart = [part for part in parts if part > DIFFERENCE]
    if not apart:
        return ()
    have = "view has" if len(parts) == 1 else "views have"
    differ = "differs" if len(apart) == 1 else "differ"
    return (
        f"WARNING: {len(parts)} {have} the angle of another view, but {len(apart)} {differ} from "
        f"it by {np.median(apart):.0%} of its values, more than noise does; check the angles.",
    )


def _pairs(scan: Scan) -> list[tuple[int, int]]:
    """Each view that repeats an angle, after the view before it of that angle."""
    angles = np.mod(scan.geometry.angles_deg, 360.0)
    angles = np.where(angles > 360.0 - SAME_DEG / 2, angles - 360.0, angles)
    order = np.argsort(angles, kind="stable")
    same = np.diff(angles[order]) < SAME_DEG
    return [(int(order[at]), int(order[at + 1])) for at in np.flatnonzero(same)]


def _difference(scan: Scan, one: int, other: int) -> float:
    """By what part of a view two of them differ, beyond what is noise; 0 where that is unsure."""
    seen = torch.ones_like(scan.sinogram[0], dtype=torch.bool)
    if scan.weights is not None:
        seen = (scan.weights[one] > 0) & (scan.weights[other] > 0)
    first, second = scan.sinogram[one][seen].double(), scan.sinogram[other][seen].double()
    if len(first) < 2:
        return 0.0
    apart = first - second
    square = float(apart.square().mean())
    smooth = square - float(apart.diff().square().mean()) / 2
    if smooth <= SURE * square / len(first) ** 0.5:
        return 0.0
    return (2 * smooth / float((first.square() + second.square()).mean())) ** 0.5
