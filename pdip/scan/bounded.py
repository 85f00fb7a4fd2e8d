"""Files read by libraries that believe what a header says: no read asks for more than is there."""

import io
from pathlib import Path


class BoundedFile(io.BufferedReader):
    """A file for reading in which ``read(n)`` never asks for more memory than bytes are left.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > 0:
            size = min(size, max(self._size - self.tell(), 0))
        return super().read(size)
