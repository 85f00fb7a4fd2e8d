"""What experiments share: rows of numbers that a long run goes on from, and their figure."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pdip.tensor_file import strict


class Rows:
    """Rows in a file of JSON lines; a run that is started again finds those it has.

    Args:
        path: the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = [json.loads(line) for line in path.open()] if path.exists() else []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def find(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The last row that holds all of ``key``, or None."""
        return next((row for row in reversed(self.rows) if key.items() <= row.items()), None)

    def append(self, row: Mapping[str, Any]) -> None:
        """Keep a row at once; NaN and infinities become null."""
        line = json.dumps(strict(dict(row)), allow_nan=False)
        with self.path.open("a") as file:
            file.write(line + "\n")
        self.rows.append(json.loads(line))


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure beside its rows: ``.png`` to look at, ``.pdf`` to print.

    Args:
        figure: the figure.
        path: of the rows; its ending is replaced.
    """
    for ending in (".png", ".pdf"):
        figure.savefig(path.with_suffix(ending), dpi=150)
