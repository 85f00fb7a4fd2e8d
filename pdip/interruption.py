"""SIGTERM, as schedulers and torchrun send it, ends a run as Ctrl-C does: in a sentence."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pdip.ranks import count


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, the first SIGTERM raises KeyboardInterrupt unless the run is ending already."""
    if threading.current_thread() is not threading.main_thread():  # may not handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number, frame) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.exc_info()[0] is not None:  # the run is ending already and says why
        return
    several = ", as all processes of a run are when one of them has died" if count() > 1 else ""
    raise KeyboardInterrupt(f"stopped from outside (SIGTERM){several}")
