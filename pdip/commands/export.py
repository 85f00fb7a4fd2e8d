"""``pdip export``: the images of a finished run in the formats of other programs."""

import argparse
from pathlib import Path

from pdip.arguments import add_unit, asked_unit
from pdip.errors import ComputationError, InputError, OutputError
from pdip.export import EXPORTS, export
from pdip.region import slice_directory
from pdip.run_directory import RunDirectory

HELP = "images of a finished run as TIFF, HDF5 or NumPy"
EXAMPLE = "pdip export runs/mine --format tiff"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``pdip export``."""
    parser.add_argument("directory", metavar="DIR", help="folder of a finished run")
    parser.add_argument(
        "--format", choices=tuple(EXPORTS), required=True,
        help="tiff: one file for each image; hdf5: result.h5 (NeXus); numpy: result.npz",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="folder for the files [that of the run]")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--slice", metavar="N", type=int, help="one slice of the run of a stack")
    add_unit(parser)


def run(command: argparse.Namespace) -> int:
    """Write the files and name them.

    Raises:
        InputError: no finished run or no such unit is there, or files are in the way.
        ComputationError: a file cannot be written.
    """
    unit = asked_unit(command)
    directory = RunDirectory(command.directory)
    if command.slice is not None:
        directory = slice_directory(directory, command.slice)
    out = Path(command.out or directory.path)
    if out.is_file():
        raise InputError(f"--out {out} is a file; name a folder.")
    try:
        files = export(directory, command.format, out, unit, command.overwrite)
    except OutputError as error:
        raise ComputationError(f"{error}; make room or name another --out.") from None
    print(f"written: {', '.join(map(str, files))}")
    return 0
