"""One figure of how honest error bars are, for one method or several side by side."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from pdip.errors import InputError
from pdip.report.canvas import COLOURS, blank_figure
from pdip.report.overview import UNIT

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
FAINT = {"color": "0.55", "linewidth": 1.0, "zorder": 1}
SIZE_INCHES = (9.6, 6.0)


def draw_calibration(calibrations: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Coverage, z quantiles, error against std, sparsification and spectrum, beside key numbers.

    Grey lines are where calibrated error bars lie. Drawn from plain numbers, so that it can be
    drawn again from a JSON file; every line is a vector, so that it can be saved as PDF.

    Args:
        calibrations: name of a method -> ``pdip.calibration.Calibration.as_dict()``, at most six.

    Returns:
        the figure, not yet saved.

    Raises:
        InputError: no calibration, or more than six.
    """
    if not 1 <= len(calibrations) <= len(COLOURS):
        raise InputError(
            f"expected 1 to {len(COLOURS)} calibrations to draw, got {len(calibrations)}; draw "
            "several figures"
        )
    figure = blank_figure(*SIZE_INCHES)
    axes = figure.subplots(2, 3)
    drawn = (draw_coverage, draw_quantiles, draw_reliability, draw_sparsification, draw_spectrum)
    for draw, axis in zip(drawn, axes.flat, strict=False):
        axis.grid(color="0.92", zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
        for found, colour, dashes in zip(calibrations.values(), COLOURS, DASHES, strict=False):
            draw(axis, found, {"color": colour, "linestyle": dashes, "linewidth": 1.6})
    complete(axes[0, 2], axes[1, 1])
    write_legend(axes[1, 2], calibrations)
    return figure


def complete(by_std: Axes, by_scale: Axes) -> None:
    """Limits and calibrated lines that need all methods to be drawn."""
    largest = by_std.dataLim.max
    by_std.plot([0, min(largest)], [0, min(largest)], **FAINT)
    by_std.set(xlim=(0, 1.05 * largest[0]), ylim=(0, 1.05 * largest[1]))
    low, high = by_scale.dataLim.intervaly
    low, high = min(low / 1.2, 0.3), max(1.2 * high, 3.0)
    by_scale.set_ylim(low, high)
    by_scale.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    by_scale.yaxis.set_major_formatter("{x:g}")
    by_scale.yaxis.set_minor_formatter("")


def draw_coverage(axis: Axes, found: Mapping[str, Any], line: dict[str, Any]) -> None:
    """Share of pixels inside the intervals; below the diagonal is over-confident."""
    curve = found["coverage_curve"]
    axis.plot([0, 1], [0, 1], **FAINT)
    axis.plot([0, *curve["levels"]], [0, *curve["empirical"]], **line)
    axis.set(title="coverage", xlabel="nominal level", ylabel="share of pixels inside")
    axis.set(xlim=(0, 1), ylim=(0, 1.02))


def draw_quantiles(axis: Axes, found: Mapping[str, Any], line: dict[str, Any]) -> None:
    """Quantiles of z; steeper than the diagonal is over-confident."""
    quantiles = found["z_quantiles"]
    ends = [quantiles["expected"][0], quantiles["expected"][-1]]
    axis.plot(ends, ends, **FAINT)
    axis.plot(quantiles["expected"], quantiles["observed"], **line)
    axis.set(title="z = error / std", xlabel="quantile of N(0, 1)", ylabel="quantile of z")


def draw_reliability(axis: Axes, found: Mapping[str, Any], line: dict[str, Any]) -> None:
    """Error of pixels of like std; above the diagonal is over-confident."""
    bins = found["reliability"]
    axis.plot(bins["predicted"], bins["error"], marker="o", markersize=4, **line)
    axis.set(title="error by std", xlabel=f"RMS std ({UNIT})", ylabel=f"RMS error ({UNIT})")


def draw_sparsification(axis: Axes, found: Mapping[str, Any], line: dict[str, Any]) -> None:
    """Error of what remains; the thin line is the best order, by the error itself."""
    curves = found["sparsification"]
    axis.plot(curves["fraction"], curves["by_error"], **line | {"linewidth": 0.7, "alpha": 0.7})
    axis.plot(curves["fraction"], curves["by_std"], **line)
    axis.set(title="sparsification (thin: by error)")
    axis.set(xlabel="share of pixels taken away", ylabel="relative RMS error of the rest")
    axis.set(xlim=(0, 1), ylim=(0, None))


def draw_spectrum(axis: Axes, found: Mapping[str, Any], line: dict[str, Any]) -> None:
    """Power of the error over the claimed power; above 1 is over-confident at this scale.

    Claimed by the std alone, 1 is only expected of errors that are independent between pixels.
    """
    spectrum = found["spectrum"]
    axis.axhline(1, **FAINT)
    axis.semilogy(spectrum["frequency_per_mm"], spectrum["ratio"], **line)
    axis.set(title=f"error by scale ({spectrum['claimed_by']})", xlabel="frequency (cycles/mm)")
    axis.set(ylabel="power of error / claimed power")


def write_legend(axis: Axes, calibrations: Mapping[str, Mapping[str, Any]]) -> None:
    """The methods, each with its key numbers."""
    axis.axis("off")
    for colour, dashes, (name, found) in zip(COLOURS, DASHES, calibrations.items(), strict=False):
        label = (
            f"{name}\n95 % covers {found['coverage_95']:.1%}, χ² {found['reduced_chi_squared']:.2f}"
            f"\nENCE {found['ence']:.2f}, AUSE {found['ause']:.2f}"
        )
        axis.plot(np.nan, np.nan, color=colour, linestyle=dashes, linewidth=1.6, label=label)
    axis.legend(loc="upper left", frameon=False, borderaxespad=0, fontsize=8.5)
