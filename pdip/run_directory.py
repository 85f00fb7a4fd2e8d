"""A run's folder: every file is written whole or not at all, and finished stages are kept."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
import yaml
from torch import Tensor

from pdip.errors import InputError
from pdip.scan import Scan, Stack

ARRAYS = ("reconstruction.npy", "std.npy", "posterior_mean.npy")
POSTERIOR, SUMMARY, OVERVIEW = "posterior.safetensors", "summary.json", "overview.png"
SETTINGS, INPUT = "settings.yaml", "input.json"
CHECKPOINTS = (
    "fit.safetensors", "fit_without_held_out.safetensors", "evidence.safetensors",
)  # fmt: skip
FILES = (*ARRAYS, POSTERIOR, SUMMARY, OVERVIEW, SETTINGS, INPUT, *CHECKPOINTS)
"""All that a run ever writes; nothing else in the folder is touched."""
SLICES = "slices"
"""Folder of the runs of a stack's slices, one folder each, named by its number."""

ANYWHERE = {("ray", "device")}
"""Settings in which a resumed run may differ from the first part."""


class RunDirectory:
    """One run's folder. The only place where pdip writes files.

    A folder that already holds a run is taken only to go on with it (``resume``) or to replace
    it (``overwrite``); other people's files in it are left alone either way.

    Args:
        path: the folder; made, with its parents, by :meth:`begin`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def begin(
        self,
        scan: Scan | Stack,
        settings: dict[str, dict],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Make the folder ready and write down what the run is made of.

        Args:
            scan: the scan as it is used, after thinning of views, or the stack of them.
            settings: all settings with their values, as plain data.
            resume: go on with a run of the same scan and settings; a folder without one is new.
            overwrite: remove the files of an earlier run.

        Raises:
            InputError: a run is there already, it differs, or the folder cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--out {self.path} is a file; name a folder.")
        present = [name for name in FILES if (self.path / name).exists()]
        if present and not resume and not overwrite:
            raise InputError(
                f"{self.path} already holds a run ({present[0]}); go on with it (--resume), "
                "replace it (--overwrite) or name another folder (--out)."
            )
        found = fingerprint(scan)
        if present and not overwrite:
            self._check_same(found, settings)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self._clear()
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written ({error.strerror or error}); name another --out."
            ) from None
        self.write_text(SETTINGS, yaml.safe_dump(settings, sort_keys=False))
        self.write_json(INPUT, found)

    def _clear(self) -> None:
        """Remove the files of a run, those of its slices too."""
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        slices = [self.slice(number) for number in self.slice_numbers()]
        for folder in slices:
            folder._clear()
            if not any(folder.path.iterdir()):
                folder.path.rmdir()
        if slices and not any((self.path / SLICES).iterdir()):
            (self.path / SLICES).rmdir()

    def slice(self, number: int) -> "RunDirectory":
        """The folder of the run of one slice of a stack."""
        return RunDirectory(self.path / SLICES / f"{number:04d}")

    def slice_numbers(self) -> list[int]:
        """The slices that have a folder, in order; none for the run of a single scan."""
        names = (path.name for path in (self.path / SLICES).glob("[0-9]*") if path.is_dir())
        return sorted(int(name) for name in names if name.isdigit())

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end: ``summary.json`` is written last."""
        return (self.path / SUMMARY).exists()

    def forget(self) -> None:
        """Take back :meth:`begin` where no stage has left anything: a run that was no run."""
        for number in self.slice_numbers():
            self.slice(number).forget()
        kept = [name for name in FILES if name not in (SETTINGS, INPUT)]
        if self.slice_numbers() or any((self.path / name).exists() for name in kept):
            return
        for name in (SETTINGS, INPUT):
            (self.path / name).unlink(missing_ok=True)
        for folder in (self.path / SLICES, self.path):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _check_same(self, found: dict, settings: dict[str, dict]) -> None:
        """Raise InputError that names what differs from the run in the folder."""
        try:
            earlier = json.loads((self.path / INPUT).read_text(encoding="utf-8"))
            before = yaml.safe_load((self.path / SETTINGS).read_text(encoding="utf-8"))
            differing = [f"the {key} differs" for key in found if earlier.get(key) != found[key]]
            old, new = _flat(before), _flat(settings)
        except (OSError, ValueError, AttributeError, yaml.YAMLError):
            raise InputError(
                f"{self.path} holds no run that can be resumed; replace it with --overwrite."
            ) from None
        differing += [
            f"{'.'.join(key)} was {old.get(key, 'not there')} and is now {new.get(key, 'gone')}"
            for key in sorted(old.keys() | new.keys())
            if key not in ANYWHERE and old.get(key) != new.get(key)
        ]
        if differing:
            raise InputError(
                f"{self.path} holds another run: {'; '.join(differing[:5])}; give the same input "
                "and settings, or start anew with --overwrite."
            )

    def write_array(self, name: str, values: Tensor) -> None:
        """An image as float32 ``.npy``."""
        array = values.detach().cpu().numpy().astype(np.float32)
        self.write(name, lambda stream: np.save(stream, array, allow_pickle=False))

    def write_volume(self, name: str, slices: Iterable[np.ndarray], shape) -> None:
        """Images one after another as one float32 ``.npy`` (slices, height, width)."""

        def fill(stream) -> None:
            header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(stream, header)
            for image in slices:
                stream.write(np.ascontiguousarray(image, "<f4").tobytes())

        self.write(name, fill)

    def write_figure(self, name: str, figure) -> None:
        """A matplotlib figure as PNG."""
        self.write(name, lambda stream: figure.savefig(stream, format="png", dpi=150))

    def write_json(self, name: str, values) -> None:
        """Strict JSON: numbers that are NaN or infinite become null."""
        text = json.dumps(strict(values), indent=2, ensure_ascii=False, allow_nan=False)
        self.write_text(name, text + "\n")

    def write_text(self, name: str, text: str) -> None:
        """UTF-8 text."""
        self.write(name, lambda stream: stream.write(text.encode("utf-8")))

    def write_tensors(self, name: str, tensors: dict[str, Tensor], record) -> None:
        """Tensors in safetensors format with a record as JSON in the header."""
        separate = {"memory_format": torch.contiguous_format}  # the format takes no shared memory
        content = {key: value.detach().cpu().clone(**separate) for key, value in tensors.items()}
        header = {"record": json.dumps(strict(record), allow_nan=False)}
        self.write(
            name, lambda stream: stream.write(safetensors.torch.save(content, metadata=header))
        )

    def write(self, name: str, fill: Callable) -> None:
        """Write a file whole or not at all: beside its place first, then moved there."""
        unfinished = self.path / f".{name}.{os.getpid()}.unfinished"
        try:
            with unfinished.open("wb") as stream:
                fill(stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(unfinished, self.path / name)
        finally:
            unfinished.unlink(missing_ok=True)

    def read_json(self, name: str):
        """What a file that :meth:`write_json` wrote holds.

        Raises:
            InputError: there is no such file, or it is damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(
                f"{self.path / name} is missing or damaged; start the run anew with --overwrite."
            ) from None

    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict]:
        """Tensors and record of a file that :meth:`write_tensors` wrote.

        Raises:
            InputError: there is no such file, or it is damaged.
        """
        path = self.path / name
        if not path.is_file():
            raise InputError(f"{path} does not exist; name the folder of a finished run.")
        try:
            with safetensors.safe_open(path, framework="pt") as stored:
                record = json.loads(stored.metadata()["record"])
                return {key: stored.get_tensor(key) for key in stored.keys()}, record
        except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError):
            raise InputError(f"{path} is damaged; start the run anew with --overwrite.") from None


def fingerprint(scan: Scan | Stack) -> dict[str, str]:
    """What the scan is made of, short enough to keep and compare; each slice has its own."""
    if isinstance(scan, Stack):
        return {
            "selection of slices": repr(scan.numbers),
            "shape of the stack": repr(tuple(scan.sinograms.shape)),
            "geometry": hashlib.sha256(repr(scan.geometry).encode()).hexdigest(),
            "image grid": repr(scan.grid),
        }
    weights = b"" if scan.weights is None else scan.weights.cpu().numpy().tobytes()
    return {
        "sinogram": hashlib.sha256(scan.sinogram.cpu().numpy().tobytes()).hexdigest(),
        "weights": hashlib.sha256(weights).hexdigest(),
        "geometry": hashlib.sha256(repr(scan.geometry).encode()).hexdigest(),
        "image grid": repr(scan.grid),
    }


def strict(value):
    """The value as strict JSON has it: NaN and infinities are None, tuples lists."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _flat(sections: dict[str, dict]) -> dict[tuple[str, str], object]:
    return {
        (section, key): value for section, keys in sections.items() for key, value in keys.items()
    }
