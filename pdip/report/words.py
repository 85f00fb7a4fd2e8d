"""What a run found, in sentences for a reader who did not make it."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pdip.scan import FanBeam, ImageGrid, ParallelBeam
from pdip.scan.checks import plural

WARNING = "WARNING: "
"""How an assumption begins that is one to act on."""
NO_RESULT = re.compile(r"slice \d+ has no result")
"""How that of a stack begins which names a slice that failed."""
MOST_VIEWS = 0.75
IN_NO_ORDER = "in no order"
"""How views turn of which fewer go one way round."""


def scan_sentence(geometry: ParallelBeam | FanBeam, grid: ImageGrid) -> str:
    """What was measured and what was made of it."""
    (height, width), (high, wide) = grid.size_mm, grid.shape
    beam = "fan" if isinstance(geometry, FanBeam) else "parallel"
    arc = max(geometry.angles_deg) - min(geometry.angles_deg)
    return (
        f"An image of {width:.4g} × {height:.4g} mm ({wide} × {high} pixels of "
        f"{grid.pixel_mm:.4g} mm) from {plural(geometry.num_views, 'view')} over {arc:.4g}° with "
        f"{geometry.num_detectors} rays each ({beam} beam)."
    )


def geometry_sentence(geometry: ParallelBeam | FanBeam) -> str:
    """What the drawing of the geometry shows."""
    fan = isinstance(geometry, FanBeam)
    drawn = "source, rays" if fan else "rays"
    dots = "the source" if fan else "where the middle of the beam comes from"
    return (
        f"Rectangle: the image. Dotted circle: what every view sees. Blue: {drawn} and detector of "
        f"the first view, orange: of the last. Small dots: {dots} in every view. The arrow is the "
        "sense of rotation."
    )


def rotation_sense(geometry: ParallelBeam | FanBeam) -> str:
    """How three of four views turn from the one before, or a dash where they do not.

    Example:
        >>> rotation_sense(ParallelBeam([270.0, 315.0, 0.0, 45.0, 90.0], 5))
        'counter-clockwise'
        >>> rotation_sense(ParallelBeam([0.0, 111.2, 42.5, 153.7, 85.0, 16.2], 5))
        'in no order'
    """
    steps = np.diff(geometry.angles_deg)
    if not steps.any():
        return "–"
    if (steps > 0).mean() >= MOST_VIEWS:
        return "counter-clockwise"
    return "clockwise" if (steps < 0).mean() >= MOST_VIEWS else IN_NO_ORDER


def plus_minus(mean: float, std: float) -> str:
    """A number and its std, both to the second digit of the std.

    Example:
        >>> plus_minus(0.0272596, 0.000218), plus_minus(53.2, 114.0)
        ('0.02726 ± 0.00022', '53 ± 110')
    """
    std = float(f"{std:.2g}")
    decimals = max(0, 1 - math.floor(math.log10(std))) if std > 0 else 6
    return f"{mean:.{decimals}f} ± {std:.{decimals}f}"


def certainty_sentence(image: np.ndarray, std: np.ndarray) -> str:
    """How sure the image is, as a typical std and its share of the image's range."""
    finite = np.isfinite(std)
    typical, most = np.quantile(std[finite], (0.5, 0.95))
    low, high = np.quantile(image[np.isfinite(image)], (0.001, 0.999))
    share = f", {100 * typical / (high - low):.2g} % of the image's range" if high > low else ""
    return (
        f"Half of the pixels are known to ± {typical:.2g} 1/mm or better (one standard "
        f"deviation{share}), 95 % of them to ± {most:.2g} 1/mm or better."
    )


def trust_sentence(summary: Mapping[str, Any]) -> str:
    """Whether the error bars were tested, and what came of it."""
    said = []
    check = summary.get("calibration")
    if check:
        said.append(f"Tested on rays that the fit did not see: {check['verdict']}.")
    if summary.get("coverage_95") is not None:
        said.append(
            f"Compared with the given reference image, {100 * summary['coverage_95']:.1f} % of the "
            "pixels lie within their 95 % interval; of an exact reference 95 % would."
        )
    if not said and ("slices" in summary or summary["source"].get("slice") is not None):
        said.append(
            "Whether the error bars are right has not been tested: a run of one slice alone, with "
            "--row N --check-calibration, would show it."
        )
    elif not said:
        said.append(
            "Whether the error bars are right has not been tested on this scan: the command that "
            "made this run, with --resume --check-calibration, withholds some views and does so."
        )
    return " ".join(said)


def warnings_of(summary: Mapping[str, Any]) -> list[str]:
    """What a reader should know before trusting the numbers."""
    found = [capital(s.removeprefix(WARNING)) for s in summary["assumptions"] if _is_warning(s)]
    found += [capital(sentence) for sentence in summary.get("warnings", ())]
    if not summary["solver"]["converged"]:
        found.append(
            "A solver or the search for hyperparameters ended before it converged; further down is "
            "which and how far."
        )
    return found


def assumptions_of(summary: Mapping[str, Any]) -> list[str]:
    """What was assumed for the user and needs no action."""
    return [capital(s) for s in summary["assumptions"] if not _is_warning(s)]


def _is_warning(sentence: str) -> bool:
    return sentence.startswith(WARNING) or NO_RESULT.match(sentence) is not None


def capital(sentence: str) -> str:
    """As a sentence of its own: a capital at the beginning and a full stop."""
    sentence = sentence.strip()
    return sentence[:1].upper() + sentence[1:] + ("" if sentence.endswith((".", "!")) else ".")


def number(value: Any, digits: int = 4) -> str:
    """A number as people read it; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(number(part, digits) for part in value)
    return str(value)
