"""What a run keeps of its stages, so that an interrupted one goes on where it stopped."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from time import monotonic

from torch import Tensor

from pdip.dip import DIPFit, UNet
from pdip.errors import InputError, OutputError
from pdip.evidence import EvidenceFit
from pdip.keeper import Keeper, part_of
from pdip.linearised.choice import name_of
from pdip.run_directory import UNFINISHED, RunDirectory
from pdip.stages import StageCost

SECONDS_BETWEEN_STATES = 30.0
"""Least time between two states of an unfinished fit."""


class Checkpoints:
    """Where the stages of a run are kept; this one keeps nothing. Subclasses do.

    Each ``load`` returns None where there is nothing that can be used.

    Attributes:
        assumptions: what is assumed by going on from what is kept.
    """

    assumptions: tuple[str, ...] = ()

    def within(self, name: str) -> "Checkpoints":
        """Those of a run inside this one, kept beside its own."""
        return self

    def keeper(self, stage: str) -> Keeper:
        """Where an unfinished stage keeps how far it is."""
        return Keeper()

    def save_fit(self, name: str, fit: DIPFit, cost: StageCost) -> None:
        """Keep a finished fit with all its restarts."""

    def load_fit(self, name: str, ray) -> tuple[DIPFit, StageCost] | None:
        """The fit that was kept, in the precision and on the device of ``ray``."""
        return None

    def save_evidence(self, fits: tuple[EvidenceFit, ...], cost: StageCost) -> None:
        """Keep the hyperparameters of every restart."""

    def load_evidence(self, models) -> tuple[tuple[EvidenceFit, ...], StageCost] | None:
        """The models at the hyperparameters that were kept for them."""
        return None


class GivenFit(Checkpoints):
    """A finished fit that a run goes on from, so that several runs share it.

    Args:
        fit: the fit, as :func:`pdip.fit_dip` returned it for this scan and these settings.
        seconds: what it cost.
    """

    def __init__(self, fit: DIPFit, seconds: float = 0.0) -> None:
        self.fit, self.cost = fit, StageCost(seconds, 0.0)

    def load_fit(self, name: str, ray) -> tuple[DIPFit, StageCost] | None:
        return (self.fit, self.cost) if name == "fit" else None


class DirectoryCheckpoints(Checkpoints):
    """Checkpoints in a run's folder.

    A file that cannot be written is said once and the run goes on; a damaged one is said and
    passed over, for the one before it where there is one.

    Args:
        directory: the folder, begun.
        warn: called with each such sentence.
        prefix: of the names of the files of finished stages.
    """

    def __init__(
        self,
        directory: RunDirectory,
        warn: Callable[[str], None] = warnings.warn,
        prefix: str = "",
    ) -> None:
        self.directory = directory
        self.assumptions = directory.assumptions
        self.prefix = prefix
        self._warn = warn
        self._said: set[str] = set()

    def within(self, name: str) -> "DirectoryCheckpoints":
        return DirectoryCheckpoints(self.directory, self._warn, f"{self.prefix}{name}_")

    def keeper(self, stage: str) -> Keeper:
        return DirectoryKeeper(self, f"{self.prefix}{stage}")

    def save_fit(self, name: str, fit: DIPFit, cost: StageCost) -> None:
        tensors, records = {}, []
        for number, restart in enumerate(fit.restarts):
            tensors[f"{number}.image"] = restart.image
            tensors[f"{number}.network_input"] = restart.network_input
            for key, value in restart.params.items():
                tensors[f"{number}.params.{key}"] = value
            records.append(
                {
                    "network": restart.network.settings,
                    "noise_std": restart.noise_std,
                    "tv_weight": restart.tv_weight,
                    "stop_reason": restart.stop_reason,
                    "history": restart.history,
                    "assumptions": restart.assumptions,
                }
            )
        self.keep(
            f"{self.prefix}{name}.safetensors", tensors, {"cost": asdict(cost), "restarts": records}
        )

    def load_fit(self, name: str, ray) -> tuple[DIPFit, StageCost] | None:
        found = self.recall(
            f"{self.prefix}{name}.safetensors", "the fit goes on from its last state"
        )
        if found is None:
            return None
        place = {"dtype": ray.dtype, "device": ray.device}
        tensors, record = {key: value.to(**place) for key, value in found[0].items()}, found[1]
        fits = [
            DIPFit(
                image=tensors[f"{number}.image"],
                network=UNet(**restart.pop("network")).to(**place),
                network_input=tensors[f"{number}.network_input"],
                params=part_of(tensors, f"{number}.params."),
                assumptions=tuple(restart.pop("assumptions")),
                **restart,
            )
            for number, restart in enumerate(record["restarts"])
        ]
        return replace(fits[0], alternatives=tuple(fits[1:])), StageCost(**record["cost"])

    def save_evidence(self, fits: tuple[EvidenceFit, ...], cost: StageCost) -> None:
        states = [fit.state() for fit in fits]
        tensors = {f"{n}.{key}": v for n, state in enumerate(states) for key, v in state.items()}
        record = {"cost": asdict(cost), "models": [name_of(fit.model) for fit in fits]}
        self.keep(f"{self.prefix}evidence.safetensors", tensors, record)

    def load_evidence(self, models) -> tuple[tuple[EvidenceFit, ...], StageCost] | None:
        name = f"{self.prefix}evidence.safetensors"
        found = self.recall(name, "the search goes on from its last state")
        if found is None:
            return None
        tensors, record = found
        if record["models"] != [name_of(model) for model in models]:
            self.say(
                f"{self.directory.path / name} belongs to another fit and was "
                "passed over; hyperparameters are searched anew."
            )
            return None
        fits = (EvidenceFit.of(m, part_of(tensors, f"{n}.")) for n, m in enumerate(models))
        return tuple(fits), StageCost(**record["cost"])

    def keep(self, name: str, tensors: Mapping[str, Tensor], record, *, spare: str = "") -> None:
        """Write a file; where that fails, what was there stays, and the run goes on.

        Args:
            name: inside the folder.
            tensors, record: what to write.
            spare: the name that the file before gets; nothing if it is not to be kept.
        """
        try:
            self.directory.write_tensors(name, tensors, record, spare=spare)
        except OutputError as error:
            if "unwritten" not in self._said:
                self._said.add("unwritten")
                self._warn(
                    f"{error}; the run goes on, but were it interrupted, --resume would find only "
                    "what was kept before."
                )

    def recall(self, name: str, otherwise: str) -> tuple[dict[str, Tensor], dict] | None:
        """Tensors and record of a file, None where there is none that is whole."""
        if not self.directory.holds(name):
            return None
        try:
            return self.directory.read_tensors(name)
        except InputError:
            self.say(
                f"{self.directory.path / name} is damaged and was passed over; {otherwise}, or "
                "anew where there is none."
            )
            return None

    def say(self, sentence: str) -> None:
        """Warn of something, once."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._warn(sentence)


