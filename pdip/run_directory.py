"""A run's folder: the names in it, when it may be taken, and what goes when it is taken anew."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pdip.errors import InputError, OutputError
from pdip.folder import AGAIN, Folder
from pdip.folder_lock import FolderLock
from pdip.ranks import by_first, rank
from pdip.run_identity import differences, fingerprint, rounding, surroundings, withholds_others
from pdip.scan import ImageGrid, Scan, Stack

ARRAYS = ("reconstruction.npy", "std.npy", "posterior_mean.npy")
POSTERIOR, SUMMARY, OVERVIEW = "posterior.safetensors", "summary.json", "overview.png"
SETTINGS, INPUT = "settings.yaml", "input.json"
CALIBRATION, RECALIBRATED, BOUNDS = "calibration.png", "std_recalibrated.npy", "bounds_95.npy"
REPORT, REPORT_DATA = "report.html", "report.safetensors"
CHECKPOINTS = (
    "fit.safetensors", "fit_without_held_out.safetensors", "evidence.safetensors",
    "check_fit.safetensors", "check_fit_without_held_out.safetensors",
    "check_evidence.safetensors",
)  # fmt: skip
ROTATION_AXIS = "rotation_axis.png"

SLICES = "slices"
"""Folder of the runs of a stack's slices, one folder each, named by its number."""

CANDIDATES = "candidates"
"""Folder of the settings that ``pdip select`` compares, one folder each."""

SELECTION, WINNER, SCORE = "select.json", "winner.yaml", "score.safetensors"

EXPORTED = (
    *(name.replace(".npy", ".tif") for name in (*ARRAYS, RECALIBRATED, BOUNDS)),
    "result.h5", "result.npz",
)  # fmt: skip
"""Files of ``pdip export``, which are of no use once the run beside them is another."""

EVALUATION = "evaluation.json"
"""Every score of a run against the truth, as ``experiments/evaluate_calibration.py`` writes it."""

EVALUATED = (EVALUATION, "evaluation.png", "evaluation.pdf")
"""The scores and their figure: no part of a run, and of no use once it is another."""

FILES = (
    *EXPORTED,
    *ARRAYS, POSTERIOR, SUMMARY, OVERVIEW, REPORT, REPORT_DATA, ROTATION_AXIS, CALIBRATION,
    RECALIBRATED, BOUNDS,
    SELECTION, WINNER, SCORE, *CHECKPOINTS, SETTINGS, INPUT,
)  # fmt: skip
"""All that a finished run leaves; else only :data:`UNFINISHED` and the folders of its parts,
:data:`SLICES` and :data:`CANDIDATES`, are touched.

In the order in which they are removed: what says whose files these are goes last.
"""

CHECK_STAGES = "check_*.safetensors"
"""Those of :data:`CHECKPOINTS`, and states on the way to them, that a check leaves."""

UNFINISHED = "unfinished"
"""Folder inside the run's that holds the states of unfinished stages until the run is done."""

GRID, MADE_WITH, COMMAND = "grid", "made with", "command"
"""What the input says beside its fingerprint; not compared."""


