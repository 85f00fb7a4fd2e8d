"""The commands and their options."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, ModuleType

from pdip.config import SECTIONS, OneSentenceParser, add_setting_options
from pdip.errors import InputError
from pdip.settings import nearest
from pdip.units import UNITS, Unit
from pdip.version import VERSION

CHECKING = ("--check-calibration", "--calibration.")
"""How options of the calibration check begin."""
SEVERAL = ("--slices", "--rows", "--scan.slices")
"""Options that name several slices."""

GROUPS = {
    "before": ("doctor", "simulate", "info", "validate"),
    "reconstruct": ("reconstruct", "resume", "select"),
    "after": ("roi", "report", "compare", "export"),
    "shell": ("completion",),
}
"""Commands in the order in which they are used, as ``pdip --help`` lists them."""


def parsed(
    arguments: list[str],
    commands: Mapping[str, Callable[[argparse.Namespace], int]],
    others: Mapping[str, ModuleType] = MappingProxyType({}),
) -> argparse.Namespace:
    """The command line as a namespace with the function ``run``.

    Args:
        arguments: the command line after the program's name.
        commands: what each command runs, by its name; where it is not there, its module's ``run``.
        others: modules of further commands with ``HELP``, ``EXAMPLE`` and ``add_arguments``.

    Raises:
        InputError: an unknown option (the nearest one is named) or one without its value.
    """
    parser = CommandsParser(
        prog="pdip", description="Reconstruct a CT scan with an error bar for every pixel."
    )
    parser.add_argument("--version", action="version", version=f"pdip {VERSION}")
    parsers = parser.add_subparsers(dest="command", required=True, parser_class=OneSentenceParser)
    options = {}
    for name, (text, example, add) in OWN.items():
        options[name] = add(_command(parsers, name, text, example))
    for name, module in others.items():
        other = _command(parsers, name, module.HELP, module.EXAMPLE)
        other.set_defaults(deterministic=False)
        module.add_arguments(other)
        options[name] = list(other._option_string_actions)
    found, unknown = parser.parse_known_args(_joined(arguments))
    for argument in unknown:
        if argument.startswith("--"):
            name = argument.partition("=")[0]
            if found.command == "select" and name.startswith(CHECKING):
                raise InputError(
                    f"{name} is for pdip reconstruct, as candidates are compared without a check; "
                    "check the winner with --config winner.yaml --check-calibration."
                )
            if found.command == "select" and name in SEVERAL:
                raise InputError(
                    f"{name} is for pdip reconstruct, as candidates are compared on one slice; "
                    "name it with --row."
                )
            raise InputError(f"unknown option {name}; {nearest(name, options[found.command])}")
        raise InputError(f"unexpected argument {argument!r}; options start with --.")
    found.parser = parser
    found.run = commands.get(found.command) or others[found.command].run
    return found


def _command(parsers, name: str, text: str, example: str) -> OneSentenceParser:
    """The parser of one command, whose help ends with an example."""
    return parsers.add_parser(
        name, allow_abbrev=False, help=text, description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example:\n  {example}", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


class CommandsParser(OneSentenceParser):
    """Its help lists the commands in groups, in the order in which they are used."""

    def format_help(self) -> str:
        """The text of ``pdip --help``."""
        (commands,) = self._subparsers._group_actions
        told = {command.dest: command.help for command in commands._choices_actions}
        lines = [f"usage: {self.prog} COMMAND ...", "", self.description]
        for title, names in GROUPS.items():
            lines += [
                "",
                f"{title}:",
                *(f"  {name:<12} {told[name]}" for name in names if name in told),
            ]
        lines += ["", "Options of a command: pdip COMMAND --help. Version: pdip --version."]
        return "\n".join(lines) + "\n"


def _joined(arguments: list[str]) -> list[str]:
    """The same with ``--box`` and a value that begins with a minus, no option, in one piece."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--box" and argument[:1] == "-" and argument[:2] != "--":
            joined[-1] = f"--box={argument}"
        else:
            joined.append(argument)
    return joined


