"""Settings from the command line and from YAML, checked before anything runs.

A YAML file has one section per stage (``scan``, ``ray``, ``network``, ``dip``, ``prior``,
``linearise``, ``evidence``, ``posterior``); ``--dip.tv_weight 1e-3`` on the command line is the
key ``tv_weight`` of the section ``dip`` and wins over the file. Short options such as ``--seed``
are names for such keys.
"""

import argparse
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from pdip.errors import InputError
from pdip.scan import read_stack
from pdip.scan.yaml_file import NumberLoader, read_yaml
from pdip.settings import (
    CHOICES,
    FROM_DATA,
    STAGES,
    WORDS,
    checked_section,
    keywords,
    named,
    nearest,
)
from pdip.solvers import SOLVERS

SECTIONS: dict[str, Callable] = {"scan": read_stack, **STAGES}
"""Section -> stage; ``scan`` thins views and sets the image size when the file is read."""

TITLES = {
    "scan": "how the file is read",
    "ray": "how rays cross pixels, and where that is computed",
    "network": "the U-Net whose output is the image",
    "dip": "the fit of the network to the scan",
    "prior": "the prior of the network's weights",
    "linearise": "the linear model around the fit",
    "evidence": "the search for the hyperparameters",
    "posterior": "image and error bars",
    "calibration": "the check of the error bars",
}
"""Section -> what it sets, as a heading of the help."""

POSITIONAL = {"scan": ("geometry",)}
"""Keywords that have an option of their own and no place in a section."""

VERBATIM = {("scan", "slices"), ("scan", "dataset")}
"""Keys whose text on the command line is taken as it stands: YAML reads 10: as a mapping."""

SHORT_OPTIONS = {
    "slices": ("A:B", "reconstruct these slices of a stack, as NumPy counts", ("scan.slices",)),
    "row": (
        "N",
        "reconstruct this detector row or slice, counted from 0, the last is -1",
        ("scan.row",),
    ),
    "rows": (
        "A:B",
        "reconstruct these detector rows as a stack, the same as --slices",
        ("scan.slices",),
    ),
    "dataset": ("NAME", "sinogram in an HDF5 or MATLAB file", ("scan.dataset",)),
    "data-kind": ("K", "counts, transmission or line_integrals", ("scan.data_kind",)),
    "cor": ("C", "detector index of the rotation axis, as in the file, or auto", ("scan.cor",)),
    "view-step": ("K", "use views 0, K, 2K, ...", ("scan.view_step",)),
    "binning": ("K", "join K neighbouring detector elements", ("scan.binning",)),
    "image-size": ("N", "reconstruct N x N pixels", ("scan.image_size",)),
    "noise-std": ("S", "noise std of a ray; estimated when not given", ("dip.noise_std",)),
    "seed": ("N", "seed of all random numbers", ("dip.seed",)),
    "solver": ("S", f"{', '.join(SOLVERS)}; chosen when not given", ("evidence.solver",)),
    "device": ("D", "cpu or cuda", ("ray.device",)),
}
"""Option -> (metavar, help, the keys it sets)."""


class OneSentenceParser(argparse.ArgumentParser):
    """Raises InputError in place of printing usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help.")


def add_setting_options(
    parser: argparse.ArgumentParser,
    sections: Sequence[str] = tuple(SECTIONS),
    without: Sequence[str] = (),
) -> None:
    """Give the parser ``--config``, the short options, and one option for every setting.

    Args:
        parser: of a command.
        sections: those whose settings it takes.
        without: settings of these sections, as ``section.key``, that it does not take.
    """
    required = [action for action in parser._actions if action.required]
    given = [" ".join([*action.option_strings[:1], str(action.metavar)]) for action in required]
    parser.usage = " ".join(["%(prog)s", *given, "[options]"])
    parser.add_argument(
        "--config", metavar="F", action="append",
        help="YAML file of settings; given again, the later file wins key by key",
    )  # fmt: skip
    for name, (metavar, text, keys) in SHORT_OPTIONS.items():
        if not {key.partition(".")[0] for key in keys} & set(sections) or set(keys) & set(without):
            continue
        parser.add_argument(f"--{name}", metavar=metavar, default=argparse.SUPPRESS, help=text)
    for section in sections:
        stage = SECTIONS[section]
        group = parser.add_argument_group(f"{section}: {TITLES[section]}")
        told = documented(stage)
        for key, parameter in section_keywords(section).items():
            if f"{section}.{key}" in without:
                continue
            words = WORDS.get((section, key)) or CHOICES.get(key, ())
            listed = all(word in told.get(key, "") for word in words)
            choices = "" if listed else f"; one of {', '.join(words)}"
            default = "" if parameter.default is None else f" [{named(key, parameter.default)}]"
            if (section, key) in FROM_DATA:
                default = f" [{FROM_DATA[section, key]}]"
            text = f"{told.get(key, '')}{choices}{default}".replace("%", "%%")
            group.add_argument(
                f"--{section}.{key}", metavar="V", default=argparse.SUPPRESS, help=text
            )


def settings_of(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The sections that file and command line give together, checked, only what was given.

    Raises:
        InputError: unreadable YAML, unknown section or key, or a value of the wrong kind.
    """
    given = vars(arguments)
    sections = {section: {} for section in SECTIONS}
    for path in given.get("config") or ():
        read = read_sections(path)
        sections = {section: {**keys, **read[section]} for section, keys in sections.items()}
    if "slices" in given and "rows" in given:
        raise InputError("--slices and --rows are two names of one setting; give one of them.")
    for name, (_, _, keys) in SHORT_OPTIONS.items():
        option = name.replace("-", "_")
        if option in given:
            for section, key in (where.split(".") for where in keys):
                checked = _checked_option(section, key, given[option], f"--{name}")
                sections[section] = {**sections[section], key: checked}
    for option, text in given.items():
        section, _, key = option.partition(".")
        if key:
            checked = _checked_option(section, key, text, f"--{option}")
            sections[section] = {**sections[section], key: checked}
    return sections


