"""Rings and beam hardening, by algotom; an optional package, loaded only where it is asked for."""

from collections.abc import Sequence

import numpy as np

from pdip.errors import InputError

NEEDS = "{} needs the package algotom; install it with pip install algotom."
STEP = 1e-4
"""Of the difference quotient of the response curve."""


def remove_rings(sinogram: np.ndarray, width: int) -> np.ndarray:
    """A sinogram without the stripes that make rings.

    Every column is sorted, sorted rows are median filtered over the detector, and the order is
    restored (Vo, Atwood and Drakopoulos 2018, Optics Express 26, 28396, algorithm 3).

    Args:
        sinogram: (views, detectors).
        width: of the median, in detector elements, wider than the stripes.

    Raises:
        InputError: algotom is not installed.
    """
    try:
        from algotom.prep.removal import remove_stripe_based_sorting
    except ModuleNotFoundError:
        raise InputError(NEEDS.format("rings")) from None
    return np.asarray(remove_stripe_based_sorting(sinogram, size=width), dtype=np.float64)


def harden(sinogram: np.ndarray, constants: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Line integrals as those of a single energy, and the derivative by the measured ones.

    algotom's response curve maps the transmission between 0 and 1; brighter than the open beam, as
    noise is, it goes on straight, so that air stays air on average.

    Args:
        sinogram: line integrals, any shape.
        constants: q and n of ``algotom.prep.correction.non_linear_function``, q positive and n at
            least 2.

    Returns:
        both of the shape of the sinogram.

    Raises:
        InputError: algotom is not installed, or the constants are no such numbers.
    """
    if len(constants) != 2 or not constants[0] > 0 or not constants[1] >= 2:
        raise InputError(
            f"beam_hardening must be two numbers, q > 0 and n >= 2, got {list(constants)}."
        )
    try:
        from algotom.prep.correction import non_linear_function as curve
    except ModuleNotFoundError:
        raise InputError(NEEDS.format("beam_hardening")) from None
    q, n = constants

    def corrected(y: np.ndarray) -> np.ndarray:
        transmission = np.exp(-y)
        slope = (1 - curve(1 - STEP, q, n)) / STEP
        dim = curve(np.minimum(transmission, 1.0), q, n)
        return -np.log(np.where(transmission <= 1, dim, 1 + slope * (transmission - 1)))

    return corrected(sinogram), (corrected(sinogram + STEP) - corrected(sinogram - STEP)) / 2 / STEP
