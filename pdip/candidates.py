"""The settings that ``pdip select`` compares: from a YAML file, a grid on the command line, or a
set that suits most scans."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from pdip.config import NumberLoader, read_yaml
from pdip.errors import InputError
from pdip.kept import identity
from pdip.ranks import by_first
from pdip.run_directory import SELECTION, RunDirectory
from pdip.scan.checks import shown
from pdip.settings import STAGES, Settings, checked_section, nearest

Sections = Mapping[str, Mapping[str, Any]]

MAX_CANDIDATES = 100
USUAL: dict[str, Sections] = {
    "as given": {},
    "narrow network": {"network": {"channels": 16}},
    "held-out stop": {"dip": {"stop": "held_out"}},
    "profile evidence": {"evidence": {"objective": "profile"}},
    "no hyperprior": {"evidence": {"hyperprior": None}},
}
"""What is compared where nothing is asked for: three fits, and two more evidences on the first."""


def candidates_of(command: argparse.Namespace, base: Sections) -> dict[str, Settings]:
    """The candidates that a command line asks for, by name.

    Args:
        command: with ``candidates`` and ``over``.
        base: settings that all of them share; a candidate's own win.

    Raises:
        InputError: an unreadable file, an unknown section or key (the nearest one is named), a
            value of the wrong kind, or too many candidates.
    """
    if command.candidates is None and not command.over:
        usual = {name: Settings.of(merged(base, own)) for name, own in USUAL.items()}
        first = {identity(settings): name for name, settings in reversed(usual.items())}
        return {name: usual[name] for name in usual if name in first.values()}
    differing = grid(command.over) if command.over else read_candidates(command.candidates)
    if len(differing) > MAX_CANDIDATES:
        raise InputError(
            f"expected at most {MAX_CANDIDATES} candidates, got {len(differing)}; give fewer values"
        )
    return {name: Settings.of(merged(base, own)) for name, own in differing.items()}


@by_first
def with_earlier(
    candidates: Mapping[str, Settings], directory: RunDirectory, warn: Callable[[str], None]
) -> dict[str, Settings]:
    """The candidates, and those that the folder has compared before and that are none of them.

    One of these whose name is taken is called as it was, "before".

    Args:
        candidates: by name.
        directory: of the comparison.
        warn: called with a sentence where the folder does not say any more what it has compared.
    """
    found = dict(candidates)
    known = {identity(settings) for settings in candidates.values()}
    try:
        earlier = _compared(directory)
    except InputError as error:
        warn(f"{error} Candidates before that are not given again are left out.")
        return found
    for name, settings in earlier.items():
        if identity(settings) not in known:
            while name in found:
                name += " before"
            found[name] = settings
    return found


def _compared(directory: RunDirectory) -> dict[str, Settings]:
    """The candidates of the table in a folder, those settings alone that are not the usual ones."""
    if not directory.holds(SELECTION):
        return {}
    usual = Settings().resolved()
    with directory.understood():
        return {
            entry["name"]: Settings.of({
                section: {k: v for k, v in keys.items() if v != usual[section][k]}
                for section, keys in entry["settings"].items()
            })
            for entry in directory.read_json(SELECTION)["candidates"]
        }  # fmt: skip


def merged(base: Sections, own: Sections) -> dict[str, dict[str, Any]]:
    """The sections of both, key by key; where both have a key, that of ``own``."""
    return {
        section: {**base.get(section, {}), **own.get(section, {})}
        for section in dict.fromkeys((*base, *own))
    }


def read_candidates(path: str | Path) -> dict[str, dict[str, Any]]:
    """The candidates of a YAML file: a list of sections, each item with a ``name`` if it wants one.

    Raises:
        InputError: not such a file, or an item that cannot be used; which one is said.
    """
    content, name = read_yaml(path, "candidates file"), Path(path).name
    if not isinstance(content, list):
        raise InputError(f"{name} must hold a list of settings, '- network: {{channels: 16}}'.")
    found: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(content, 1):
        if item is not None and not isinstance(item, Mapping):
            raise InputError(
                f"candidate {number} in {name} must hold sections such as 'network:', got "
                f"{shown(item)}."
            )
        sections = {section: values or {} for section, values in (item or {}).items()}
        called = sections.pop("name", None)
        for section, values in sections.items():
            check_section(str(section))
            checked_section(section, STAGES[section], values)
        called = named(sections) if called is None else str(called)[:80]
        if called in found:
            raise InputError(f"two candidates in {name} are called {called!r}; rename one of them.")
        found[called] = sections
    return found


def grid(over: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Every combination of the values of settings such as ``network.channels=16,32``.

    Raises:
        InputError: another text, an unknown setting, or a value of the wrong kind.

    Example:
        >>> list(grid(["network.channels=8,16", "dip.tv_weight=0.1"]))
        ['network.channels=8 dip.tv_weight=0.1', 'network.channels=16 dip.tv_weight=0.1']
    """
    axes: dict[tuple[str, str], list] = {}
    for text in over:
        section, key, values = axis(text)
        if (section, key) in axes:
            raise InputError(f"--over {section}.{key} is given twice; list all values in one.")
        axes[section, key] = values
    found = {}
    for values in product(*axes.values()):
        sections: dict[str, dict[str, Any]] = {}
        for (section, key), value in zip(axes, values, strict=True):
            sections.setdefault(section, {})[key] = value
        found[named(sections)] = sections
    return found


def axis(text: str) -> tuple[str, str, list]:
    """Section, key and values of ``section.key=value,value``."""
    where, equals, values = text.partition("=")
    section, dot, key = where.strip().partition(".")
    if not (equals and dot and values.strip()):
        raise InputError(f"--over must be section.key=value,value, got {text[:80]!r}.")
    check_section(section)
    try:
        listed = yaml.load(f"[{values}]", Loader=NumberLoader)
    except Exception:
        raise InputError(
            f"--over {where} has the values {values[:80]!r}, which cannot be read."
        ) from None
    for value in listed:
        checked_section(section, STAGES[section], {key: value}, named=f"--over {section}.{key}")
    return section, key, listed


def check_section(section: str) -> None:
    """Raise InputError unless candidates may differ in this section."""
    if section == "scan":
        raise InputError(
            "candidates must see the same scan, got another section 'scan'; give --view-step or "
            "--image-size once for all of them."
        )
    if section == "calibration":
        raise InputError(
            "candidates are compared without a calibration check, got the section 'calibration'; "
            "check the winner with pdip reconstruct --config winner.yaml --check-calibration."
        )
    if section not in STAGES:
        raise InputError(f"unknown section {section[:80]!r}; {nearest(section, STAGES)}")


def named(sections: Sections) -> str:
    """The settings in one line, the name of a candidate that has no other."""
    listed = [f"{s}.{k}={short(v)}" for s, values in sections.items() for k, v in values.items()]
    return " ".join(listed) or "as given"


def short(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).split("\n")[0]
    return text.strip()
