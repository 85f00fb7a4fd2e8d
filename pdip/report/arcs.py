"""A limited arc of views: where the std is, and how it grows with what the arc does not see."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from pdip.calibration import coverage, rank_correlation, relative_l2
from pdip.report.canvas import COLOURS, MARKERS, blank_figure
from pdip.report.maps import draw_maps
from pdip.typing import Image, Mask

PANEL = (3.5, 3.0)
BINS_DEG = (0, 5, 10, 20, 30, 45, 60, 90)
SEEN_DEG, UNSEEN_DEG = (0, 5), (20, 90)
ROOM_FOR_LEGEND = 1.5
EDGE_SHARE = 0.3
"""Of the steepest gradient: from here on a pixel counts as edge."""


def edge_scores(
    image: Image, std: Image, truth: Image | None, strength: Image, unseen_deg: Image
) -> dict[str, Any]:
    """Std, error and coverage of edges by the angle between them and the nearest ray.

    Args:
        image, std: (height, width), 1/mm.
        truth: as ``image``, or None.
        strength, unseen_deg: of the edges, as :func:`pdip.scan.edge_visibility` gives them.

    Returns:
        ``seen`` (within 5 degrees) and ``unseen`` (beyond 20): pixels, mean std, mean |error| and
        coverage of the 95 % interval; ``edges``: the same in finer bins; ``flat_std``: mean std
        off edges; rank correlation of std and |error|, and relative L2 error, of all pixels.
    """
    edge = strength > EDGE_SHARE * strength.max()

    def within(low: float, high: float) -> dict[str, Any]:
        above = unseen_deg > low if low else unseen_deg >= 0  # on a border: in the lower bin
        mask = edge & above & (unseen_deg <= high)
        return {"unseen_deg": (low + high) / 2, **_means(image, std, truth, mask)}

    bins = [within(low, high) for low, high in zip(BINS_DEG, BINS_DEG[1:], strict=False)]
    known = truth is not None
    return {
        "seen": within(*SEEN_DEG),
        "unseen": within(*UNSEEN_DEG),
        "edges": [found for found in bins if found["pixels"]],
        "flat_std": float(std[~edge].mean()),
        "rank_correlation": rank_correlation(image, std, truth) if known else None,
        "relative_l2": relative_l2(image, truth) if known else None,
    }


def _means(image: Image, std: Image, truth: Image | None, mask: Mask) -> dict[str, Any]:
    if not mask.any():
        return {"pixels": 0, "mean_std": None, "mean_error": None, "coverage_95": None}
    known = truth is not None
    return {
        "pixels": int(mask.sum()),
        "mean_std": float(std[mask].mean()),
        "mean_error": float((image - truth).abs()[mask].mean()) if known else None,
        "coverage_95": coverage(image[mask][None], std[mask][None], truth[mask][None])
        if known
        else None,
    }


def draw_arcs(rows: Sequence[dict]) -> Figure:
    """One line for each arc: the maps, and std and |error| of edges against their visibility.

    Args:
        rows: records as for :func:`~pdip.report.maps.draw_maps` with ``half_mm``, ``edges``: one
            record for each bin of ``unseen_deg`` with ``mean_std`` and, where there is a
            reference, ``mean_error`` in 1/mm; ``flat_std`` away from edges.
    """
    figure = blank_figure(5 * PANEL[0], PANEL[1] * len(rows))
    for row, axes in zip(rows, figure.subplots(len(rows), 5, squeeze=False), strict=True):
        draw_maps(figure, axes[:4], row, row["half_mm"])
        axis, places = axes[4], [edge["unseen_deg"] for edge in row["edges"]]
        for number, (key, label) in enumerate((("mean_std", "std"), ("mean_error", "|error|"))):
            values = [edge[key] for edge in row["edges"]]
            if None not in values:
                style = {"color": COLOURS[number], "marker": MARKERS[number]}
                axis.plot(places, values, label=f"mean {label} of edges", **style)
        axis.axhline(row["flat_std"], color="0.5", linestyle="--", label="mean std off edges")
        axis.set(xlabel="angle to the nearest ray (°)", ylabel="1/mm")
        axis.set_ylim(0, ROOM_FOR_LEGEND * axis.dataLim.y1)
        axis.legend(frameon=False, fontsize="small", loc="upper left")
    return figure
