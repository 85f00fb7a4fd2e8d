"""A stack of slices, each a run in a folder of its own that goes on from its neighbour's fit.

Weights that have been through many fits fit as well as fresh ones, in a quarter of the steps, but
the evidence then wants a wider prior, and the error bars grow along the stack. So every fifth slice
begins anew (docs/results.md has the numbers). Which ones do is decided by the number of the slice
in the file: the result of a slice does not depend on how the stack was cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pdip.checkpoints import DirectoryCheckpoints
from pdip.dip import DIPFit
from pdip.errors import ComputationError, InputError
from pdip.pipeline import ray_of, reconstruct
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

    def outcomes(self, *, resume: bool) -> Iterator[SliceOutcome]:
        """Reconstruct one slice after another; each goes on from the last one of its chain.

        A slice that cannot be read or has no honest result does not end the run.

        Args:
            resume: go on with the slices that were begun and pass over those that are finished.

        Raises:
            InputError: the folder of a slice holds another run.
        """
        last = None
        for number in own_slices(self.stack.numbers):
            if last is not None and number // CHAIN_SLICES != last // CHAIN_SLICES:
                last = None
            outcome = self._outcome(number, last, resume)
            if outcome.failure is None:
                last = number
            yield outcome

    def _outcome(self, number: int, last: int | None, resume: bool) -> SliceOutcome:
        folder = self.directory.slice(number)
        try:
            scan = self.stack.scan(number)
        except InputError as error:
            return SliceOutcome(number, error)
        sections = {"scan": {**self.reading, "slices": number}, **self.settings.resolved()}
        folder.begin(scan, sections, resume=resume)
        if folder.finished:
            return SliceOutcome(number)
        try:
            result = reconstruct(
                scan,
                self.settings,
                before=self._fit(last, scan),
                observer=self.observer(number),
                checkpoints=DirectoryCheckpoints(folder),
            )
        except (InputError, ComputationError) as error:
            folder.forget()
            return SliceOutcome(number, error)
        self.write(folder, result, scan, number)
        return SliceOutcome(number)

    def _fit(self, number: int | None, scan: Scan) -> DIPFit | None:
        """The fit of an earlier slice, always from its folder: as it would be after a resume."""
        if number is None:
            return None
        checkpoints = DirectoryCheckpoints(self.directory.slice(number))
        found = checkpoints.load_fit("fit", ray_of(scan, self.settings))
        return None if found is None else found[0]

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


def own_slices(numbers: Sequence[int]) -> Sequence[int]:
    """The slices that this process does, in order: all of them.

    To give each of several processes whole chains of :data:`CHAIN_SLICES` leaves every number as it
    is in one process.
    """
    return numbers
