"""What a run of stages leaves behind and what it tells whoever watches: time, memory, sentences."""

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

PROC_STATUS = Path("/proc/self/status")
PROC_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class StageCost:
    """What one stage cost.

    Attributes:
        seconds: wall-clock time; of an interrupted stage, that since it went on.
        peak_memory_mb: largest resident memory of the process during the stage, MB (10^6 bytes).
        peak_gpu_memory_mb: largest GPU memory of tensors during the stage; None without a GPU.
    """

    seconds: float
    peak_memory_mb: float
    peak_gpu_memory_mb: float | None = None


class Observer:
    """Watches a run; this one says nothing. Subclasses print or collect.

    Attributes:
        warnings: what it was warned of, where it keeps that.

    Example:
        >>> class Printer(Observer):
        ...     def finished(self, stage, sentence):
        ...         print(f"{stage}: {sentence}")
    """

    warnings: Sequence[str] = ()

    def started(self, stage: str) -> None:
        """A stage begins."""

    def progress(self, step: int, total: int, text: str) -> None:
        """Step ``step`` of ``total`` of the present stage is done."""

    def finished(self, stage: str, sentence: str) -> None:
        """A stage is done; the sentence holds its key number."""

    def assumed(self, sentence: str) -> None:
        """Something was assumed for the user."""

    def warned(self, sentence: str) -> None:
        """Something went wrong that the run survives."""

    def close(self) -> None:
        """The run has ended, well or not."""


class Listener(Observer):
    """Says nothing, and keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warned(self, sentence: str) -> None:
        """Keep the sentence."""
        self.warnings.append(sentence)


class StageClock:
    """Times the stages of one run and passes on what they say, each assumption once."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.costs: dict[str, StageCost] = {}
        self.assumptions: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time one stage; the body appends what there is to say of its result to the list."""
        self.observer.started(name)
        reset_peak_memory()
        start, sentence = time.perf_counter(), []
        yield sentence
        self.costs[name] = StageCost(
            round(time.perf_counter() - start, 3), peak_memory_mb(), peak_gpu_memory_mb()
        )
        self.observer.finished(name, " ".join(sentence))

    def skipped(self, name: str, cost: StageCost, sentence: str) -> None:
        """A stage whose result was read back; ``cost`` is what it cost when it ran."""
        self.costs[name] = cost
        self.observer.finished(name, sentence)

    def assume(self, sentences) -> None:
        """Pass on and keep the sentences that are new."""
        for sentence in sentences:
            if sentence not in self.assumptions:
                self.assumptions.append(sentence)
                self.observer.assumed(sentence)


def reset_peak_memory() -> None:
    """Start the high-water marks anew where the system can (Linux, CUDA)."""
    try:
        PROC_CLEAR_REFS.write_text("5")
    except OSError:
        pass  # the mark then is that of the whole process, as everywhere but on Linux
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mb() -> float:
    """Largest resident memory since :func:`reset_peak_memory`, else since the process began; MB."""
    try:
        for line in PROC_STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    except OSError:
        pass
    in_bytes = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * in_bytes / 1e6, 1)


def peak_gpu_memory_mb() -> float | None:
    """Largest GPU memory of tensors since :func:`reset_peak_memory`; None where none is in use."""
    if not torch.cuda.is_initialized():
        return None
    return round(torch.cuda.max_memory_allocated() / 1e6, 1)
