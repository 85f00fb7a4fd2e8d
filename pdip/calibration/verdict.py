"""What the scores of withheld rays mean, in words."""

from collections.abc import Mapping

from pdip.calibration.held_out import HeldOut
from pdip.calibration.recalibration import Scales, is_determined
from pdip.calibration.whiteness import Correlation

ABOUT_RIGHT = 1.25
"""A factor of the std that nobody would act upon."""
CAUSES = {
    "detectors": "a single energy for a polychromatic beam, scatter, a shifted axis of rotation, "
    "pixels that are too large or a fit that stopped too early would do that",
    "views": "uneven detector elements (rings) or an object that moved would do that",
}


def verdict(held_out: HeldOut, scales: Scales) -> str:
    """One sentence for whoever has to trust the error bars.

    Args:
        held_out: scores of the withheld rays.
        scales: the factor of the std that they ask for, one part.
    """
    covered = held_out.predicted.coverage[0.95]
    counted = f"{held_out.num_rays:,}".replace(",", " ")
    said = (
        f"of {counted} withheld measurements {covered.value:.1%} "
        f"({100 * covered.low:.0f} to {100 * covered.high:.0f}) lie within their 95 % intervals"
    ).replace("%", " %", 1)
    return f"{said}: {_judgement(scales)}"


def _judgement(scales: Scales) -> str:
    (scale,) = scales.scales
    between = f"({scale.low:.2g} to {scale.high:.2g})"
    if not is_determined(scale) and (scale.low > 1 or scale.high < 1):
        way = "narrow" if scale.low > 1 else "wide"
        return (
            f"the error bars are too {way}, but the withheld rays cannot tell by how much "
            f"{between}; std.npy is left as it is"
        )
    if not is_determined(scale):
        return (
            "the withheld rays cannot tell whether the error bars of the image are right, as they "
            "are too few or its uncertainty is lost in their noise (they allow any factor from "
            f"{scale.low:.2g} to {scale.high:.2g}); std.npy is left as it is"
        )
    if is_right(scales):
        return f"the error bars are about right (factor {scale.value:.2f}, {between[1:-1]})"
    noise = "" if abs(scales.noise.value - 1) < 0.1 else _noise_remark(scales.noise.value)
    if scale.value > 1:
        size = f"too narrow by a factor of about {scale.value:.1f} {between}"
        return f"the error bars are {size}{noise}; std_recalibrated.npy holds wider ones"
    size = f"too wide by a factor of about {1 / scale.value:.1f}"
    return f"the error bars are {size}{noise}; std_recalibrated.npy holds narrower ones"


def _noise_remark(factor: float) -> str:
    kind = "less" if factor < 1 else "more"
    share = f"{factor:.2f}" if factor >= 0.1 else "less than 0.1"
    return f", while the measurements have {kind} noise than assumed ({share} of its std)"


def is_right(scales: Scales) -> bool:
    """Whether one factor is 1 as far as anyone can tell or would care."""
    (scale,) = scales.scales
    close = 1 / ABOUT_RIGHT <= scale.value <= ABOUT_RIGHT
    return is_determined(scale) and (close or scale.low <= 1 <= scale.high)


def pattern(found: Mapping[str, Correlation]) -> str:
    """Whether the residual is noise, and what may be the matter where it is not."""
    said = []
    for direction, one in found.items():
        if not one.white:
            own, low, high = (float(x[0]) for x in (one.values, one.low, one.high))
            said.append(
                f"along the {direction} neighbouring residuals correlate by {own:.2f} where noise "
                f"would give {low:.2f} to {high:.2f}: something systematic is left; "
                f"{CAUSES[direction]}"
            )
    return "; ".join(said) or "the residual of the scan looks like noise"
