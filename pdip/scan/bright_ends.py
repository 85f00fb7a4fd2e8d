"""Whether values look like counts or transmissions where line integrals are expected."""

import numpy as np

BRIGHTER = 1.1
"""Mean at the ends of the detector over that of the view, from which the ends are brighter."""
NEAR_ONE = 0.05
"""How far from 1 the ends of every view may be to be air, however little the object absorbs."""
END_PART = 32
"""The ends of the detector are this part of it, either one."""


def is_brightest_at_the_ends(values: np.ndarray) -> bool:
    """Whether the air beside the object reads more than the object, and nothing reads 0.

    Args:
        values: (views, detectors), NaN where nothing was measured.
    """
    part = max(1, values.shape[1] // END_PART)
    ends = np.concatenate([values[:, :part], values[:, -part:]], axis=1)
    ends, mean = (np.ma.masked_invalid(some).mean(1).filled(np.nan) for some in (ends, values))
    open_beam = bool((np.abs(ends - 1) < NEAR_ONE).all())
    brighter = (ends > (1.0 if open_beam else BRIGHTER) * mean).all()
    return bool(np.nan_to_num(values, nan=np.inf).min() > 0 and brighter)
