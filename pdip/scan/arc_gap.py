"""Directions from which no view was taken."""

from collections.abc import Sequence
from itertools import compress

import numpy as np

from pdip.scan.scan import Scan
from pdip.typing import Sinogram

LEAST_DEG, MOST_DEG = 30.0, 120.0
"""A gap is never named below the one, and always above the other; between them where it is"""
UNEVEN = 1.5
"""times that between as many directions, evenly spread."""
SAME_DEG = 0.5
"""Views less than that apart, modulo half a turn, have one direction."""
PATTERN = 3
"""So many gaps of about one width are how few views lie, and no part that was left out."""
FULL_TURN = 2 * np.pi
"""Angles that span less might be radians."""


def missing_arc(
    angles_deg: Sequence[float], weights: Sinogram | None = None
) -> tuple[float, float] | None:
    """The part of the half turn that determines an image which views leave out.

    Args:
        angles_deg: of the views, one at least.
        weights: of the rays, (views, detectors); a view whose rays all have weight 0 is none.

    Returns:
        where it begins, modulo 180, and how wide it is, in degrees; None where no part is left out.

    Example:
        >>> missing_arc(range(0, 61, 2))
        (60.0, 120.0)
        >>> missing_arc(range(0, 180, 2)) is None
        True
    """
    if weights is not None:
        angles_deg = list(compress(angles_deg, (weights > 0).any(1).tolist()))
    places = np.sort(np.mod(np.array(angles_deg, dtype=float), 180.0))
    gaps = np.diff(places, append=places[0] + 180.0)
    widest = int(gaps.argmax())
    gap, start = float(gaps[widest]), float(places[widest])
    directions = max(1, int((gaps > SAME_DEG).sum()))
    if gap < max(LEAST_DEG, min(UNEVEN * 180.0 / directions, MOST_DEG)):
        return None
    return None if (gaps > gap / UNEVEN).sum() >= PATTERN else (start, gap)


def check_arc(scan: Scan) -> tuple[str, ...]:
    """What to say where the views leave out a part of the half turn that determines an image."""
    angles = scan.geometry.angles_deg
    if (found := missing_arc(angles, scan.weights)) is None:
        return ()
    start, gap = found
    radians = "; if they are in radians, give them with the key 'angles'"
    return (
        f"WARNING: no view was taken from {gap:.3g} of 180 degrees (between {start:.4g} and "
        f"{start + gap:.4g}, modulo 180): edges along the rays that are missing are a guess of the "
        "network, whose error bars can be several times too small there"
        f"{radians if np.ptp(angles) < FULL_TURN else ''}.",
    )