def read_sections(path: str | Path) -> dict[str, dict[str, Any]]:
    """The settings of a YAML file, every section present and checked.

    Raises:
        InputError: not readable, not YAML, an unknown section or key, or a wrong value.
    """
    content, name = read_yaml(path, "settings file"), Path(path).name
    content = {} if content is None else content
    if not isinstance(content, Mapping):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise InputError(f"{name} must hold sections such as 'dip:', got {kind}.")
    for section in content:
        if section not in SECTIONS:
            inside = [f"'{s}.{section}'" for s in SECTIONS if section in section_keywords(s)]
            hint = f"a key of that name: {', '.join(inside)}." if inside else ""
            raise InputError(
                f"unknown section {str(section)[:80]!r} in {name}; "
                f"{hint or nearest(str(section), SECTIONS)}"
            )
    return {section: checked(section, content.get(section) or {}) for section in SECTIONS}


def checked(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one section in their types; InputError names the nearest known key."""
    if isinstance(values, Mapping):
        for key in POSITIONAL.get(section, ()):
            if key in values:
                raise InputError(f"{section}.{key} has an option of its own: --{key}.")
    return checked_section(section, SECTIONS[section], values)


def resolved_scan(values: Mapping[str, Any]) -> dict[str, Any]:
    """Every key of the section ``scan`` with its value or default."""
    defaults = {key: parameter.default for key, parameter in section_keywords("scan").items()}
    return defaults | dict(values)


def section_keywords(section: str) -> dict[str, inspect.Parameter]:
    """The keywords of a section's stage that may stand in it."""
    own = POSITIONAL.get(section, ())
    return {k: p for k, p in keywords(SECTIONS[section]).items() if k not in own}


LEFT_OUT = ((r"\(None: ", "(if left out: "), (r"\bNone\b", "left out"))
"""What the value None of a keyword is in words of the command line."""
MARKUP = re.compile(r"(?::\w+:)?`{1,2}~?([^`]+)`{1,2}")
"""Sphinx's roles and literals, around what they mark."""


def documented(stage: Callable) -> dict[str, str]:
    """What a docstring's ``Args`` section says of each argument, in words of the command line."""
    text = MARKUP.sub(r"\1", inspect.getdoc(stage) or "")
    for python, words in LEFT_OUT:
        text = re.sub(python, words, text)
    block = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
    entries = re.split(r"^ {4}(?=\w+:)", block.group(1), flags=re.MULTILINE) if block else []
    told = {}
    for entry in entries:
        name, colon, sentence = " ".join(entry.split()).partition(":")
        if colon:
            told[name] = re.sub(r"(?<!\.)\.$", "", sentence.strip())
    return told


def _checked_option(section: str, key: str, text: str, option: str) -> Any:
    """A value of the command line, read as YAML reads it."""
    try:
        verbatim = (section, key) in VERBATIM
        value = text if verbatim else yaml.load(text, Loader=NumberLoader)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None
    except Exception:
        raise InputError(f"{option} has the value {text[:80]!r}, which cannot be read.") from None
    values = checked_section(section, SECTIONS[section], {key: value}, named=option)
    return values.get(key)
