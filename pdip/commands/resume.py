"""``pdip resume``: goes on with a run from what its folder says of it."""

import argparse
import os
from pathlib import Path
from typing import Any

from pdip.errors import InputError
from pdip.ranks import by_first
from pdip.run_directory import COMMAND, INPUT, SETTINGS, SUMMARY, RunDirectory

HELP = "go on with an interrupted run, with its own input and settings"
EXAMPLE = "pdip resume runs/mine"
FILES = ("sinogram", "geometry", "ground_truth")
FLAGS = ("check_calibration", "deterministic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``pdip resume``."""
    parser.add_argument("directory", metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--check-calibration", action="store_true", help="and check its error bars on withheld rays"
    )


def kept_command(command: argparse.Namespace) -> dict[str, Any]:
    """What the folder keeps of a command line beside its settings: files by their full path."""
    given = {name: getattr(command, name, None) for name in FILES}
    return {
        "name": command.command,
        **{name: os.path.abspath(path) for name, path in given.items() if path is not None},
        **{name: True for name in FLAGS if getattr(command, name, False)},
    }


@by_first
def resuming_arguments(directory: RunDirectory, check: bool = False) -> list[str]:
    """The command line that goes on with the run in a folder; empty where it is finished.

    Args:
        directory: of the run.
        check: also check the calibration, whether the run was asked to or not.

    Raises:
        InputError: the folder holds no run, one that does not say how it was made, or its input
            is not there any more.
    """
    if not directory.holds(INPUT):
        raise InputError(f"{directory.path} holds no run ({INPUT} is not there); name its folder.")
    with directory.understood():
        return _arguments(directory, check)


def _arguments(directory: RunDirectory, check: bool) -> list[str]:
    kept = directory.read_json(INPUT).get(COMMAND)
    if kept is None or kept["name"] != "reconstruct":
        raise InputError(
            f"{directory.path} does not say how its run was made (a slice, a candidate, pdip "
            "select or an earlier pdip); give the command that made it again with --resume."
        )
    kept = kept | {"check_calibration": check or kept.get("check_calibration", False)}
    if _finished(directory, kept):
        return []
    arguments = ["reconstruct", "--resume", "--out", str(directory.path)]
    arguments += ["--config", str(directory.path / SETTINGS)]
    for name in FILES:
        if name in kept:
            arguments += [_option(name), _present(directory, kept[name])]
    return arguments + [_option(name) for name in FLAGS if kept.get(name)]


def _finished(directory: RunDirectory, kept: dict[str, Any]) -> bool:
    """Whether all that was asked for is there: every slice of a stack, the check of a scan."""
    if not directory.finished:
        return False
    numbers = directory.read_json(SUMMARY)
    if any("failure" in row for row in numbers.get("slices", ())):
        return False
    return not kept.get("check_calibration") or "calibration" in numbers


def _present(directory: RunDirectory, path: str) -> str:
    if not Path(path).exists():
        raise InputError(
            f"the run in {directory.path} was made from {path}, which is not there any more; put "
            f"it back, or name its new place: pdip reconstruct --sinogram FILE --config "
            f"{directory.path / SETTINGS} --out {directory.path} --resume."
        )
    return path


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
