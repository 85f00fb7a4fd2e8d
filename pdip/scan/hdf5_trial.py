"""HDF5 files are read first in a process of their own, which a damaged one may hang or kill.

The HDF5 library trusts what a file says: in damaged ones it was seen to read for ever, to ask for
memory without measure, and to crash. So :mod:`pdip.scan.hdf5_trial_process` reads each file before
this process opens it. It knows h5py and not torch, starts with the first HDF5 file (a third of a
second), is asked about each later one (milliseconds), and is replaced when a file has ended it.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pdip.errors import ComputationError, InputError

SECONDS = 20.0
"""Processor time that the names and small values of a file may take."""
MEBIBYTES = 256
"""Memory that the HDF5 library may ask for to read them."""
PROGRAM = Path(__file__).with_name("hdf5_trial_process.py")
MEND = "copy the file anew, or save it again with the software that wrote it"


@dataclass(frozen=True)
class Unread:
    """What of a file must not be read: object and name of an attribute, or ``""``, -> why."""

    reasons: Mapping[tuple[int, str], str]

    def check(self, address: int, what: str, attribute: str = "") -> None:
        """Pass where an object, or an attribute of it, could be read.

        Raises:
            InputError: it could not.
        """
        why = self.reasons.get((address, attribute))
        if why is not None:
            raise InputError(f"{what} cannot be read ({why}); {MEND}.")


def first_read(path: Path) -> Unread:
    """Have a file read by the other process, once for each state of it.

    Raises:
        InputError: it cannot be listed, or it hangs or crashes the HDF5 library.
        ComputationError: no process can be started.
    """
    state = path.stat()
    return _first_read(os.path.abspath(path), state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1024)
def _first_read(path: str, *state: int) -> Unread:
    answer = _reader.answer(path)
    if isinstance(answer, str):
        raise InputError(f"{Path(path).name} {answer}; {MEND}.")
    if answer["broken"] is not None:
        raise InputError(not_readable(path, answer["broken"]))
    return Unread({(address, name): _short(why) for address, name, why in answer["unread"]})


def not_readable(path: str | Path, why: str) -> str:
    """The sentence for a file that cannot be opened or listed."""
    return f"{Path(path).name} is not a readable HDF5 file ({_short(why)})."


def _short(why: str) -> str:
    return " ".join(why.split())[:200]


class _Reader:
    """The process that reads first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def answer(self, path: str) -> dict | str:
        """What it says of a file, or what the file does to the HDF5 library, half a sentence."""
        with self._lock:
            process = self._started()
            try:
                answer = self._said(process, path)
            except BaseException:  # interrupted: what it says later is no answer to the next file
                self.end()
                raise
            return json.loads(answer) if answer else self._death(process)

    def end(self) -> None:
        """End the process, if it is one of this one's."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()

    def _started(self) -> subprocess.Popen:
        if self._process is None or self._owner != os.getpid():  # a forked copy has none
            search_path = os.pathsep.join(place or os.getcwd() for place in sys.path)
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM), str(SECONDS), str(MEBIBYTES)],
                env=os.environ | {"PYTHONPATH": search_path, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for this process alone
            )
            self._owner = os.getpid()
        return self._process

    def _said(self, process: subprocess.Popen, path: str) -> str:
        """The line that it prints; nothing where the file, or something else, has ended it."""
        try:
            process.stdin.write(json.dumps(path) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return ""
        return process.stdout.readline().strip()

    def _death(self, process: subprocess.Popen) -> str:
        """Why the process has ended."""
        self._process = None
        _, said = process.communicate()
        if process.returncode == -signal.SIGPROF:
            return f"keeps the HDF5 library busy for more than {SECONDS:g} s"
        if process.returncode in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE):
            return f"crashes the HDF5 library ({signal.Signals(-process.returncode).name})"
        last = (said.strip() or "no message").splitlines()[-1]
        raise ComputationError(
            f"the process that reads HDF5 files first has ended (exit code {process.returncode}, "
            f"{last}); try again, and see to memory and the packages h5py and hdf5plugin."
        )


_reader = _Reader()
atexit.register(_reader.end)
