"""What a stack of slices shows: the numbers of all slices and their means, and one figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pdip.report.canvas import blank_figure
from pdip.report.overview import ERROR_MAP, IMAGE_MAP, PANEL_INCHES, Panel, draw_panel, window
from pdip.report.sentences import merged, of_slices
from pdip.report.summary import versions
from pdip.scan import ImageGrid

MEANS = (
    "psnr", "ssim", "relative_l2", "log_likelihood_per_pixel", "coverage_95", "noise_std",
    "noise_std_by_evidence", "typical_noise_std", "typical_noise_std_by_evidence", "log_evidence",
    "mean_std",
)  # fmt: skip
"""Numbers of a slice's summary whose mean over slices is that of the volume."""
SHOWN_SLICES = 4


def volume_summary(
    slices: Mapping[int, Mapping[str, Any] | str],
    assumptions: Sequence[str],
    source: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything the ``summary.json`` of a stack holds.

    Args:
        slices: number -> the ``summary.json`` of that slice, or why it has no result.
        assumptions: what was assumed for all slices; what slices assumed beside is added.
        source: which files the run was made from.

    Returns:
        the means of the slices' numbers under the names they have there, the numbers of each slice
        in ``slices``, what they assumed and were warned of, each kind of sentence once, the seconds
        of each stage in all.
    """
    done = [numbers for numbers in slices.values() if not isinstance(numbers, str)]
    failures = [
        f"slice {number} has no result and is NaN in the volumes: {numbers}"
        for number, numbers in slices.items()
        if isinstance(numbers, str)
    ]
    own, warnings = (
        of_slices({
            number: () if isinstance(numbers, str)
            else [said for said in numbers.get(key, ()) if said not in assumptions]
            for number, numbers in slices.items()
        })
        for key in ("assumptions", "warnings")
    )  # fmt: skip
    residuals = [numbers["solver"]["worst_residual"] for numbers in done]
    return {
        **{key: _mean([numbers.get(key) for numbers in done]) for key in MEANS},
        "log_likelihood_kind": done[0]["log_likelihood_kind"],
        "assumptions": [*assumptions, *own, *failures],
        "warnings": warnings,
        "solver": {
            "worst_residual": None if None in residuals else max(residuals),
            "converged": all(numbers["solver"]["converged"] for numbers in done),
        },
        "slices": [_row(number, numbers) for number, numbers in slices.items()],
        "stages": _total_costs(done),
        "source": dict(source),
        "versions": versions(),
    }


def draw_volume(
    image: np.ndarray, std: np.ndarray, numbers: Sequence[int], grid: ImageGrid
) -> Figure:
    """Reconstruction and std of a few slices, evenly spread, and the mean std of every slice.

    Args:
        image: (slices, height, width), 1/mm; NaN where a slice has no result.
        std: as ``image``.
        numbers: of the slices.
        grid: for the axes in mm.
    """
    means = np.array([part.mean() for part in std])
    done = np.flatnonzero(np.isfinite(means))
    columns = min(SHOWN_SLICES, len(done))
    shown = [int(done[int((column + 0.5) * len(done) / columns)]) for column in range(columns)]
    figure = blank_figure(PANEL_INCHES * max(columns, 2), 2.4 * PANEL_INCHES)
    axes = figure.add_gridspec(3, columns, height_ratios=(1, 1, 0.6))
    low, high = window(np.stack([image[i] for i in shown]))
    largest = window(np.stack([std[i] for i in shown]))[1]
    half_height, half_width = (side / 2 for side in grid.size_mm)
    extent = (-half_width, half_width, -half_height, half_height)
    for column, i in enumerate(shown):
        for row, panel in enumerate((
            Panel(image[i], f"slice {numbers[i]}: reconstruction", IMAGE_MAP, low, high),
            Panel(std[i], f"slice {numbers[i]}: std", ERROR_MAP, 0.0, largest),
        )):  # fmt: skip
            axis = figure.add_subplot(axes[row, column])
            draw_panel(figure, axis, panel, extent)
            axis.set(xlabel="x (mm)" if row else "", ylabel="" if column else "y (mm)")
    line = figure.add_subplot(axes[2, :])
    line.plot(numbers, means, "o-", markersize=3)
    missing = [number for number, mean in zip(numbers, means, strict=True) if not np.isfinite(mean)]
    if missing:
        line.plot(missing, [0.0] * len(missing), "kx", clip_on=False, label="no result")
        line.legend(frameon=False)
    line.set(xlabel="slice", ylabel="mean std (1/mm)", ylim=(0, 1.1 * means[done].max()))
    line.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _row(number: int, numbers: Mapping[str, Any] | str) -> dict[str, Any]:
    """The numbers of one slice that stand in the summary of all."""
    if isinstance(numbers, str):
        return {"slice": number, "failure": numbers}
    return {
        "slice": number,
        **{key: numbers.get(key) for key in MEANS},
        "stop_reason": "; ".join(merged(fit["stop_reason"] for fit in numbers["restarts"])),
        "converged": numbers["solver"]["converged"],
        "seconds": round(sum(cost["seconds"] for cost in numbers["stages"].values()), 3),
    }


def _total_costs(done: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Seconds of each stage over all slices, and its largest memory."""
    totals: dict[str, dict[str, float]] = {}
    for numbers in done:
        for stage, cost in numbers["stages"].items():
            total = totals.setdefault(stage, {"seconds": 0.0, "peak_memory_mb": 0.0})
            total["seconds"] = round(total["seconds"] + cost["seconds"], 3)
            total["peak_memory_mb"] = max(total["peak_memory_mb"], cost["peak_memory_mb"])
    return totals


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None where a slice has no such number."""
    if not values or None in values:
        return None
    return sum(values) / len(values)
