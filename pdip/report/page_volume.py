"""``report.html`` of a stack: its slices to leaf through, and the way to the page of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from pdip.calibration.intervals import half_width
from pdip.report import page_tables as tables
from pdip.report import words
from pdip.report.drawings import draw_histories
from pdip.report.page_frame import duration, rendered, shared, viewed
from pdip.report.page_viewer import image_viewer
from pdip.report.words import number
from pdip.scan import ImageGrid

EMBEDDED_BYTES = 24e6
"""Of float32 values of a stack in its page; of more slices, every so many are in it."""


@dataclass(frozen=True)
class VolumeContents:
    """What the folder of a finished stack holds, read back.

    Attributes:
        title: what the page is called.
        image, std: (slices, height, width), 1/mm, may be mapped from files; NaN without a result.
        numbers: of the slices.
        links: slice -> the address of its page from that of the stack.
        grid, summary, settings, parts, axis: as of :class:`~pdip.report.page.RunContents`.
    """

    title: str
    image: np.ndarray
    std: np.ndarray
    numbers: Sequence[int]
    links: Mapping[int, str]
    grid: ImageGrid
    summary: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    parts: Sequence[Mapping[str, str]]
    axis: bytes | None = None


def volume_page(stack: VolumeContents) -> str:
    """The page of a stack: its slices to leaf through and a table that leads to their pages."""
    summary, shown = stack.summary, _shown_slices(stack.image)
    labels = [str(stack.numbers[place]) for place in shown]
    image, std = (np.asarray(volume[shown], np.float32) for volume in (stack.image, stack.std))
    images = image_viewer(image, std, labels=labels)
    (height, width), count = stack.grid.shape, len(stack.numbers)
    note = "All slices are in this page."
    if len(shown) < count:
        note = f"{len(shown)} of {count} slices, evenly spread, are in this page; each has its own."
    rows = [_slice_row(row, stack.links) for row in summary["slices"]]
    done = [row for row in summary["slices"] if "failure" not in row]
    return rendered(
        "volume.html.j2",
        {
            **viewed((images,), {"image": image, "std": std}, stack.grid),
            "half_width": half_width(0.95),
        },
        **shared(stack),
        what=f"A stack of {count} slices, each {width} × {height} pixels of "
        f"{stack.grid.pixel_mm:.4g} mm, reconstructed one by one.",
        certainty=words.certainty_sentence(image, std),
        facts=[
            ("slices with a result", f"{len(done)} of {count}"),
            ("mean std", f"{number(summary['mean_std'], 2)} 1/mm"),
            ("typical noise std of a ray, mean", number(summary.get("typical_noise_std"), 3)),
            ("the same by the evidence", number(summary.get("typical_noise_std_by_evidence"), 3)),
            ("computing time", duration(summary)),
        ],
        images=images,
        shown_note=note,
        slice_head=["slice", "mean std (1/mm)", "noise std of a ray by the evidence",
                    "log evidence", "PSNR (dB)", "seconds", "solves and searches converged"],
        slice_rows=rows,
        std_drawing=Markup(
            draw_histories(
                [([row["slice"] for row in done], [row["mean_std"] for row in done])],
                xlabel="slice",
                ylabel="mean std (1/mm)",
            )
        ),
        stages=tables.stage_rows(summary, ("peak_memory_mb",)),
    )  # fmt: skip


def _shown_slices(volume: np.ndarray) -> list[int]:
    """The slices that a page holds: all, or as many as fit, evenly spread."""
    count = len(volume)
    most = max(1, int(EMBEDDED_BYTES // (8 * volume[0].size)))
    if count <= most:
        return list(range(count))
    return [int((place + 0.5) * count / most) for place in range(most)]


def _slice_row(row: Mapping[str, Any], links: Mapping[int, str]) -> dict[str, Any]:
    keys = (
        "mean_std", "typical_noise_std_by_evidence", "log_evidence", "psnr", "seconds", "converged",
    )  # fmt: skip
    return {
        "number": row["slice"],
        "link": links.get(row["slice"], ""),
        "failure": row.get("failure"),
        "entries": [number(row.get(key)) for key in keys],
        "fit": words.capital(row.get("stop_reason", "")),
    }
