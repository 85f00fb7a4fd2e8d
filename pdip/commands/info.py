"""``pdip info``: what a file holds and how it will be read."""

import argparse

from pdip.config import add_setting_options, resolved_scan, settings_of
from pdip.report import information

HELP = "what a file holds and how it will be read"
EXAMPLE = "pdip info scan.h5 --row 0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``pdip info``."""
    parser.add_argument("file", metavar="FILE", help="a scan, or a folder of TIFFs")
    parser.add_argument("--geometry", metavar="F", help="YAML file with the geometry")
    add_setting_options(parser, ("scan",))


def run(command: argparse.Namespace) -> int:
    """Print what was found, and what is assumed and missing.

    Raises:
        InputError: the file cannot be used; after the lines that say what it holds.
    """
    reading = resolved_scan(settings_of(command)["scan"])
    for line in information(command.file, command.geometry, reading):
        print(line)
    return 0
