"""What the scores of withheld rays mean, in words, and which factor of the std they call for."""

from collections.abc import Mapping, Sequence

from pdip.calibration.held_out import HeldOut
from pdip.calibration.recalibration import Scales, ends_inside, is_determined
from pdip.calibration.view_bands import ViewBand
from pdip.calibration.whiteness import Correlation

ABOUT_RIGHT = 1.25
"""A factor of the std that nobody would act upon."""
LEAST_NOISE_CHANGE = 0.1
"""Of a factor of the noise that is worth a remark."""
UNDRAWN = "; what the fit left over of the image counts as noise"
"""Why the noise of a scan may be taken for more than it is."""
CAUSES = {
    "detectors": "a single energy for a polychromatic beam, scatter, a shifted axis of rotation, "
    "pixels that are too large or a fit that stopped too early would do that",
    "views": "uneven detector elements (rings) or an object that moved would do that",
}


def verdict(scales: Scales) -> str:
    """Whether the error bars are right, for whoever has to trust them.

    Args:
        scales: the factor of the std that the withheld rays ask for, one part.
    """
    (scale,) = scales.scales
    (size, low, high), way = _size(scale), "narrow" if scale.value > 1 else "wide"
    if not is_determined(scale) and _off(scale):
        return (
            f"the error bars are too {way}, but the withheld rays cannot tell by how much "
            f"({_allowed(scale)})"
        )
    if not is_determined(scale):
        return (
            "the withheld rays cannot tell whether the error bars of the image are right, as they "
            "are too few or its uncertainty is lost in their noise (they allow "
            f"{_allowed(scale)})"
        )
    if _close(scale):
        return (
            f"the error bars are about right (factor {scale.value:.2f}, {scale.low:.2g} to "
            f"{scale.high:.2g})"
        )
    if not _off(scale):
        return (
            "the withheld rays cannot tell error bars that are right from error bars that are "
            f"{size:.1f} times too {way} (they allow {_allowed(scale)})"
        )
    return f"the error bars are too {way} by a factor of about {size:.1f} ({low:.2g} to {high:.2g})"


def are_too_narrow(scales: Scales) -> bool:
    """Whether the verdict is that the error bars are too narrow, by a known factor or not."""
    (scale,) = scales.scales
    return scale.low > 1 and not is_right(scales)


def grounds(
    held_out: HeldOut,
    scales: Scales,
    region_scales: Scales | None = None,
    regions: Sequence[str] = (),
) -> str:
    """What the verdict rests on and which files it led to, in sentences.

    Args:
        held_out: scores of the withheld rays.
        scales: as for :func:`verdict`.
        region_scales: those of regions; None where none were asked for.
        regions: what the regions are called.
    """
    said = [_covered(held_out, scales), *_noise_remark(scales.noise)]
    if region_scales is not None and not calls_for(region_scales):
        listed = _listed(
            f"{name} {_allowed(scale)}"
            for name, scale in zip(regions, region_scales.scales, strict=False)
        )
        said.append(f"A factor for each region is not determined ({listed})")
    said.append(_written(applied(scales, region_scales), regions))
    return f"{'. '.join(said)}."


def applied(scales: Scales, region_scales: Scales | None = None) -> Scales | None:
    """The factors that the std is multiplied by: of the regions, else of the image, else none."""
    for found in (region_scales, scales):
        if found is not None and calls_for(found):
            return found
    return None


def calls_for(scales: Scales) -> bool:
    """Whether every factor is known and cannot be confused with 1, unless it is about 1."""
    return all(is_determined(scale) and (_close(scale) or _off(scale)) for scale in scales.scales)


def is_right(scales: Scales) -> bool:
    """Whether one factor is known and so near to 1 that nobody would care."""
    (scale,) = scales.scales
    return is_determined(scale) and _close(scale)


def _close(scale: ViewBand) -> bool:
    return 1 / ABOUT_RIGHT <= scale.value <= ABOUT_RIGHT


def _off(scale: ViewBand) -> bool:
    """Whether the interval excludes 1."""
    return scale.low > 1 or scale.high < 1


def _covered(held_out: HeldOut, scales: Scales) -> str:
    """The share of the withheld rays in their intervals, and why it may be right all the same."""
    covered = held_out.predicted.coverage[0.95]
    counted = f"{held_out.num_rays:,}".replace(",", " ")
    band = f"({100 * covered.low:.0f} to {100 * covered.high:.0f})"
    if held_out.num_views < 2:
        band = "(all of one view, so nobody knows how far that is chance)"
    elif covered.low < 0.01 and covered.high > 0.99:
        band = f"(of {held_out.num_views} views, which is too few to know how far that is chance)"
    said = (
        f"Of {counted} withheld measurements {100 * covered.value:.1f} % {band} lie within their "
        "95 % intervals"
    )
    (scale,) = scales.scales
    if covered.low <= 0.95 <= covered.high and _off(scale) and not is_right(scales):
        said += (
            ", which hold noise and image together and so can be right while the image's part "
            "is wrong"
        )
    return said


def _size(scale: ViewBand) -> tuple[float, float, float]:
    """How many times the error bars are too narrow or too wide, and from where to where."""
    sign = 1 if scale.value > 1 else -1
    low, high = sorted((scale.low**sign, scale.high**sign))
    return scale.value**sign, low, high


def _allowed(scale: ViewBand) -> str:
    """The factors that an interval holds; an end of the search is none of the interval."""
    below, above = ends_inside(scale)
    if below and above:
        return f"any factor from {scale.low:.2g} to {scale.high:.2g}"
    if below:
        return f"any factor above {scale.low:.2g}"
    return f"any factor below {scale.high:.2g}" if above else "any factor"


def _noise_remark(noise: ViewBand) -> list[str]:
    """What the rays say of the noise, where they say anything."""
    small = abs(noise.value - 1) < LEAST_NOISE_CHANGE
    if small or not _off(noise) or not all(ends_inside(noise)):
        return []
    kind = "less" if noise.value < 1 else "more"
    return [
        f"The measurements have {kind} noise than assumed ({noise.value:.2f} of its std, "
        f"{noise.low:.2g} to {noise.high:.2g}{UNDRAWN if kind == 'less' else ''})"
    ]


def _written(found: Scales | None, regions: Sequence[str]) -> str:
    if found is None:
        return "std.npy is left as it is, without a std_recalibrated.npy"
    if len(found.scales) == 1:
        return f"std_recalibrated.npy holds std.npy times {found.scales[0].value:.2f}"
    times = _listed(
        f"{scale.value:.2f} in {name} ({scale.low:.2g} to {scale.high:.2g})"
        for name, scale in zip(regions, found.scales, strict=True)
    )
    return f"std_recalibrated.npy holds std.npy times {times}"


def _listed(parts) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


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
