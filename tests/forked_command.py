"""The command in processes of their own, forked from one that has loaded it already."""

import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

import torch

from pdip import checkpoints, cli
from pdip.posterior import Posterior

NEVER = "never"
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__, *(m for m in sys.modules if m.startswith("pdip."))])


class ForkedCommand:
    """``pdip`` with some arguments, begun; it dies by SIGKILL when it is told to, or is killed.

    Args:
        arguments: of the command.
        folder: where what it prints is kept.
        name, count: the process dies when a file of such a name is written for so many times:
            after the new content is on the disk, before it takes its place. ``the posterior``:
            before its std.
        threads: of the arithmetic.
        largest_file: in bytes; None for any.
    """

    def __init__(self, arguments, folder, name=NEVER, count=1, threads=1, largest_file=None):
        self.printed = [folder / "stdout.txt", folder / "stderr.txt"]
        given = (arguments, self.printed, name, count, threads, largest_file)
        self.process = SERVER.Process(target=_run, args=given)
        self.process.start()

    def is_running(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()

    def ended(self) -> int:
        """Its exit code, that of :mod:`subprocess`, once it has ended; sets ``out`` and ``err``."""
        self.process.join()
        self.out, self.err = (path.read_text() for path in self.printed)
        return self.process.exitcode


def _run(arguments, printed, name, count, threads, largest_file):
    for stream, path in zip((1, 2), printed, strict=True):
        os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    checkpoints.SECONDS_BETWEEN_STATES = 0.0
    left, replace = count, os.replace

    def dying(source, place):
        nonlocal left
        left -= name in Path(place).name
        if name in Path(place).name and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, place)

    os.replace = dying
    if name == "the posterior":
        Posterior.std = lambda posterior: os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(cli.main(arguments))
