"""Figures of experiments, each drawn from rows of numbers: for print and colour-blind eyes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pdip.report.experiment_tables import grouped, mean_and_error

# Okabe & Ito (2008); with the markers a series can be told apart in grey, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
PANEL_WIDTH, PANEL_HEIGHT = 4.2, 3.2
FAR_BELOW = -5.0
"""Log-likelihoods below are drawn on a logarithmic axis: those of failures reach -1000."""

Row = Mapping[str, Any]


def draw_series(
    rows: Sequence[Row],
    *,
    x: str,
    series: str,
    metrics: Mapping[str, str],
    panels: str | None = None,
    scale: Literal["steps", "linear", "log"] = "steps",
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Mean ± standard error of metrics against ``x``, one line for each value of ``series``.

    Args:
        rows: numbers by name; those without a metric are left out of its panel.
        x: name of the quantity on the horizontal axis.
        series: name of what is compared.
        metrics: name -> label of the vertical axis; one column of panels for each.
        panels: name of the quantity whose values are the rows of panels; None for one.
        scale: of x; ``"steps"`` are equal distances in the order of the values.
        references: metric -> ideal value, drawn dashed.

    Returns:
        the figure, not yet saved.
    """
    parts = {("",): list(rows)} if panels is None else grouped(rows, [panels])
    names = list(grouped(rows, [series]))
    figure, axes = _figure(len(parts), len(metrics))
    for (value, part), line in zip(parts.items(), axes, strict=True):
        ticks = sorted({row[x] for row in part})
        for axis, (metric, label) in zip(line, metrics.items(), strict=True):
            for number, name in enumerate(names):
                chosen = [row for row in part if (row[series],) == name]
                shift = (number - (len(names) - 1) / 2) * 0.5 / max(len(names), 4)
                _draw_line(axis, chosen, x, metric, ticks, scale, shift, number, str(name[0]))
            if references and metric in references:
                axis.axhline(references[metric], color="0.5", linestyle="--", linewidth=1)
            _dress(axis, x, label, ticks, scale)
            if panels is not None:
                axis.set_title(f"{panels} {value[0]}")
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=min(4, len(names)), frameon=False)
    return figure


def draw_pairs(
    rows: Sequence[Row], *, x: str, metrics: Mapping[str, str], series: str, label: str
) -> Figure:
    """Scatter of metrics against ``x`` with the line of equality, one colour for each series.

    Args:
        rows: numbers by name.
        x: what is on every horizontal axis.
        metrics: name -> title; one panel for each.
        series: name of what the colours stand for.
        label: of both axes.
    """
    figure, (axes,) = _figure(1, len(metrics))
    for axis, (metric, title) in zip(axes, metrics.items(), strict=True):
        for number, ((name,), part) in enumerate(grouped(rows, [series]).items()):
            axis.plot(
                [row[x] for row in part], [row[metric] for row in part], linestyle="",
                marker=MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)],
                markersize=5, alpha=0.8, label=str(name),
            )  # fmt: skip
        axis.axline((0, 0), slope=1, color="0.5", linestyle="--", linewidth=1, zorder=0)
        values = [row[key] for row in rows for key in (x, metric)]
        pad = 0.05 * (max(values) - min(values) or 1.0)
        limits = (min(values) - pad, max(values) + pad)
        axis.set(title=title, xlabel=f"{label}, {x}", ylabel=f"{label}, {metric}")
        axis.set(xlim=limits, ylim=limits, aspect="equal")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _figure(num_rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    size = (PANEL_WIDTH * columns, PANEL_HEIGHT * num_rows + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, columns, squeeze=False)


def _draw_line(axis, rows, x, metric, ticks, scale, shift, number, name) -> None:
    """One line with its error bars; NaN where there are no numbers."""
    moments = [mean_and_error(r.get(metric) for r in rows if r[x] == tick) for tick in ticks]
    means, errors = np.array(moments, dtype=float).reshape(-1, 2).T
    places = np.arange(len(ticks)) + shift if scale == "steps" else ticks
    axis.errorbar(
        places, means, yerr=np.nan_to_num(errors), label=name, linewidth=1.2, markersize=5,
        marker=MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)],
        linestyle=("-", "--", ":")[number // len(COLOURS) % 3], capsize=2,
    )  # fmt: skip


def _dress(axis, x: str, label: str, ticks: Iterable, scale: str) -> None:
    if scale == "steps":
        axis.set_xticks(range(len(list(ticks))), [str(tick) for tick in ticks])
    else:
        axis.set_xscale(scale)
    if "nats" in label and axis.get_ylim()[0] < 2 * FAR_BELOW:
        axis.set_yscale("symlog", linthresh=-FAR_BELOW)
    axis.set(xlabel=x, ylabel=label)
    axis.grid(color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
