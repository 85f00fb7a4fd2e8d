"""How often a score without ground truth picks the settings that the truth would have picked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from pdip.report.canvas import COLOURS, blank_figure
from pdip.report.experiment_tables import cell_of, markdown, mean_and_error

CRITERIA = {
    "winner": "pdip select",
    "held_out_score": "held-out score",
    "conditional_evidence": "conditional evidence",
    "profile_evidence": "profile evidence",
    "network_weights_evidence": "network-weights evidence",
}
TRUTHS = {"psnr": "PSNR (dB)", "log_likelihood": "log-likelihood (nats a pixel)"}


@dataclass(frozen=True)
class Picks:
    """What one criterion picked, judged by one measure that knows the truth.

    Attributes:
        criterion: key of :data:`CRITERIA`, or ``"any"`` for a random pick, in expectation.
        truth: key of :data:`TRUTHS`.
        losses: for each scan, the measure of the best candidate less that of the picked one.
        share: of the scans on which the best candidate was picked.
    """

    criterion: str
    truth: str
    losses: tuple[float, ...]
    share: float


def picks(rows: Sequence[dict[str, Any]]) -> list[Picks]:
    """The picks of every criterion, and of chance, judged by every measure.

    Args:
        rows: one for each scan and candidate, with ``scan``, the criteria and the measures; a
            measure that is None counts as the worst.
    """
    scans = [[r for r in rows if r["scan"] == name] for name in dict.fromkeys(map(_scan, rows))]
    found = []
    for truth in TRUTHS:
        for criterion in CRITERIA:
            chosen = [max(scan, key=lambda row, c=criterion: _value(row, c)) for scan in scans]
            losses = tuple(_losses(scan, truth)[scan.index(row)]
                           for scan, row in zip(scans, chosen, strict=True))  # fmt: skip
            found.append(Picks(criterion, truth, losses, losses.count(0.0) / len(losses)))
        means = tuple(sum(_losses(scan, truth)) / len(scan) for scan in scans)
        share = sum(1 / len(scan) for scan in scans) / len(scans)
        found.append(Picks("any", truth, means, share))
    return found


def picks_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: how often each criterion picked the best, and what its picks lost."""
    heads = ("picked by", "judged by", "best picked", "mean loss", "scans")
    lines = []
    for pick in picks(rows):
        name, share = CRITERIA.get(pick.criterion, "chance"), f"{pick.share:.2f}"
        lines.append((name, TRUTHS[pick.truth], share, cell_of(pick.losses), len(pick.losses)))
    return markdown(heads, lines)


def draw_selection(rows: Sequence[dict[str, Any]]) -> Figure:
    """Share of scans on which the best was picked, and the mean loss, for every criterion."""
    figure = blank_figure(10.5, 3.2)
    share_axis, *loss_axes = figure.subplots(1, 3, sharey=True)
    found = picks(rows)
    names = [CRITERIA.get(p.criterion, "chance") for p in found if p.truth == "psnr"]
    places = range(len(names))
    for number, ((truth, label), axis) in enumerate(zip(TRUTHS.items(), loss_axes, strict=True)):
        own, colour = [p for p in found if p.truth == truth], COLOURS[number]
        heights = [place + 0.4 * number - 0.2 for place in places]
        share_axis.barh(heights, [p.share for p in own], 0.38, color=colour, label=label)
        means, errors = zip(*(mean_and_error(p.losses) for p in own), strict=True)
        axis.errorbar(means, places, xerr=errors, fmt="o", color=colour, capsize=2)
        axis.axvline(0, color="0.7", linewidth=0.8)
        axis.set_xlabel(f"mean loss, {label}")
        axis.locator_params(axis="x", nbins=4)
    share_axis.set(yticks=list(places), yticklabels=names, xlim=(0, 1))
    share_axis.invert_yaxis()
    share_axis.set_xlabel("share of scans with the best picked")
    figure.legend(*share_axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _scan(row: dict[str, Any]) -> str:
    return row["scan"]


def _value(row: dict[str, Any], key: str) -> float:
    return -math.inf if row[key] is None else row[key]


def _losses(scan: list[dict[str, Any]], truth: str) -> list[float]:
    """How much worse each candidate is than the best; the worst for those without a value."""
    known = [row[truth] for row in scan if row[truth] is not None]
    best, worst = max(known, default=0.0), min(known, default=0.0)
    return [best - (worst if row[truth] is None else row[truth]) for row in scan]
