"""``pdip completion``: a script with which a shell completes commands, options and their words."""

import argparse

from pdip.errors import InputError

HELP = "a script that completes pdip's commands and options in bash, zsh or fish"
EXAMPLE = 'eval "$(pdip completion bash)"'
SHELLS = ("bash", "zsh", "fish")
FOLDERS = ("DIR", "RUN_A", "RUN_B")
"""Placeholders in the help that stand for a folder."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``pdip completion``."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that the script is for")


def run(command: argparse.Namespace) -> int:
    """Print the script.

    Raises:
        InputError: shtab is not installed.
    """
    try:
        import shtab
    except ModuleNotFoundError:
        raise InputError(
            "completion needs the package shtab; install it with pip install shtab."
        ) from None
    for action in _actions(command.parser):
        metavar = str(action.metavar)
        if metavar in FOLDERS:
            action.complete = shtab.DIR
        elif metavar == "FILE" or metavar.partition(".")[0] in ("F", "M"):
            action.complete = shtab.FILE
    print(shtab.complete(command.parser, shell=command.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All options of a parser and its commands."""
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found += _actions(command)
    return found
