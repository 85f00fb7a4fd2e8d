"""``report.html`` of a run, made from what its folder holds and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.ranks import by_first
from pdip.report import RunContents, VolumeContents, run_page, volume_page
from pdip.result import Result
from pdip.run_directory import (
    ARRAYS,
    CALIBRATION,
    INPUT,
    MADE_WITH,
    RECALIBRATED,
    REPORT,
    REPORT_DATA,
    ROTATION_AXIS,
    SETTINGS,
    SUMMARY,
    RunDirectory,
)
from pdip.scan import Scan, geometry_from_dict
from pdip.typing import Image

ABOVE = "../../" + REPORT
"""The page of a stack, seen from that of one of its slices."""


def ray_noise_std(result: Result, scan: Scan) -> Tensor:
    """``σ / sqrt(W)`` of every ray, (views, detectors); infinite for rays that are not used."""
    weights = torch.ones_like(scan.sinogram) if scan.weights is None else scan.weights
    return (result.fit.noise_std / weights.double().sqrt()).float().cpu()


def typical_noise_std(result: Result, scan: Scan) -> float:
    """The median over the rays that are used of :func:`ray_noise_std`, a line integral."""
    std = ray_noise_std(result, scan)
    return float(np.median(std[std.isfinite()].numpy()))


def typical_noise_std_by_evidence(result: Result, scan: Scan) -> float:
    """The same of the noise that the evidence chose, on which the error bars rest."""
    return typical_noise_std(result, scan) * result.noise_std_by_evidence / result.fit.noise_std


def keep_report_data(
    directory: RunDirectory, result: Result, scan: Scan, truth: Image | None
) -> None:
    """Keep what the page shows and no other file of the folder has: residual, histories, truth."""
    data = result.evidence[0].model.ray
    image = result.image.to(device=data.device, dtype=data.dtype)
    residual = scan.sinogram.to(image) - data.forward(image)
    noise_std = ray_noise_std(result, scan)
    residual = residual.masked_fill(noise_std.isinf().to(residual.device), torch.nan)
    tensors: dict[str, Tensor] = {
        "residual": residual.detach().float().cpu(),
        "ray_noise_std": noise_std,
    }
    if truth is not None:
        tensors["truth"] = truth.detach().float().cpu()
    record = {
        "geometry": scan.geometry.to_dict(),
        "fits": [fit.history for fit in result.fit.restarts],
        "searches": [found.history["objective"] for found in result.evidence],
    }
    directory.write_tensors(REPORT_DATA, tensors, record)


@by_first
def write_report(directory: RunDirectory, numbers: Mapping[str, Any]) -> None:
    """Write the page of a run of one scan.

    Args:
        directory: with all files of the run but perhaps its summary.
        numbers: what ``summary.json`` holds or is about to.

    Raises:
        InputError: a file is missing or damaged.
    """
    directory.write_text(REPORT, run_page(run_contents(directory, numbers)))


@by_first
def write_volume_report(directory: RunDirectory, numbers: Mapping[str, Any]) -> None:
    """Write the page of a stack, as :func:`write_report` that of a scan."""
    image, std = (directory.read_array(name) for name in ARRAYS[:2])
    slices = [row["slice"] for row in numbers["slices"]]
    links = {
        number: f"{directory.slice(number).path.relative_to(directory.path).as_posix()}/{REPORT}"
        for number in slices
        if directory.slice(number).holds(REPORT)
    }
    contents = VolumeContents(
        title=_title(numbers, directory.path),
        image=image,
        std=std,
        numbers=slices,
        links=links,
        grid=directory.grid(),
        summary=numbers,
        settings=directory.read_yaml(SETTINGS),
        parts=directory.read_json(INPUT)[MADE_WITH],
        axis=_picture(directory, ROTATION_AXIS),
    )
    directory.write_text(REPORT, volume_page(contents))


def run_contents(directory: RunDirectory, numbers: Mapping[str, Any]) -> RunContents:
    """What the folder of a run holds, as its page needs it."""
    if not directory.holds(REPORT_DATA):
        raise InputError(
            f"{directory.path} has no {REPORT_DATA}, which runs of an earlier pdip did not keep; "
            "the command that made it writes it with --resume."
        )
    tensors, record = directory.read_tensors(REPORT_DATA)
    image, std = (directory.read_array(name) for name in ARRAYS[:2])
    in_stack = numbers["source"].get("slice") is not None
    checked = "calibration" in numbers
    return RunContents(
        title=_title(numbers, directory.path),
        image=image,
        std=std,
        grid=directory.grid(),
        geometry=geometry_from_dict(record["geometry"]),
        residual=tensors["residual"].numpy(),
        ray_noise_std=tensors["ray_noise_std"].numpy(),
        truth=tensors["truth"].numpy() if "truth" in tensors else None,
        recalibrated=directory.read_array(RECALIBRATED) if directory.holds(RECALIBRATED) else None,
        summary=numbers,
        settings=directory.read_yaml(SETTINGS),
        fits=record["fits"],
        searches=record["searches"],
        parts=directory.read_json(INPUT)[MADE_WITH],
        calibration=_picture(directory, CALIBRATION) if checked else None,
        axis=_picture(directory, ROTATION_AXIS),
        above=ABOVE if in_stack else "",
    )


def rebuilt(directory: RunDirectory) -> int:
    """Write the page of a finished run again, and for a stack those of its slices.

    Returns:
        how many pages.

    Raises:
        InputError: the run is not finished, or a file is missing or damaged.
    """
    if not directory.finished:
        raise InputError(
            f"{directory.path} holds no finished run ({SUMMARY} is not there); finish it with pdip "
            "resume, or name another folder."
        )
    with directory.understood():
        return _rebuilt(directory, directory.read_json(SUMMARY))


def _rebuilt(directory: RunDirectory, numbers: Mapping[str, Any]) -> int:
    if "slices" not in numbers:
        write_report(directory, numbers)
        return 1
    done = [row["slice"] for row in numbers["slices"] if "failure" not in row]
    for number in done:
        folder = directory.slice(number)
        write_report(folder, folder.read_json(SUMMARY))
    write_volume_report(directory, numbers)
    return len(done) + 1


def _picture(directory: RunDirectory, name: str) -> bytes | None:
    return (directory.path / name).read_bytes() if directory.holds(name) else None


def _title(numbers: Mapping[str, Any], folder: Path) -> str:
    name = Path(numbers["source"].get("sinogram") or folder).name
    number = numbers["source"].get("slice")
    return name if number is None else f"{name}, slice {number}"
