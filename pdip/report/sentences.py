"""What many slices say, in few sentences: one of each kind, with whose it is."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from pdip.report.words import WARNING

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
"""A number as sentences print it; digits of a name or a version are none."""


def merged(sentences: Iterable[str]) -> list[str]:
    """The sentences, those that differ in nothing but numbers as one that names their range.

    Example:
        >>> merged(["stopped at 1.5 after 100 steps", "stopped at 0.5 after 100 steps"])
        ['stopped at 0.5 to 1.5 after 100 steps']
    """
    kinds: dict[tuple[str, ...], list[list[str]]] = {}
    for sentence in sentences:
        kinds.setdefault(tuple(NUMBER.split(sentence)), []).append(NUMBER.findall(sentence))
    return [
        "".join(text + number for text, number in zip(texts, [*_ranges(found), ""], strict=True))
        for texts, found in kinds.items()
    ]


def of_slices(said: Mapping[int, Sequence[str]]) -> list[str]:
    """What slices say, each kind of sentence once, after the numbers of its slices.

    Args:
        said: number -> the sentences of that slice; all slices in order, also those that say
            nothing.

    Example:
        >>> of_slices({0: ["the gain is 0.5"], 1: [], 2: ["the gain is 0.7", "WARNING: low"]})
        ['slices 0, 2: the gain is 0.5 to 0.7', 'WARNING: slice 2: low']
    """
    owners: dict[tuple[str, ...], dict[int, list[str]]] = {}
    for number, sentences in said.items():
        for sentence in sentences:
            kind = owners.setdefault(tuple(NUMBER.split(sentence)), {})
            kind.setdefault(number, []).append(sentence)
    found = []
    for kind in owners.values():
        [sentence] = merged(one for sentences in kind.values() for one in sentences)
        warning = WARNING if sentence.startswith(WARNING) else ""
        whose = named(tuple(kind), tuple(said))
        found.append(f"{warning}{whose}: {sentence.removeprefix(warning)}")
    return found


def named(numbers: Sequence[int], every: Sequence[int]) -> str:
    """Slices by their numbers; three or more that follow each other by the first and the last.

    Args:
        numbers: of the slices to name, in order.
        every: of all slices, in order; those that follow each other here make a range.

    Example:
        >>> named((0, 3, 4, 5), range(9)), named((4,), range(9)), named((0, 2, 4), (0, 2, 4))
        ('slices 0, 3 to 5', 'slice 4', 'slices 0 to 4')
    """
    places = {number: place for place, number in enumerate(every)}
    parts = []
    for _, run in groupby(enumerate(numbers), lambda one: places[one[1]] - one[0]):
        own = [str(number) for _, number in run]
        parts += own if len(own) < 3 else [f"{own[0]} to {own[-1]}"]
    return f"slice{'s' if len(numbers) > 1 else ''} {', '.join(parts)}"


def _ranges(found: Sequence[Sequence[str]]) -> list[str]:
    """Of each place, its number in all sentences, or the least and the greatest."""
    told = []
    for numbers in zip(*found, strict=True):
        low, high = min(numbers, key=float), max(numbers, key=float)
        told.append(low if float(low) == float(high) else f"{low} to {high}")
    return told
