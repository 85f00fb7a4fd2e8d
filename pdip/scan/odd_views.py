"""Views that do not belong to the others: the beam was off, or nothing stood in it."""

import numpy as np

from pdip.scan.geometry import ParallelBeam
from pdip.scan.scan import Scan

NEIGHBOURS = 3
"""Views on either side that a view is compared with."""
APART, HALVED = 0.15, 0.5
"""Part of the usual mean line integral by which a view has to differ from its neighbours, or, if
less, line integral (half of the intensity is 0.69), and"""
RARE = 6.0
"""how many times what is usual between neighbours; right scans have no more than one of the two."""
MOST = 0.1
"""Where more than this part of the views differ so, it is not single views that are spoilt."""


def odd_views(scan: Scan) -> list[int]:
    """Numbers of the views whose mean differs from that of their neighbours as no object's does.

    An object keeps its sum as it turns in a parallel beam and nearly so in a fan. What counts is
    the third smallest difference to the six nearest views, so that neither a view beside spoilt
    ones is named, nor the spoilt ones hide each other.
    """
    values = scan.sinogram.double().numpy()
    used = np.ones(values.shape, bool) if scan.weights is None else scan.weights.numpy() > 0
    period = 180.0 if isinstance(scan.geometry, ParallelBeam) else 360.0
    order = np.argsort(np.mod(scan.geometry.angles_deg, period), kind="stable")
    values, used = values[order], used[order]
    if len(values) <= 2 * NEIGHBOURS:
        return []
    apart = []
    for step in (*range(-NEIGHBOURS, 0), *range(1, NEIGHBOURS + 1)):
        both = used & np.roll(used, step, 0)
        difference = np.where(both, values - np.roll(values, step, 0), 0.0).sum(1)
        apart.append(np.abs(difference) / np.maximum(both.sum(1), 1))
    apart = np.sort(apart, axis=0)[NEIGHBOURS - 1]
    level = np.median(np.where(used, values, 0.0).sum(1) / np.maximum(used.sum(1), 1))
    odd = np.flatnonzero(apart > max(min(APART * level, HALVED), RARE * np.median(apart)))
    return sorted(order[odd].tolist()) if len(odd) <= max(1, MOST * len(values)) else []


def odd_sentence(scan: Scan, odd: list[int]) -> str:
    """What to say of them."""
    means = scan.sinogram.double().mean(1).numpy()
    names = ", ".join(f"{view} (at {scan.geometry.angles_deg[view]:.6g} degrees)" for view in odd)
    level = np.median(np.delete(means, odd))
    subject, its = ("view", "its mean line integral is") if len(odd) == 1 else (
        "views", "their mean line integrals are"
    )  # fmt: skip
    verb, them = ("does", "it") if len(odd) == 1 else ("do", "them")
    return (
        f"WARNING: {subject} {names}, counted from 0 as they are read, {verb} not fit the others: "
        f"{its} {', '.join(f'{means[view]:.3g}' for view in odd)}, where {level:.3g} is usual; "
        f"leave {them} out of the file, or give {them} weight 0 with the key 'weights'."
    )
