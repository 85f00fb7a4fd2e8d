"""Strategies of choosing views: how good they are, and what they choose."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pdip.report.canvas import COLOURS, MARKERS, blank_figure, draw_means


def draw_design(rows: Sequence[dict]) -> Figure:
    """PSNR over the number of views (mean ± standard error over seeds), and one seed's choices.

    Args:
        rows: records with ``strategy``, ``seed``, ``views`` (how many), ``psnr`` (dB) and
            ``angles_deg`` (those of the views, in the order of choice).
    """
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    figure = blank_figure(9.5, 3.6)
    left, right = figure.subplots(1, 2)
    lines: dict[str, dict[float, list[float]]] = {name: {} for name in strategies}
    for row in rows:
        lines[row["strategy"]].setdefault(row["views"], []).append(row["psnr"])
    draw_means(left, lines, xlabel="views", ylabel="PSNR (dB)")
    seed = rows[0]["seed"]
    for place, name in enumerate(strategies):
        own = [row for row in rows if row["strategy"] == name and row["seed"] == seed]
        angles = max(own, key=lambda row: row["views"])["angles_deg"]
        right.plot(
            angles, [place] * len(angles), MARKERS[place % len(MARKERS)], markersize=4,
            color=COLOURS[place % len(COLOURS)],
        )  # fmt: skip
    right.set_yticks(range(len(strategies)), [name.replace("_", " ") for name in strategies])
    right.set(
        xlabel="view angle (degrees)", xlim=(-4, 184), ylim=(len(strategies) - 0.5, -0.5),
        title=f"views of seed {seed}",
    )  # fmt: skip
    return figure
