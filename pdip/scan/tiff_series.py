"""The files of a folder of TIFFs: which are views, flats and darks, and whether a view is missing.

The numbers in the names of the views count them. Where one is left out, an angle for each view
cannot be told from the first angle and the step.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from pdip.errors import InputError

ENDINGS = (".tif", ".tiff")
FULL = 0.5
"""Part of a numbering from which on numbers that are not there are missing files; where fewer are
there, as of times of day or rounded angles, the numbers do not count the views."""
MAX_NAMED = 8
"""Missing numbers that are listed."""


@dataclass(frozen=True)
class Series:
    """The views of a folder, as their names count them.

    Attributes:
        folder: its name.
        files: number of views.
        missing: numbers that are left out of an even numbering, with their names.
        even: whether the names count the views at all.
    """

    folder: str
    files: int
    missing: tuple[str, ...] = ()
    even: bool = True

    def check(self, fields: Mapping) -> tuple[str, ...]:
        """What to say of the series beside the angles of its views.

        Raises:
            InputError: a view is missing and no list of angles goes round it, or the list has
                another length.
        """
        gap = ""
        if self.missing:
            named = ", ".join(self.missing[:MAX_NAMED])
            more = ", ..." if len(self.missing) > MAX_NAMED else ""
            gap = f"{named}{more} {'is' if len(self.missing) == 1 else 'are'} missing"
        key = next((key for key in ("angles_deg", "angles") if key in fields), None)
        if key is not None:
            if np.size(fields[key]) == self.files:
                return ()
            raise InputError(
                f"the folder {self.folder} holds {self.files} views (files) but {key} lists "
                f"{np.size(fields[key])} angles{gap and f'; {gap}'}; list one angle for each file, "
                "in the order of the numbers in their names."
            )
        if gap:
            raise InputError(
                f"{gap} among the {self.files} views of the folder {self.folder}, and every view "
                "after a gap would get a wrong angle; restore what is missing, or list one angle "
                "for each file that is there (angles_deg: [...] in the geometry file)."
            )
        if self.even:
            return ()
        return (
            f"WARNING: the numbers in the names of the {self.files} views of {self.folder} are not "
            "evenly spaced; the views are taken to be so, in that order. List one angle for each "
            "file (angles_deg: [...] in the geometry file) if they are not.",
        )


def grouped(folder: Path) -> dict[str, list[Path]]:
    """The TIFF files of a folder, in order: those of views, of the flat and of the dark field."""
    groups: dict[str, list[Path]] = {"view": [], "flat": [], "dark": []}
    for path in _listed(folder):
        found = re.match(r"flat|dark", path.name.lower())
        groups[found.group() if found else "view"].append(path)
    for kind in ("flat", "dark"):
        for name in (kind, f"{kind}s"):
            groups[kind] += _listed(folder / name)
    return groups


def series_of(paths: list[Path]) -> Series:
    """How the names of views, in their order, count them.

    Raises:
        InputError: a name that is not like the others, or two of one number.
    """
    folder = paths[0].parent.name
    kinds = [tuple(_words(path)[::2]) for path in paths]
    usual = Counter(kinds).most_common(1)[0][0]
    like = paths[kinds.index(usual)].name
    for path, kind in zip(paths, kinds, strict=True):
        if kind != usual:
            raise InputError(
                f"{path.name} does not fit the series of the other views in the folder {folder}, "
                f"which are named like {like}; move it away, or name all views alike."
            )
    numbers = [tuple(map(int, _words(path)[1::2])) for path in paths]
    for path, own, other, before in zip(paths[1:], numbers[1:], paths, numbers, strict=False):
        if own == before:
            raise InputError(
                f"{other.name} and {path.name} in the folder {folder} have the same number; move "
                "one of them away."
            )
    if len(paths) == 1:
        return Series(folder, 1)
    columns = list(zip(*numbers, strict=True))
    gaps = [(place, _left_out(column)) for place, column in enumerate(columns)]
    counted = [(place, left_out) for place, left_out in gaps if left_out is not None]
    if not counted:
        return Series(folder, len(paths), even=False)
    # Of a count and the seconds of a clock, say, the one with fewer gaps is the count.
    place, left_out = min(counted, key=lambda found: len(found[1]))
    names = tuple(_name(paths[0], place, number) for number in left_out)
    return Series(folder, len(paths), names)


def _left_out(column: tuple[int, ...]) -> list[int] | None:
    """What an even numbering lacks; None where the numbers do not count the files."""
    ordered = sorted(set(column))
    if len(ordered) < len(column):
        return None
    step = math.gcd(*(after - before for before, after in pairwise(ordered)))
    every = range(ordered[0], ordered[-1] + 1, step)
    if FULL * ((ordered[-1] - ordered[0]) // step + 1) > len(ordered):
        return None
    return sorted(set(every) - set(ordered))


def _name(path: Path, place: int, number: int) -> str:
    """The name of the file of another number."""
    words = re.split(r"(\d+)", path.stem)
    words[2 * place + 1] = str(number).zfill(len(words[2 * place + 1]))
    return "".join(words) + path.suffix


def _words(path: Path) -> list[str]:
    """What stands between the numbers of a name, and the numbers, in turn."""
    return re.split(r"(\d+)", path.stem.lower())


def _listed(folder: Path) -> list[Path]:
    """The TIFF files of a folder that are not hidden, in the order of the numbers in their
    names."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS]
    except OSError:
        return []
    seen = [path for path in paths if not path.name.startswith(".") and path.is_file()]
    return sorted(seen, key=_numbers_in_name)


def _numbers_in_name(path: Path) -> list:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