class RunDirectory(Folder):
    """One run's folder.

    A folder that already holds a run is taken only to go on with it (``resume``) or to replace
    it (``overwrite``); other people's files in it are left alone either way.

    Args:
        path: the folder; made, with its parents, by :meth:`begin`.

    Attributes:
        assumptions: what is assumed by going on with the run in the folder.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.assumptions: tuple[str, ...] = ()
        self._lock: FolderLock | None = None

    @by_first
    def begin(
        self,
        scan: Scan | Stack,
        settings: dict[str, dict],
        *,
        resume: bool = False,
        overwrite: bool = False,
        command: Mapping[str, Any] | None = None,
        alone: bool = False,
    ) -> None:
        """Make the folder ready and write down what the run is made of.

        Args:
            scan: the scan as it is used, after thinning of views, or the stack of them.
            settings: all settings with their values, as plain data.
            resume: go on with a run of the same scan and settings; a folder without one is new.
            overwrite: remove the files of an earlier run.
            command: what the run was asked for, kept for whoever goes on with it.
            alone: keep other processes out of the folder until :meth:`release`.

        Raises:
            InputError: a run is there already, it differs, another process works on it, or the
                folder cannot be written.
        """
        present = self.free(resume=resume, overwrite=overwrite)
        found, parts, outdated = fingerprint(scan), [surroundings(settings)], False
        if present and present != [SETTINGS] and not overwrite:  # else nothing was computed yet
            before, old = self._earlier_parts(found, settings)
            parts = before if before[-1:] == parts else before + parts
            outdated = withholds_others(old, settings)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if alone:
                self._lock = FolderLock(self.path)
            if overwrite:
                self._clear()
            elif present:
                self._sweep(outdated)
            else:
                self._remove(())  # states of a run that is not there any more
            self.write_yaml(SETTINGS, settings)
            asked = {} if command is None else {COMMAND: dict(command)}
            self.write_json(INPUT, {**found, GRID: asdict(scan.grid), MADE_WITH: parts, **asked})
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written ({error.strerror or error}); name another --out."
            ) from None
        except OutputError as error:
            raise InputError(f"{error}; make room or name another --out.") from None
        self.assumptions = rounding(parts)
        if alone and resume and not present:
            self.assumptions = (
                f"there was no run in {self.path} to go on with: this is a new one",
            )

    def release(self) -> None:
        """Let other processes into the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def free(self, *, resume: bool, overwrite: bool) -> list[str]:
        """The files of a run that are there already, where that is not in the way.

        Raises:
            InputError: a run is there and neither to go on with nor to be replaced, or the folder
                is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--out {self.path} is a file; name a folder.")
        present = [name for name in FILES if (self.path / name).exists()]
        if present and not resume and not overwrite:
            raise InputError(
                f"{self.path} already holds a run ({present[0]}); go on with it (--resume), "
                "replace it (--overwrite) or name another folder (--out)."
            )
        return present

    def _clear(self) -> None:
        """Remove what a run leaves and what was made of it, that of its parts first."""
        for part in (*map(self.slice, self.slice_numbers()), *self._candidates()):
            part._clear()
            _remove_empty(part.path)
        for folder in (SLICES, CANDIDATES):
            _remove_empty(self.path / folder)
        self._remove((*EVALUATED, *FILES))

    def slice(self, number: int) -> "RunDirectory":
        """The folder of the run of one slice of a stack."""
        return RunDirectory(self.path / SLICES / f"{number:04d}")

    def slice_numbers(self) -> list[int]:
        """The slices that have a folder, in order; none for the run of a single scan."""
        names = (path.name for path in (self.path / SLICES).glob("[0-9]*") if path.is_dir())
        return sorted(int(name) for name in names if name.isdigit())

    def candidate(self, name: str) -> "RunDirectory":
        """The folder of one of the settings that are compared."""
        return RunDirectory(self.path / CANDIDATES / name)

    def _candidates(self) -> list["RunDirectory"]:
        return [RunDirectory(path) for path in (self.path / CANDIDATES).glob("*") if path.is_dir()]

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end: ``summary.json`` is written last."""
        return self.holds(SUMMARY)

    def grid(self) -> ImageGrid:
        """The pixels of the run's images.

        Raises:
            InputError: no run is in the folder, or one that did not write them down.
        """
        stored = self.read_json(INPUT)
        if GRID not in stored:
            raise InputError(
                f"{self.path / INPUT} is from an earlier pdip and has no {GRID!r}; the command "
                "that made it writes it again with --resume."
            )
        return ImageGrid(**stored[GRID])

    def forget(self) -> None:
        """Take back :meth:`begin` where no stage has left anything: a run that was no run."""
        if rank() > 0 or self.slice_numbers() or self._candidates():
            return
        if any((self.path / name).exists() for name in FILES if name not in (SETTINGS, INPUT)):
            return
        self._remove((SETTINGS, INPUT))
        self.release()
        for folder in (self.path / SLICES, self.path / CANDIDATES, self.path):
            _remove_empty(folder)

    def finish(self) -> None:
        """Remove the states of unfinished stages: the run is done."""
        if rank() > 0:
            return
        with contextlib.suppress(OSError):  # they are in nobody's way
            self._remove(())

    def _remove(self, names) -> None:
        """Remove these files, all states, and what a killed process was writing."""
        self._sweep()
        for state in (self.path / UNFINISHED).glob("*.safetensors"):
            state.unlink(missing_ok=True)
        _remove_empty(self.path / UNFINISHED)
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def _sweep(self, outdated_check: bool = False) -> None:
        """Remove what a killed process was writing, and stages of a check of other rays."""
        if outdated_check:
            for folder in (self.path, self.path / UNFINISHED):
                for stage in folder.glob(CHECK_STAGES):
                    stage.unlink(missing_ok=True)
        for partly in (self.path / UNFINISHED).glob(".*.partly"):
            partly.unlink(missing_ok=True)
        for name in FILES:
            for partly in self.path.glob(f".{name}.*.partly"):
                partly.unlink(missing_ok=True)

    def _earlier_parts(
        self, found: dict, settings: dict[str, dict]
    ) -> tuple[list[dict[str, str]], dict[str, dict]]:
        """The surroundings of the parts of the run so far, and its settings.

        Raises:
            InputError: the run in the folder is another one; what differs is named.
        """
        try:
            earlier, before = self.read_json(INPUT), self.read_yaml(SETTINGS)
            differing = differences(earlier, found, before, settings)
            parts = [dict(part) for part in earlier[MADE_WITH]]
        except (ValueError, TypeError, AttributeError, KeyError):
            raise InputError(
                f"{self.path} holds no run that can be resumed; replace it with --overwrite."
            ) from None
        if differing:
            raise InputError(
                f"{self.path} holds another run: {'; '.join(differing[:5])}; give the same input "
                "and settings, or start anew with --overwrite."
            )
        return parts, before

    @contextlib.contextmanager
    def understood(self) -> Iterator[None]:
        """Files of a run that hold other than expected, while they are read, are an InputError."""
        try:
            yield
        except (InputError, OutputError):
            raise
        except (LookupError, TypeError, AttributeError, ValueError, OSError) as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise InputError(
                f"the files in {self.path} are not those of a run of this pdip ({said}); {AGAIN}"
            ) from None


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
