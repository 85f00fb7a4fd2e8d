"""A stack of slices, each a run in a folder of its own that goes on from its neighbour's fit.

Weights that have been through many fits fit as well as fresh ones, in a quarter of the steps, but
the evidence then wants a wider prior, and the error bars grow along the stack. So every fifth slice
begins anew (docs/results.md has the numbers). Which ones do is decided by the number of the slice
in the file: the result of a slice does not depend on how the stack was cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from pdip.checkpoints import DirectoryCheckpoints
from pdip.device import checked_device
from pdip.dip import DIPFit
from pdip.errors import ComputationError, InputError
from pdip.pipeline import ray_of, reconstruct
from pdip.ranks import alone, gather, share
from pdip.ray import RayTransform
from pdip.result import Result
from pdip.run_directory import RunDirectory
from pdip.scan import Scan, Stack
from pdip.settings import Settings
from pdip.stages import Observer

CHAIN_SLICES = 5
"""Slices 0, 5, 10, ... begin from random weights, those between from the slice before."""


@dataclass(frozen=True)
class SliceOutcome:
    """How the run of one slice ended.

    Attributes:
        number: of the slice in the stack.
        failure: why it has no result; None where it has one.
    """

    number: int
    failure: InputError | ComputationError | None = None


@dataclass(frozen=True)
class StackRun:
    """The runs of all slices of a stack.

    Args:
        stack: the slices.
        settings: of every slice.
        reading: how the stack was read, the section ``scan`` of the settings.
        directory: of the stack, begun; that of each slice is made in it.
        observer: makes the one that is told about a slice, from its number.
        write: writes the files of a finished slice: ``write(folder, result, scan, number)``.
    """

    stack: Stack
    settings: Settings
    reading: dict
    directory: RunDirectory
    observer: Callable[[int], Observer]
    write: Callable[[RunDirectory, Result, Scan, int], None]

    def outcomes(
        self, ended: Callable[[SliceOutcome], None], *, resume: bool
    ) -> list[SliceOutcome]:
        """Reconstruct every slice; each goes on from the last one of its chain that has a fit.

        A slice that cannot be read or has no honest result does not end the run. Of several ranks
        each does its share of the chains, alone; all return the outcomes of all.

        Args:
            ended: called with each outcome, those of other ranks' slices at the end.
            resume: go on with the slices that were begun, try those without a result again, and
                pass over those that are finished.

        Raises:
            InputError: the folder of a slice holds another run.
            OutputError: the result of a slice cannot be written.
            LostRank: another process is gone.
        """
        settings = on_own_device(self.settings)
        own = []
        for chain in share(chains(self.stack.numbers)):
            last = None
            for number in chain:
                with alone():
                    outcome = self._outcome(number, last, settings, resume)
                if outcome.failure is None:
                    last = number
                own.append(outcome)
                ended(outcome)
        outcomes, told = gather(own), {outcome.number for outcome in own}
        for outcome in outcomes:
            if outcome.number not in told:
                ended(outcome)
        return outcomes

    def _outcome(
        self, number: int, last: int | None, settings: Settings, resume: bool
    ) -> SliceOutcome:
        folder, observer = self.directory.slice(number), self.observer(number)
        try:
            scan = self.stack.scan(number)
        except InputError as error:
            return SliceOutcome(number, error)
        sections = {"scan": {**self.reading, "slices": number}, **self.settings.resolved()}
        folder.begin(scan, sections, resume=resume)
        if not folder.finished:
            try:
                before, assumed = self._before(last, ray_of(scan, settings), observer)
                scan = replace(scan, assumptions=(*scan.assumptions, *assumed))
                checkpoints = DirectoryCheckpoints(folder, observer.warned)
                result = reconstruct(
                    scan, settings, before=before, observer=observer, checkpoints=checkpoints
                )
            except (InputError, ComputationError) as error:
                folder.forget()
                return SliceOutcome(number, error)
            self.write(folder, result, scan, number)
        folder.finish()
        return SliceOutcome(number)

    def _before(
        self, number: int | None, ray: RayTransform, observer: Observer
    ) -> tuple[DIPFit | None, list[str]]:
        """The fit to go on from, always from its folder: as it would be after a resume.

        None for the first slice of a chain, and, which is assumed, where there is none any more.
        """
        if number is None:
            return None, []
        checkpoints = DirectoryCheckpoints(self.directory.slice(number), observer.warned)
        found = checkpoints.load_fit("fit", ray)
        if found is None:
            return None, [
                f"the fit of slice {number} is missing or damaged, so that of this slice began "
                "from random weights"
            ]
        return found[0], []

    def write_volumes(self, outcomes: Sequence[SliceOutcome], names: Sequence[str]) -> None:
        """Put the arrays of the slices together, NaN where a slice has no result."""
        shape = (len(outcomes), *self.stack.grid.shape)
        for name in names:
            self.directory.write_volume(name, self._images(outcomes, name), shape)

    def _images(self, outcomes: Sequence[SliceOutcome], name: str) -> Iterator[np.ndarray]:
        for outcome in outcomes:
            if outcome.failure is None:
                yield np.load(self.directory.slice(outcome.number).path / name, allow_pickle=False)
            else:
                yield np.full(self.stack.grid.shape, np.nan)


def chains(numbers: Sequence[int]) -> list[list[int]]:
    """The slices in order, cut where one begins anew whatever was before it.

    Example:
        >>> chains((3, 4, 5, 11))
        [[3, 4], [5], [11]]
    """
    return [list(chain) for _, chain in groupby(numbers, lambda number: number // CHAIN_SLICES)]


def on_own_device(settings: Settings) -> Settings:
    """The settings with the GPU of this rank by its number, as it is asked for when it is alone."""
    device = checked_device(settings.ray.get("device", "cpu"))
    return replace(settings, ray={**settings.ray, "device": str(device)})
