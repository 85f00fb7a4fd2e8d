"""Figures of experiments, each drawn from rows of numbers: for print and colour-blind eyes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from pdip.report import canvas
from pdip.report.experiment_tables import grouped, mean_and_error
from pdip.scan import ImageGrid

COLOURS = (*canvas.COLOURS, "#000000")
LINES = ("-", "--", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h", "d")
PANEL_WIDTH, PANEL_HEIGHT = 4.2, 3.2
FAR_BELOW = -10.0
"""Log-likelihoods below are drawn on a logarithmic scale: those of failures reach -1000."""
OUTCOME = {
    "log_likelihood_per_pixel": "joint log-likelihood (nats / pixel)",
    "coverage_95": "coverage of the 95 % interval",
}
"""What most experiments show, with the labels of the axes."""

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
        panels: name of the quantity that differs from one row of panels to the next (side by side
            where there is one metric); None for one row.
        scale: of x; ``"steps"`` are equal distances in the order of the values.
        references: metric -> ideal value, drawn dashed.

    Returns:
        the figure, not yet saved.
    """
    parts = {("",): list(rows)} if panels is None else grouped(rows, [panels])
    names = list(grouped(rows, [series]))
    shape = (len(parts), len(metrics)) if len(metrics) > 1 else (1, len(parts))
    figure, axes = _figure(*shape)
    for (value, part), line in zip(parts.items(), axes.reshape(len(parts), -1), strict=True):
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
                axis.set_title(_titled(panels, value[0]))
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(
        *handles, title=series.replace("_", " "), loc="outside lower center", ncols=2 * shape[1],
        frameon=False, handlelength=3.5,
    )  # fmt: skip
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


def draw_prior_samples(rows: Sequence[Row], grid: ImageGrid) -> Figure:
    """Draws from each prior on one scale, and below the distribution of their total variation.

    Args:
        rows: one for each ``prior``, with ``draws`` (count, height, width), ``total_variation`` of
            many draws and ``true_total_variation``.
        grid: for the axes in mm.
    """
    images = [np.array(row["draws"]) for row in rows]
    columns = max(len(part) for part in images)
    figure = canvas.blank_figure(2.3 * columns, 2.2 * len(rows) + 3.0)
    places = figure.add_gridspec(len(rows) + 1, columns, height_ratios=[1] * len(rows) + [1.2])
    largest = max(float(np.quantile(np.abs(part), 0.999)) for part in images)
    half_height, half_width = (side / 2 for side in grid.size_mm)
    axes = []
    for line, (row, part) in enumerate(zip(rows, images, strict=True)):
        for column, image in enumerate(part):
            axis = figure.add_subplot(places[line, column])
            picture = axis.imshow(
                image, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest",
                extent=(-half_width, half_width, -half_height, half_height),
            )  # fmt: skip
            axis.tick_params(labelbottom=line == len(rows) - 1, labelleft=column == 0)
            axes.append(axis)
        axes[-len(part)].set_ylabel(f"{row['prior']}\ny (mm)")
    for axis in axes[-columns:]:
        axis.set_xlabel("x (mm)")
    figure.colorbar(picture, ax=axes, label="deviation (1/mm)", shrink=0.6, extend="both")
    histograms = figure.add_subplot(places[-1, :])
    _draw_histograms(histograms, rows)
    handles = histograms.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_histograms(axis, rows: Sequence[Row]) -> None:
    """Densities of the total variation of each row's draws, with the true one."""
    values = np.concatenate([row["total_variation"] for row in rows])
    edges = np.geomspace(values.min() * 0.95, values.max() * 1.05, 60)
    for number, row in enumerate(rows):
        axis.hist(
            row["total_variation"], bins=edges, histtype="step", linewidth=1.6,
            linestyle=LINES[number % len(LINES)], color=COLOURS[number % len(COLOURS)],
            label=row["prior"],
        )  # fmt: skip
    axis.axvline(rows[0]["true_total_variation"], color="0.4", label="true deviation")
    axis.set(xlabel="total variation of a draw (1/mm)", ylabel="draws", xscale="log")


def _figure(num_rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    size = (PANEL_WIDTH * columns, PANEL_HEIGHT * num_rows + 0.8)
    figure = canvas.blank_figure(*size)
    return figure, figure.subplots(num_rows, columns, squeeze=False)


def _draw_line(axis, rows, x, metric, ticks, scale, shift, number, name) -> None:
    """One line with its error bars; NaN where there are no numbers."""
    moments = [mean_and_error(r.get(metric) for r in rows if r[x] == tick) for tick in ticks]
    means, errors = np.array(moments, dtype=float).reshape(-1, 2).T
    places = np.arange(len(ticks)) + shift if scale == "steps" else ticks
    axis.errorbar(
        places, means, yerr=np.nan_to_num(errors), label=name, linewidth=1.2, markersize=5,
        marker=MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)],
        linestyle=LINES[number // len(COLOURS) % len(LINES)], capsize=2,
    )  # fmt: skip


def _titled(quantity: str, value: Any) -> str:
    """What a panel shows; a noise level, which is a share, in per cent."""
    return f"{100 * value:g} % noise" if quantity == "noise" else f"{quantity} {value}"


def _dress(axis, x: str, label: str, ticks: Iterable, scale: str) -> None:
    if scale == "steps":
        axis.set_xticks(range(len(list(ticks))), [str(tick) for tick in ticks])
    else:
        axis.set_xscale(scale)
    low, high = axis.dataLim.intervaly
    if "likelihood" in label and low < 2 * FAR_BELOW:
        axis.set_yscale("symlog", linthresh=-FAR_BELOW, linscale=2)
        powers = -(10.0 ** np.arange(1, np.ceil(np.log10(-low)) + 1))
        axis.set_yticks([*powers, -5, 0, 5], [f"{tick:g}" for tick in (*powers, -5, 0, 5)])
        axis.set_ylim(1.5 * low, max(high + 1, 0))
    else:
        axis.ticklabel_format(axis="y", useOffset=False)
    axis.set(xlabel=x, ylabel=label)
    axis.grid(color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
