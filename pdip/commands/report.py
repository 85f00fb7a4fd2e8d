"""``pdip report``: the page of a finished run, made again from its folder alone."""

import argparse

from pdip.run_directory import REPORT, RunDirectory
from pdip.run_report import rebuilt

HELP = "write report.html of a finished run again, from its folder alone"
EXAMPLE = "pdip report runs/mine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``pdip report``."""
    parser.add_argument("directory", metavar="DIR", help="folder of a finished run")


def run(command: argparse.Namespace) -> int:
    """Write the page, or those of a stack and its slices."""
    directory = RunDirectory(command.directory)
    pages = rebuilt(directory)
    slices = f" and {pages - 1} pages of slices" if pages > 1 else ""
    print(f"written: {directory.path / REPORT}{slices}")
    return 0