class DirectoryKeeper(Keeper):
    """The last state and the one before, as files of a run's folder.

    Args:
        checkpoints: of the run.
        name: of the place.
    """

    def __init__(self, checkpoints: DirectoryCheckpoints, name: str) -> None:
        self.checkpoints = checkpoints
        self.name = name
        self._kept = monotonic()

    @property
    def _files(self) -> tuple[str, str]:
        return (
            f"{UNFINISHED}/{self.name}.safetensors", f"{UNFINISHED}/{self.name}.before.safetensors",
        )  # fmt: skip

    def within(self, name: str) -> Keeper:
        return DirectoryKeeper(self.checkpoints, f"{self.name}.{name.replace(' ', '_')}")

    @property
    def due(self) -> bool:
        return monotonic() - self._kept >= SECONDS_BETWEEN_STATES

    def keep(self, state: Mapping[str, Tensor]) -> None:
        newest, before = self._files
        self.checkpoints.keep(newest, state, {}, spare=before)
        self._kept = monotonic()

    def recall(self) -> dict[str, Tensor] | None:
        newest, before = self._files
        found = self.checkpoints.recall(newest, "the stage goes on from the state before")
        if found is None:
            self.checkpoints.directory.discard(newest)  # lest it take the place of the one before
            found = self.checkpoints.recall(before, "the stage goes on from another state")
        return None if found is None else found[0]
