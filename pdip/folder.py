"""A folder: every file in it is written whole or not at all, and read with doubt."""

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import yaml
from torch import Tensor

from pdip.errors import InputError, OutputError
from pdip.ranks import by_first, rank
from pdip.strict_json import strict
from pdip.tensor_file import packed, unpacked

AGAIN = "the command that made the run writes it again with --resume."
"""What to do about a file of a run that is not as it was written."""


class Folder:
    """A folder that pdip writes into and reads back. The only place where pdip writes files.

    Of several ranks the first alone writes; tensors it alone reads, too, and tells the others.

    Args:
        path: the folder; made, with its parents, by :meth:`make`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def make(self) -> None:
        """Make the folder for a file that is no part of a run, such as a figure.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be made ({error.strerror or error})") from None

    def write_array(self, name: str, values: Tensor) -> None:
        """An image as float32 ``.npy``."""
        content = io.BytesIO()
        np.save(content, values.detach().cpu().numpy().astype(np.float32), allow_pickle=False)
        self.write(name, lambda stream: stream.write(content.getbuffer()))

    def write_volume(self, name: str, slices: Iterable[np.ndarray], shape) -> None:
        """Images one after another as one float32 ``.npy`` (slices, height, width)."""

        def fill(stream) -> None:
            header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(stream, header)
            for image in slices:
                stream.write(np.ascontiguousarray(image, "<f4").tobytes())

        self.write(name, fill)

    def write_figure(self, name: str, draw: Callable) -> None:
        """The matplotlib figure that ``draw()`` gives, as PNG."""

        def fill(stream) -> None:
            figure = draw()
            figure.set_dpi(150)
            figure.canvas.print_png(stream)  # savefig draws twice, the first time for the layout

        self.write(name, fill)

    def write_json(self, name: str, values) -> None:
        """Strict JSON: numbers that are NaN or infinite become null."""
        text = json.dumps(strict(values), indent=2, ensure_ascii=False, allow_nan=False)
        self.write_text(name, text + "\n")

    def write_yaml(self, name: str, values) -> None:
        """Plain data as YAML, in its order."""
        self.write_text(name, yaml.safe_dump(values, sort_keys=False))

    def write_text(self, name: str, text: str) -> None:
        """UTF-8 text."""
        self.write(name, lambda stream: stream.write(text.encode("utf-8")))

    def write_tensors(
        self, name: str, tensors: Mapping[str, Tensor], record, *, spare: str = ""
    ) -> None:
        """Tensors and a record as JSON in one file with a checksum."""
        content = packed(tensors, record)
        self.write(name, lambda stream: stream.write(content), spare=spare)

    def write(self, name: str, fill: Callable, *, spare: str = "") -> None:
        """Write a file whole or not at all: beside its place first, then moved there.

        Args:
            name: inside the folder; one in a folder inside makes that folder.
            fill: writes to the stream that it is called with.
            spare: the name that the file before is moved to; empty to replace it.

        Raises:
            OutputError: it could not be written; what was there is there still.
        """
        if rank() > 0:
            return
        place = self.path / name
        partly = place.with_name(f".{place.name}.{os.getpid()}.partly")
        try:
            if place.parent != self.path:
                place.parent.mkdir(exist_ok=True)
            with partly.open("w+b") as stream:  # HDF5 reads what it wrote
                fill(stream)
                stream.flush()
                os.fsync(stream.fileno())
            if spare and place.exists():
                os.replace(place, self.path / spare)
            os.replace(partly, place)
        except OSError as error:
            raise OutputError(f"{place} cannot be written ({error.strerror or error})") from None
        finally:
            with contextlib.suppress(OSError):
                partly.unlink(missing_ok=True)

    def discard(self, name: str) -> None:
        """Remove a file that is of no use."""
        if rank() > 0:
            return
        with contextlib.suppress(OSError):
            (self.path / name).unlink(missing_ok=True)

    @by_first
    def holds(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return (self.path / name).exists()

    def read_json(self, name: str):
        """What a file that :meth:`write_json` wrote holds.

        Raises:
            InputError: there is no such file, or it is damaged.
        """
        with self._undamaged(name) as path:
            return json.loads(path.read_text(encoding="utf-8"))

    def read_yaml(self, name: str) -> dict:
        """What a file that :meth:`write_yaml` wrote holds.

        Raises:
            InputError: there is no such file, or it is damaged.
        """
        with self._undamaged(name) as path:
            return dict(yaml.safe_load(path.read_text(encoding="utf-8")))

    def read_array(self, name: str) -> np.ndarray:
        """What a file that :meth:`write_array` or :meth:`write_volume` wrote holds, mapped.

        Raises:
            InputError: there is no such file, or it is damaged.
        """
        with self._undamaged(name) as path:
            return np.load(path, mmap_mode="r", allow_pickle=False)

    @by_first
    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict]:
        """Tensors and record of a file that :meth:`write_tensors` wrote.

        Raises:
            InputError: there is no such file, or it is damaged.
        """
        path = self.path / name
        if not path.is_file():
            raise InputError(f"{path} does not exist; name the folder of a finished run.")
        return unpacked(path)

    @contextlib.contextmanager
    def _undamaged(self, name: str) -> Iterator[Path]:
        """The file to read; an InputError where that fails."""
        path = self.path / name
        try:
            yield path
        except (OSError, EOFError, ValueError, TypeError, yaml.YAMLError):
            raise InputError(f"{path} is missing or damaged; {AGAIN}") from None