def add_reconstruct(parser: argparse.ArgumentParser) -> list[str]:
    """Add the options of ``pdip reconstruct`` and return their names."""
    parser.add_argument(
        "--sinogram", metavar="FILE", required=True,
        help=".npy, .npz, HDF5, .mat, TIFF or a folder of them: a scan (views, detectors), a stack "
        "(slices, views, detectors) or detector images; 'pdip info FILE' says how it is read",
    )  # fmt: skip
    parser.add_argument(
        "--ground-truth", metavar="F",
        help="true image or volume, for scores only; found in a .npz or HDF5 scan",
    )  # fmt: skip
    parser.add_argument(
        "--check-calibration", action="store_true",
        help="withhold some views and test the error bars on them; doubles the time of the run",
    )  # fmt: skip
    return add_run(parser, "runs/<name of the scan>", tuple(SECTIONS))


def add_select(parser: argparse.ArgumentParser) -> list[str]:
    """Add the options of ``pdip select`` and return their names."""
    parser.add_argument(
        "--sinogram", metavar="FILE", required=True,
        help="as for pdip reconstruct: a scan (views, detectors), or a stack and one --row of it",
    )  # fmt: skip
    candidates = parser.add_mutually_exclusive_group()
    candidates.add_argument(
        "--candidates", metavar="F", help="YAML list of settings sections, each with a 'name'"
    )
    candidates.add_argument(
        "--over", metavar="S.K=V,W", action="append",
        help="a setting and its values, as network.channels=16,32; given again: every combination",
    )  # fmt: skip
    sections = tuple(section for section in SECTIONS if section != "calibration")
    return add_run(parser, "runs/<name of the scan>-select", sections, ("scan.slices",))


def add_run(
    parser: argparse.ArgumentParser, out: str, sections: Sequence[str], without: Sequence[str] = ()
) -> list[str]:
    """Add what every command has that computes, and return all names.

    Args:
        parser: of the command.
        out: where it writes when nothing is said.
        sections: of settings that it has options for.
        without: settings of these, as ``section.key``, that it has none for.
    """
    parser.add_argument("--geometry", metavar="F", help="YAML file with the geometry")
    parser.add_argument("--out", metavar="DIR", help=f"folder of the run [{out}]")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in --out")
    again.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument(
        "--deterministic", action="store_true",
        help="the same bits in every run on one GPU; on a CPU they are the same without",
    )  # fmt: skip
    add_setting_options(parser, sections, without)
    return list(parser._option_string_actions)


def add_roi(parser: argparse.ArgumentParser) -> list[str]:
    """Add the options of ``pdip roi`` and return their names."""
    parser.set_defaults(deterministic=False)
    parser.add_argument("directory", metavar="DIR", help="folder of a finished run")
    parser.add_argument("--slice", metavar="N", type=int, help="slice of the run of a stack")
    add_unit(parser)
    region = parser.add_mutually_exclusive_group(required=True)
    region.add_argument(
        "--mask", metavar="M.npy", help="array of the image's shape, 1 or true inside"
    )
    region.add_argument(
        "--box",
        metavar="R0:R1,C0:C1",
        help="rows R0 to R1 - 1 from the top, columns C0 to C1 - 1, counted from 0",
    )
    return list(parser._option_string_actions)


def add_unit(parser: argparse.ArgumentParser) -> None:
    """Add the unit of what is shown or written."""
    parser.add_argument("--unit", metavar="U", default="1/mm", help=f"{', '.join(UNITS)} [1/mm]")
    parser.add_argument(
        "--water", metavar="MU", type=float, help="attenuation of water in 1/mm, for HU"
    )


def asked_unit(command: argparse.Namespace) -> Unit:
    """The unit of a command line; a water that is hardly one is told on stderr.

    Raises:
        InputError: as for :meth:`pdip.units.Unit.of`.
    """
    unit = Unit.of(command.unit, command.water)
    if unit.doubt:
        print(f"warning: {unit.doubt}", file=sys.stderr)
    return unit


OWN: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], list[str]]]] = {
    "reconstruct": (
        "one scan in, reconstruction and std out",
        "pdip reconstruct --sinogram scan.npz --view-step 2 --out runs/mine",
        add_reconstruct,
    ),
    "select": (
        "which settings suit a scan, by views withheld from all, without ground truth",
        "pdip select --sinogram scan.npz --over network.channels=16,32",
        add_select,
    ),
    "roi": (
        "mean and std of a region of a finished run",
        "pdip roi runs/mine --box 20:30,14:22",
        add_roi,
    ),
}
"""Commands whose arguments are here: name -> help, example, and what adds their options."""
