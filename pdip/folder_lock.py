"""One process at a time works in a folder; the system frees it when that process dies."""

import contextlib
import fcntl
import os
from pathlib import Path

from pdip.errors import InputError

NAME = ".lock"
"""File in the folder that is locked, with the number of the process that holds it."""


class FolderLock:
    """A lock on a folder, held from its making to :meth:`release` or the end of the process.

    A file system without locks leaves the folder open to all.

    Args:
        folder: which exists.

    Raises:
        InputError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file: int | None = None
        while self._file is None:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(file, 32).decode("ascii", "replace")
                os.close(file)
                raise InputError(
                    f"another run is working in {folder} (process {holder or 'unknown'}); wait "
                    "for its end or name another folder (--out)."
                ) from None
            except OSError:  # there are no locks here
                os.close(file)
                return
            if self._is_at_its_path(file):
                self._file = file
            else:  # its holder took it away in between
                os.close(file)
        os.ftruncate(self._file, 0)
        os.write(self._file, str(os.getpid()).encode("ascii"))

    def _is_at_its_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Take the file away and let others in."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._file)
            self._file = None
