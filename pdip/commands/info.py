"""``pdip info``: what a file holds and how it will be read."""

import argparse
import math
from collections.abc import Iterator

import torch

from pdip.config import add_setting_options, resolved_scan, settings_of
from pdip.errors import InputError
from pdip.plan import check_memory
from pdip.report import information
from pdip.scan import Scan
from pdip.withholding import used_rays

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
    for line in information(command.file, command.geometry, reading, (too_large,)):
        print(line)
    return 0


def too_large(scan: Scan) -> Iterator[str]:
    """A warning where this machine's memory cannot hold the scan's posterior."""
    rays, pixels = int(used_rays(scan).sum()), math.prod(scan.grid.shape)
    try:
        check_memory(None, rays, pixels, torch.device("cpu"))
    except InputError as error:
        yield f"WARNING: pdip reconstruct will refuse it on this machine: {error}"
