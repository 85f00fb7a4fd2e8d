"""What the linked pictures of a page are told: arrays, colours, windows and panels."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import colormaps

from pdip.report.overview import ERROR_MAP, IMAGE_MAP, RATIO_MAP, RATIO_STEPS, UNIT, window


@dataclass(frozen=True)
class PagePanel:
    """One picture: which values it shows, how they are coloured, and whose sliders it obeys."""

    map: str
    title: str
    window: str
    colours: str = ERROR_MAP
    unit: str = UNIT
    steps: int = 0


@dataclass(frozen=True)
class PageWindow:
    """Limits of colours that panels share.

    Attributes:
        start: low and high at first.
        range: of the sliders.
        label: what the sliders are for.
        slides: whether there are any.
    """

    start: tuple[float, float]
    range: tuple[float, float]
    label: str = ""
    slides: bool = True


@dataclass(frozen=True)
class PageViewer:
    """Pictures of one shape with one cursor.

    Attributes:
        id: of the element.
        kind: "image", or "rays" for sinograms.
        shape: (slices, height, width).
        start: row and column of the cursor at first.
        main, more: panels, large and small.
        windows: by the names that panels use.
        labels: of the slices; one for a single image.
        ratio: width to height of each picture on the screen.
    """

    id: str
    kind: str
    shape: tuple[int, int, int]
    start: tuple[int, int]
    main: tuple[PagePanel, ...]
    windows: Mapping[str, PageWindow]
    more: tuple[PagePanel, ...] = ()
    labels: tuple[str, ...] = field(default=("",))
    ratio: float = 1.0

    def settings(self) -> dict[str, Any]:
        """What the script of the page needs."""
        return {
            "id": self.id,
            "kind": self.kind,
            "shape": self.shape,
            "start": self.start,
            "labels": self.labels,
            "windows": {
                name: {"start": one.start, "range": one.range} for name, one in self.windows.items()
            },
        }


def image_viewer(
    image: np.ndarray,
    std: np.ndarray,
    truth: np.ndarray | None = None,
    recalibrated: np.ndarray | None = None,
    labels: Sequence[str] = ("",),
) -> PageViewer:
    """Reconstruction and std, large; bounds and what a truth or a check adds, small.

    Args:
        image, std: (slices, height, width), 1/mm; NaN where a slice has no result.
        truth, recalibrated: of the same shape, or None.
        labels: of the slices.
    """
    slices, height, width = image.shape
    finite = np.isfinite(image)
    shown = image if truth is None else truth
    low, high = window(shown[finite])
    top = window(std[finite])[1]
    error_top = top
    panels = [
        PagePanel("lower", "lower bound, 95 %", "image", IMAGE_MAP),
        PagePanel("upper", "upper bound, 95 %", "image", IMAGE_MAP),
    ]
    if recalibrated is not None:
        top = max(top, window(recalibrated)[1])
        panels.append(PagePanel("recalibrated", "std, recalibrated", "std"))
    windows = {}
    if truth is not None:
        error_top = window(np.abs(image - truth))[1]
        panels += [
            PagePanel("truth", "reference", "image", IMAGE_MAP),
            PagePanel("error", "|error|", "error"),
            PagePanel(
                "ratio", "|error| / std", "ratio", RATIO_MAP, "std", steps=len(RATIO_STEPS) - 1
            ),
        ]
        windows = {
            "error": PageWindow((0.0, error_top), (0.0, 1.5 * error_top), "|error|"),
            "ratio": PageWindow((RATIO_STEPS[0], RATIO_STEPS[-1]), (0.0, 1.0), slides=False),
        }
    spread = high - low
    return PageViewer(
        id="images",
        kind="image",
        shape=(slices, height, width),
        start=(height // 2, width // 2),
        main=(
            PagePanel("image", "reconstruction", "image", IMAGE_MAP),
            PagePanel("std", "standard deviation", "std"),
        ),
        more=tuple(panels),
        windows={
            "image": PageWindow((low, high), (low - 0.5 * spread, high + 0.5 * spread), "image"),
            "std": PageWindow((0.0, top), (0.0, 1.5 * top), "std"),
            **windows,
        },
        labels=tuple(labels),
        ratio=round(width / height, 4),
    )


def ray_viewer(share: np.ndarray) -> PageViewer:
    """|residual| of the sinogram over the std of its noise.

    Args:
        share: the residual of each ray over its noise std, (views, detectors); NaN for rays that
            are not used.
    """
    views, detectors = share.shape
    used = np.abs(share[np.isfinite(share)])
    top = window(used)[1]
    return PageViewer(
        id="rays",
        kind="rays",
        shape=(1, views, detectors),
        start=(views // 2, detectors // 2),
        main=(PagePanel("residual", "|residual|: down the views, across the detector", "residual",
                        unit="noise std of the ray"),),
        windows={"residual": PageWindow((0.0, top), (0.0, max(float(used.max()), 1.5 * top)),
                                        "|residual|")},
        ratio=2.4,
    )  # fmt: skip


def encoded(values: np.ndarray) -> str:
    """The values as little-endian float32 in base64."""
    return b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def colour_tables() -> dict[str, str]:
    """The colour maps of the panels, 256 colours of three bytes each, in base64."""
    places = np.linspace(0.0, 1.0, 256)
    return {
        name: b64encode(colormaps[name](places, bytes=True)[:, :3].tobytes()).decode()
        for name in (IMAGE_MAP, ERROR_MAP, RATIO_MAP)
    }
