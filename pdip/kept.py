"""Where the scores and fits of compared settings are kept: in memory or in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace

from torch import Tensor

from pdip.checkpoints import Checkpoints, DirectoryCheckpoints
from pdip.dip import DIPFit
from pdip.keeper import Keeper
from pdip.run_directory import SCORE, RunDirectory
from pdip.run_identity import ANYWHERE, CHECK
from pdip.scan import Scan
from pdip.selection_result import Score
from pdip.settings import Settings
from pdip.stages import StageCost

FIT_SECTIONS = ("ray", "network", "dip")
"""What a fit depends on: candidates that agree in these sections share one."""


def identity(settings: Settings, sections: Sequence[str] | None = None) -> str:
    """A text that is the same for settings of the same result, in these sections or in all.

    The settings of the calibration check are none of them.
    """
    telling = _telling(settings)
    return json.dumps({name: telling[name] for name in sections or telling}, sort_keys=True)


def departures(settings: Settings) -> int:
    """How many settings that make a difference to the result are not the shipped ones."""
    shipped, own = _telling(Settings()), _telling(settings)
    return sum(own[part][key] != value for part in own for key, value in shipped[part].items())


def _telling(settings: Settings) -> dict[str, dict]:
    """The settings that a result depends on."""
    resolved = settings.resolved()
    resolved.pop(CHECK)
    for section, key in ANYWHERE:
        resolved[section].pop(key)
    return resolved


def steps_of(settings: Settings) -> int:
    """How many steps a fit takes at most."""
    return settings.resolved()["dip"]["max_steps"]


def fit_but_for_steps(settings: Settings) -> str:
    """A text that is the same for fits that differ in their most steps only."""
    return identity(replace(settings, dip={**settings.dip, "max_steps": 1}), FIT_SECTIONS)


class Kept:
    """Where scores and fits of candidates are kept; this one in memory. Subclasses elsewhere.

    Once :meth:`prepare` has told which are compared, the fit of a candidate goes on where that of
    one before ended that differs from it in fewer ``dip.max_steps`` only: a row of stopping points
    costs one fit. The result is, bit for bit, that of a fit of its own.
    """

    def __init__(self) -> None:
        self._scores: dict[str, Score] = {}
        self._ends: dict[str, set[int]] = {}
        self._shorter: dict[str, tuple[int, MemoryKeeper]] = {}

    def prepare(self, candidates: Iterable[Settings]) -> None:
        """Tell which candidates are compared, so that only what others go on from is kept."""
        for settings in candidates:
            self._ends.setdefault(fit_but_for_steps(settings), set()).add(steps_of(settings))

    def checkpoints(self, settings: Settings) -> Checkpoints:
        """Where the stages of a candidate are kept."""
        return FitInMemory(self._shorter_fit(settings))

    def recall(self, settings: Settings) -> Score | None:
        """The score of a candidate that is done."""
        return self._scores.get(identity(settings))

    def keep(self, settings: Settings, score: Score) -> None:
        """Keep the score of a candidate that is done."""
        self._scores[identity(settings)] = score

    def forget(self, settings: Settings) -> None:
        """Take back :meth:`checkpoints` of settings that turned out to be unusable."""

    def _shorter_fit(self, settings: Settings) -> Keeper:
        """How far the fit of the same settings but for the number of steps has come."""
        name, steps = fit_but_for_steps(settings), steps_of(settings)
        reached, keeper = self._shorter.get(name, (0, MemoryKeeper()))
        if steps < reached or len(self._ends.get(name, ())) < 2:
            return Keeper()
        self._shorter[name] = steps, keeper
        return keeper


class DirectoryKept(Kept):
    """In a run's folder, one folder inside it for each candidate, named by its settings.

    Args:
        directory: the run's, begun.
        scan: the scan, all rays.
        shared: settings that are none of a stage, written into every candidate's folder.
        warn: called with a sentence where a file is damaged or cannot be written.
    """

    def __init__(
        self, directory: RunDirectory, scan: Scan, shared: Mapping, warn: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.directory = directory
        self.scan = scan
        self.shared = dict(shared)
        self.warn = warn

    def checkpoints(self, settings: Settings) -> Checkpoints:
        folder = self._folder(settings)
        folder.begin(self.scan, self.shared | settings.resolved(), resume=True)
        return CandidateCheckpoints(folder, self.warn, self._shorter_fit(settings))

    def recall(self, settings: Settings) -> Score | None:
        folder = DirectoryCheckpoints(self._folder(settings), self.warn)
        found = folder.recall(SCORE, "the candidate is computed from what else is kept")
        if found is None:
            return None
        tensors, record = found
        record["assumptions"] = tuple(record["assumptions"])
        return Score(**tensors, **record)

    def keep(self, settings: Settings, score: Score) -> None:
        record = {f.name: getattr(score, f.name) for f in fields(score) if f.name != "held_out"}
        folder = DirectoryCheckpoints(self._folder(settings), self.warn)
        folder.keep(SCORE, {"held_out": score.held_out}, record)
        folder.directory.finish()

    def forget(self, settings: Settings) -> None:
        self._folder(settings).forget()

    def _folder(self, settings: Settings) -> RunDirectory:
        digest = hashlib.sha256(identity(settings).encode()).hexdigest()
        return self.directory.candidate(digest[:12])


class MemoryKeeper(Keeper):
    """Keeps the last state of every place in memory."""

    def __init__(self, pages: dict[str, dict[str, Tensor]] | None = None, name: str = "") -> None:
        self._pages = {} if pages is None else pages
        self._name = name

    def within(self, name: str) -> Keeper:
        return MemoryKeeper(self._pages, f"{self._name}/{name}")

    def keep(self, state: Mapping[str, Tensor]) -> None:
        self._pages[self._name] = {key: value.clone().cpu() for key, value in state.items()}

    def recall(self) -> dict[str, Tensor] | None:
        kept = self._pages.get(self._name)
        return None if kept is None else {key: value.clone() for key, value in kept.items()}


class Following(Keeper):
    """Keeps in two places and recalls from the first, else from the second."""

    def __init__(self, own: Keeper, other: Keeper) -> None:
        self._own, self._other = own, other

    def within(self, name: str) -> Keeper:
        return Following(self._own.within(name), self._other.within(name))

    @property
    def due(self) -> bool:
        return self._own.due

    def keep(self, state: Mapping[str, Tensor]) -> None:
        self._own.keep(state)
        self._other.keep(state)

    def recall(self) -> dict[str, Tensor] | None:
        found = self._own.recall()
        return self._other.recall() if found is None else found


class CandidateCheckpoints(DirectoryCheckpoints):
    """Checkpoints in a candidate's folder.

    Args:
        directory, warn: as of :class:`DirectoryCheckpoints`.
        shorter: where its fit goes on from if the folder holds no state of it.
    """

    def __init__(
        self, directory: RunDirectory, warn: Callable[[str], None], shorter: Keeper
    ) -> None:
        super().__init__(directory, warn)
        self._shorter = shorter

    def keeper(self, stage: str) -> Keeper:
        own = super().keeper(stage)
        return Following(own, self._shorter.within(stage)) if stage == "fit" else own


class FitInMemory(Checkpoints):
    """Keeps finished fits in memory.

    Args:
        keeper: where the fit keeps how far it is.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._fits: dict[str, tuple[DIPFit, StageCost]] = {}

    def keeper(self, stage: str) -> Keeper:
        return self._keeper.within(stage) if stage == "fit" else Keeper()

    def save_fit(self, name: str, fit: DIPFit, cost: StageCost) -> None:
        self._fits[name] = fit, cost

    def load_fit(self, name: str, ray) -> tuple[DIPFit, StageCost] | None:
        return self._fits.get(name)


class Borrowing(Checkpoints):
    """A candidate's checkpoints that take a finished fit from another candidate's.

    Args:
        own: of the candidate.
        lender: of one whose fit has the same settings.
    """

    def __init__(self, own: Checkpoints, lender: Checkpoints) -> None:
        self.own, self.lender = own, lender
        self.assumptions = own.assumptions
        self.keeper = own.keeper
        self.save_fit = own.save_fit
        self.save_evidence = own.save_evidence
        self.load_evidence = own.load_evidence

    def load_fit(self, name: str, ray) -> tuple[DIPFit, StageCost] | None:
        return self.own.load_fit(name, ray) or self.lender.load_fit(name, ray)
