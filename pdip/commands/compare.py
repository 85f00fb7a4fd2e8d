"""``pdip compare``: two runs of one object beside each other, in a table and a figure."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pdip.calibration.intervals import half_width
from pdip.calibration_check import CHECK
from pdip.errors import InputError
from pdip.folder import Folder
from pdip.region import slice_directory
from pdip.report import draw_comparison
from pdip.report.words import number
from pdip.run_directory import ARRAYS, INPUT, SETTINGS, SUMMARY, RunDirectory
from pdip.scan import ImageGrid

HELP = "two runs of one object beside each other: numbers, settings that differ, a figure"
EXAMPLE = "pdip compare runs/first runs/second"
LEVEL = 0.95
NUMBERS = {
    "typical_noise_std": "typical noise std of a ray",
    "typical_noise_std_by_evidence": "… by the evidence",
    "noise_std": "noise std of a ray of weight 1", "noise_std_by_evidence": "… by the evidence",
    "log_evidence": "log evidence (nats)", "mean_std": "mean std (1/mm)", "psnr": "PSNR (dB)",
    "ssim": "SSIM", "relative_l2": "relative l2 error",
    "coverage_95": "coverage of the 95 % interval",
    "log_likelihood_per_pixel": "log-likelihood per pixel (nats)",
}  # fmt: skip
"""Of the summaries, as rows of the table; those that neither run has are left out."""
MADE_OF = ("sinogram", "weights", "geometry")
"""What of the input makes the data of a run."""


@dataclass(frozen=True)
class FinishedRun:
    """What is compared of a run.

    Attributes:
        name: of its folder.
        image, std: (height, width), 1/mm.
        grid: their pixels.
        summary: the ``summary.json``.
        settings: all, by ``section.key``.
        made_of: the scan, as ``input.json`` says.
    """

    name: str
    image: np.ndarray
    std: np.ndarray
    grid: ImageGrid
    summary: Mapping[str, Any]
    settings: Mapping[str, Any]
    made_of: Mapping[str, Any]

    @classmethod
    def read(cls, path: str, number: int | None) -> "FinishedRun":
        """The run in a folder, or that of slice ``number`` of its stack.

        Raises:
            InputError: no finished run is there, or a file is damaged.
        """
        directory = slice_directory(RunDirectory(path), number)
        if not directory.finished:
            raise InputError(
                f"{directory.path} holds no finished run ({SUMMARY} is not there); name the folder "
                "of one."
            )
        with directory.understood():
            return cls._read(str(path), directory)

    @classmethod
    def _read(cls, name: str, directory: RunDirectory) -> "FinishedRun":
        image, std = (directory.read_array(name) for name in ARRAYS[:2])
        kept = directory.read_yaml(SETTINGS)
        settings = {f"{s}.{key}": value for s, keys in kept.items() for key, value in keys.items()}
        summary, made_of = directory.read_json(SUMMARY), directory.read_json(INPUT)
        if not isinstance(summary, dict) or not isinstance(summary.get("stages"), dict):
            raise TypeError(f"{SUMMARY} names no stages")
        return cls(name, image, std, directory.grid(), summary, settings, made_of)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``pdip compare``."""
    parser.add_argument("first", metavar="RUN_A", help="folder of a finished run")
    parser.add_argument("second", metavar="RUN_B", help="folder of another one on the same pixels")
    parser.add_argument("--slice", metavar="N", type=int, help="slice, of a run of a stack")
    parser.add_argument("--out", metavar="F.png", help="the figure [runs/<A>-<B>.png]")


def run(command: argparse.Namespace) -> int:
    """Print the table and write the figure.

    Raises:
        InputError: a run is not finished, they have different pixels, or a slice is named where
            neither is of a stack.
    """
    paths = command.first, command.second
    stacks = [bool(RunDirectory(path).slice_numbers()) for path in paths]
    numbers = [command.slice if stack or not any(stacks) else None for stack in stacks]
    first, second = map(FinishedRun.read, paths, numbers)
    check_same_pixels(first, second)
    place = Path(command.out or Path("runs", _figure_name(first, second)))
    if place.suffix.lower() != ".png":
        raise InputError(f"--out names a figure, expected F.png, got {place}.")
    for line in table(first, second):
        print(line)
    folder = Folder(place.parent)
    folder.make()
    folder.write_figure(place.name, lambda: draw_comparison(first, second))
    print(f"written: {place}")
    return 0


def check_same_pixels(first: FinishedRun, second: FinishedRun) -> None:
    """Raise InputError where the runs have different grids."""
    if first.grid != second.grid:
        one, other = (
            f"{run.grid.shape[0]} x {run.grid.shape[1]} pixels of {run.grid.pixel_mm:.6g} mm "
            f"({run.name})"
            for run in (first, second)
        )
        raise InputError(
            f"expected two runs on the same pixels, got {one} and {other}; reconstruct both with "
            "the same geometry and --image-size."
        )


def differences(first: FinishedRun, second: FinishedRun) -> dict[str, float]:
    """How far the images are apart: root mean square in 1/mm, and the share beyond both std.

    A pixel counts where ``|a - b| > q sqrt(s_a² + s_b²)``, q the half width of a Gaussian's 95 %
    interval: as many as 5 % would, were the errors of the two independent and their std right.
    """
    apart = second.image.astype(np.float64) - first.image
    joint = np.hypot(first.std.astype(np.float64), second.std)
    return {
        "RMS difference of the images (1/mm)": float(np.sqrt(np.mean(apart**2))),
        "share of pixels beyond the joint 95 % interval": float(
            np.mean(np.abs(apart) > half_width(LEVEL) * joint)
        ),
    }


def table(first: FinishedRun, second: FinishedRun) -> list[str]:
    """Numbers of both runs, what lies between them, and the settings that differ."""
    rows = [("", first.name, second.name)]
    for key, name in NUMBERS.items():
        values = [run.summary.get(key) for run in (first, second)]
        if values != [None, None]:
            rows.append((name, *map(number, values)))
    for name, of_check in (("seconds", False), ("seconds of the calibration check", True)):
        seconds = [_seconds(run.summary["stages"], of_check) for run in (first, second)]
        if seconds != [None, None]:
            rows.append((name, *("–" if s is None else f"{s:.1f}" for s in seconds)))
    differing = [
        (key, *(_told(run.settings, key) for run in (first, second)))
        for key in dict.fromkeys([*first.settings, *second.settings])
        if first.settings.get(key, ...) != second.settings.get(key, ...)
    ]
    widths = [max(len(row[column]) for row in [*rows, *differing]) for column in range(3)]
    lines = _aligned(rows, widths)
    lines += [f"{name}: {value:.4g}" for name, value in differences(first, second).items()]
    other = [key for key in MADE_OF if first.made_of.get(key) != second.made_of.get(key)]
    if other:
        lines.append(f"the scans differ ({', '.join(other)}): their evidences do not compare")
    if not differing:
        return [*lines, "no setting differs"]
    return [*lines, "settings that differ:", *_aligned(differing, widths)]


def _seconds(stages: Mapping[str, Any], of_check: bool) -> float | None:
    """Of the stages of the check, or of all others; None where there are none."""
    own = [c["seconds"] for name, c in stages.items() if name.startswith(f"{CHECK}: ") == of_check]
    return sum(own) if own else None


def _told(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "not there"


def _aligned(rows: list[tuple[str, str, str]], widths: list[int]) -> list[str]:
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _figure_name(first: FinishedRun, second: FinishedRun) -> str:
    return f"{Path(first.name).resolve().name}-{Path(second.name).resolve().name}.png"
