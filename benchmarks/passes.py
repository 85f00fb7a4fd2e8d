"""Network passes of each stage, counted from outside."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pdip.linearised import Jacobian
from pdip.passes import Passes
from pdip.stages import Observer


class Count:
    """Vectors that went through any Jacobian so far."""

    def __init__(self) -> None:
        self.passes = Passes()


@contextmanager
def counted_passes() -> Iterator[Count]:
    """Count every product with a Jacobian or its transpose while the context is open."""
    count = Count()
    forward, adjoint = Jacobian.forward, Jacobian.adjoint

    def counting_forward(self, vector):
        count.passes += Passes(jvp=vector.numel() // self.domain_shape[0])
        return forward(self, vector)

    def counting_adjoint(self, image):
        count.passes += Passes(vjp=image.numel() // self.range_shape.numel())
        return adjoint(self, image)

    Jacobian.forward, Jacobian.adjoint = counting_forward, counting_adjoint
    try:
        yield count
    finally:
        Jacobian.forward, Jacobian.adjoint = forward, adjoint


class Meter(Observer):
    """Watches a run and keeps the passes and the processor time of each stage.

    Attributes:
        passes: of each stage that is finished, by name.
        cpu_seconds: likewise, user and system time of all threads.
    """

    def __init__(self, count: Count) -> None:
        self.count = count
        self.passes: dict[str, Passes] = {}
        self.cpu_seconds: dict[str, float] = {}

    def started(self, stage: str) -> None:
        self._before, self._cpu_before = self.count.passes, time.process_time()

    def finished(self, stage: str, sentence: str) -> None:
        self.passes[stage] = self.count.passes + self._before * -1
        self.cpu_seconds[stage] = round(time.process_time() - self._cpu_before, 3)
