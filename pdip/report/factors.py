"""Factors of the std found without a truth, beside those that the truth asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from pdip.calibration.recalibration import RANGE
from pdip.report.canvas import COLOURS, blank_figure
from pdip.report.experiment_tables import cell_of, count_of, done, grouped, markdown

TRUTHS = {
    "true_of_rays": "of the withheld rays without noise",
    "true_of_pixels_in_check": "of the pixels, without those rays",
    "true_of_pixels": "of the pixels, all rays",
}
"""Key of a row -> root mean square error over the claimed one, of what."""

Row = Mapping[str, Any]


def factors_table(rows: Sequence[Row]) -> str:
    """Markdown, a line for each setting: how often the interval held the true factors.

    Of those intervals that determine the factor; others hold nearly anything. What rescaling
    gained is the mean over scans whose std it changed, of the pixels' marginals.

    Args:
        rows: one for each scan; of those with a ``failure`` the number follows after a plus.
    """
    heads = (
        "views", "noise", "scans", "determined", "rescaled",
        *(f"interval holds that {name}" for name in TRUTHS.values()),
        "nats a pixel gained by rescaling",
    )  # fmt: skip
    lines = []
    for (views, noise), group in grouped(rows, ("views", "noise")).items():
        own = done(group)
        known = [row for row in own if row["determined"]]
        held = [sum(holds(row, key) for row in known) for key in TRUTHS]
        written = [row for row in own if row["written"]]
        gained = [row["log_likelihood_recalibrated"] - row["log_likelihood"] for row in written]
        counts = (count_of(group), len(known), len(written))
        lines.append((views, noise, *counts, *held, cell_of(gained)))
    return markdown(heads, lines)


def holds(row: Row, key: str) -> bool:
    """Whether the interval of the check holds a true factor."""
    return row["factor"]["low"] <= row[key] <= row["factor"]["high"]


def draw_factors(rows: Sequence[Row]) -> Figure:
    """The factor of the check with its 95 % interval against the true ones; right on the diagonal.

    Args:
        rows: one for each scan, with ``factor`` (``value``, ``low``, ``high``), ``written``
            (whether the std was rescaled) and the keys of :data:`TRUTHS`; those with a
            ``failure`` are left out.

    Returns:
        the figure, not yet saved.
    """
    finished = done(rows)
    figure = blank_figure(10.5, 3.8)
    for axis, (key, name) in zip(figure.subplots(1, 3, sharey=True), TRUTHS.items(), strict=True):
        axis.plot(RANGE, RANGE, color="0.6", linestyle="--", linewidth=1)
        for written, colour, label in ((True, 0, "rescaled"), (False, 1, "left as it is")):
            own = [row for row in finished if row["written"] == written]
            found = [row["factor"] for row in own]
            ends = [
                [one["value"] - one["low"] for one in found],
                [one["high"] - one["value"] for one in found],
            ]
            axis.errorbar(
                [row[key] for row in own], [one["value"] for one in found], yerr=ends,
                fmt="os"[colour], color=COLOURS[colour], markersize=4, linewidth=0.8, label=label,
            )  # fmt: skip
        axis.set(xscale="log", yscale="log", xlim=RANGE, ylim=RANGE)
        axis.set(xlabel=f"true factor\n{name}", aspect="equal")
    figure.axes[0].set_ylabel("factor by the check, 95 % interval")
    figure.axes[0].legend(frameon=False, loc="upper left")
    return figure
