"""What a command line of ``pdip reconstruct`` asks for, and the input that it names."""

import argparse
import functools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pdip.check_design import CheckDesign
from pdip.config import resolved_scan, settings_of
from pdip.device import checked_device
from pdip.errors import InputError
from pdip.run_directory import RunDirectory
from pdip.scan import (
    Scan,
    Stack,
    holds_stack,
    read_ground_truth,
    read_on_likely_axis,
    read_scan,
    read_stack,
    read_true_slices,
)
from pdip.settings import Settings
from pdip.typing import Image


@dataclass(frozen=True)
class Request:
    """A run that was asked for.

    Attributes:
        settings: of all stages.
        reading: how the input is read, the section ``scan`` of the settings.
        directory: where the run goes.
        source: the files ``sinogram``, ``geometry`` and ``ground_truth``.
        is_stack: whether the sinogram is a stack of slices.
        check: whether the calibration is to be checked.
    """

    settings: Settings
    reading: dict[str, Any]
    directory: RunDirectory
    source: Mapping[str, str | None]
    is_stack: bool
    check: bool

    @classmethod
    def of(cls, command: argparse.Namespace) -> "Request":
        """The request of a command line, checked as far as it can be without the input.

        Raises:
            InputError: a setting cannot be used, or an option does not go with the input.
        """
        sections = settings_of(command)
        reading = resolved_scan(sections.pop("scan"))
        for name in ("flat", "dark"):
            if isinstance(reading[name], str):  # to be found from another folder, too
                reading[name] = os.path.abspath(reading[name])
        settings = Settings.of(sections)
        checked_device(settings.ray.get("device", "cpu"))
        directory = RunDirectory(command.out or Path("runs") / Path(command.sinogram).stem)
        source = {name: vars(command)[name] for name in ("sinogram", "geometry", "ground_truth")}
        is_stack = reading["row"] is None and holds_stack(command.sinogram, reading["dataset"])
        if is_stack and command.check_calibration:
            raise InputError(
                f"--check-calibration checks a single scan, but {command.sinogram} holds a stack; "
                "name one slice of it with --row."
            )
        if not is_stack and reading.pop("slices") is not None:
            if reading["row"] is not None:
                raise InputError("--row names one slice, --rows several; give one of them.")
            raise InputError(
                f"--slices selects from a stack (slices, views, detectors), but {command.sinogram} "
                "holds a single scan; leave it out."
            )
        return cls(settings, reading, directory, source, is_stack, command.check_calibration)

    @property
    def resolved(self) -> dict[str, dict[str, Any]]:
        """All settings with their values, as the folder of the run keeps them."""
        return {"scan": self.reading, **self.settings.resolved()}

    def scan(self) -> tuple[Scan, Image | None]:
        """The scan and the truth that it comes with, if any.

        Raises:
            InputError: a file cannot be used, or no check can be made of this scan.
        """
        scan, checked = self._read(read_scan)
        read = functools.partial(read_ground_truth, row=self.reading["row"])
        truth, assumed = read_truth(self.source, read, scan.grid, self.reading["dataset"])
        if truth is not None and truth.min() == truth.max():
            raise InputError(
                f"the ground truth is {float(truth.min()):g} in every pixel, which gives no "
                "scores; name another image with --ground-truth, or remove it."
            )
        assumed = [*assumed, *self._finer_rays(scan), *checked]
        scan = replace(scan, assumptions=(*scan.assumptions, *assumed))
        if self.check:
            CheckDesign(**self.settings.calibration).withheld(scan)
        return scan, truth

    def stack(self) -> tuple[Stack, Mapping[int, Image] | None]:
        """The stack and the truths of its slices, if any.

        Raises:
            InputError: a file cannot be used.
        """
        stack, checked = self._read(read_stack)
        truths, assumed = read_truth(self.source, read_true_slices, stack, self.reading["dataset"])
        assumed = [*assumed, *self._finer_rays(stack), *checked]
        return replace(stack, assumptions=(*stack.assumptions, *assumed)), truths

    def _read(self, read: Callable) -> tuple[Scan | Stack, tuple[str, ...]]:
        """What is read by ``read``, and what speaks against it."""
        files = self.source["sinogram"], self.source["geometry"]
        return read_on_likely_axis(
            lambda cor: read(*files, **{**self.reading, "cor": cor}), self.reading["cor"]
        )

    def _finer_rays(self, scan: Scan | Stack) -> tuple[str, ...]:
        """What to say where several detector elements see one pixel: they only take longer."""
        width = scan.grid.pixel_mm / scan.geometry.covering_grid().pixel_mm
        elements = scan.geometry.num_detectors
        joined = [n for n in range(2, math.floor(width + 1e-6) + 1) if elements % n == 0]
        if not joined:
            return ()
        return (
            f"A pixel is {width:.2g} detector elements wide; --binning "
            f"{self.reading['binning'] * joined[-1]} would join them, with fewer rays to compute "
            "with.",
        )


def read_truth(source: Mapping[str, str | None], read: Callable, place, dataset: str | None):
    """The truth that was named, or the one inside the scan file, or None; and what it assumes.

    Args:
        source: the files ``sinogram`` and ``ground_truth``.
        read: reads an image or a volume from a file, as it fits ``place``.
        place: the grid or the stack to compare with.
        dataset: of the sinogram in an HDF5 file.
    """
    assumed: list[str] = []
    if source["ground_truth"] is not None:
        truth = read(source["ground_truth"], place, assumed=assumed.append)
        if truth is None:
            raise InputError(
                f"{source['ground_truth']} holds neither 'ground_truth' nor 'reference'; name a "
                ".npy image or a .npz or HDF5 file with one of them."
            )
        return truth, assumed
    if Path(source["sinogram"]).suffix.lower() == ".npy":
        return None, assumed
    return read(source["sinogram"], place, dataset, assumed.append), assumed


def read_one(path: str, geometry: str | None, reading: Mapping[str, Any]) -> Scan:
    """A scan, or the one slice of a stack that was named.

    Raises:
        InputError: the file cannot be used, or it holds a stack and not one slice was named.
    """
    if reading["row"] is not None or not holds_stack(path, reading["dataset"]):
        return read_scan(path, geometry, **{k: v for k, v in reading.items() if k != "slices"})
    stack = read_stack(path, geometry, **reading)
    if len(stack.numbers) != 1:
        raise InputError(
            f"{path} holds a stack, and settings are compared on one slice; name it, for example "
            f"--row {stack.numbers[len(stack.numbers) // 2]}."
        )
    return stack.scan(stack.numbers[0])
