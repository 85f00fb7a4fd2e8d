"""The commands ``pdip reconstruct`` and ``pdip roi``.

Exit codes: 0 done, 1 failed or interrupted, 2 wrong usage or unusable input. Every failure is
one sentence on stderr.
"""

import argparse
import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from pdip.checkpoints import DirectoryCheckpoints
from pdip.config import (
    OneSentenceParser,
    add_setting_options,
    resolved_scan,
    settings_of,
)
from pdip.device import checked_device, deterministic
from pdip.errors import ComputationError, InputError, OutputError
from pdip.interruption import stoppable
from pdip.pipeline import reconstruct
from pdip.posterior import SavedPosterior
from pdip.ranks import LostRank, rank, speaks, together
from pdip.region import read_box, read_mask
from pdip.report import draw_overview, summary
from pdip.result import Result
from pdip.run_directory import OVERVIEW, POSTERIOR, SUMMARY, RunDirectory
from pdip.scan import Scan, read_ground_truth, read_scan
from pdip.settings import Settings, nearest
from pdip.stages import Observer
from pdip.terminal import Terminal
from pdip.typing import Image

TRACEBACK = "PDIP_TRACEBACK"
"""Environment variable: when set, a failure shows where in the code it happened."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, with the other processes if torchrun started several; never raises.

    Args:
        arguments: the command line after the program's name; None for the process's own.

    Returns:
        the exit code.
    """
    try:
        with stoppable(), together():
            return answered(list(sys.argv[1:] if arguments is None else arguments))
    except (KeyboardInterrupt, LostRank) as reason:  # while the processes meet or part
        return failed(f"{reason or 'interrupted'}.", 1)


def answered(arguments: list[str]) -> int:
    """The exit code of one command; whatever it raises becomes a sentence."""
    try:
        command = parsed(arguments)
        with deterministic() if command.deterministic else contextlib.nullcontext():
            return command.run(command)
    except SystemExit as leaving:  # --help
        return int(leaving.code or 0)
    except InputError as error:
        return failed(error, 2)
    except OutputError as error:
        return failed(
            f"{error}; make room or see to its rights, then the same command with --resume goes on "
            "without computing anew what the folder holds.",
            1,
        )
    except ComputationError as error:
        return failed(error, 1)
    except KeyboardInterrupt as reason:
        return failed(f"{reason or 'interrupted'}; nothing was kept.", 1)
    except BrokenPipeError:  # the reader of stdout has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return failed("the computer ran out of memory; use --view-step or --image-size.", 1)
    except OSError as error:
        return failed(f"{error.filename or 'a file'}: {error.strerror or error}.", 1)
    except Exception as error:  # a fault of pdip itself: still one sentence, never a traceback
        return failed(
            f"unexpected {type(error).__name__}: {error}; please report it with the output of "
            f"the same command after 'export {TRACEBACK}=1'.",
            1,
        )


def failed(sentence, code: int) -> int:
    """Print the sentence on one line of stderr, once for all ranks, and return the exit code."""
    if not speaks():
        return code
    if os.environ.get(TRACEBACK) and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(f"pdip: {' '.join(str(sentence).split())}", file=sys.stderr, flush=True)
    return code


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line as a namespace with the function ``run``.

    Raises:
        InputError: an unknown option (the nearest one is named) or one without its value.
    """
    parser = OneSentenceParser(
        prog="pdip", description="Reconstruct a CT scan with an error bar for every pixel."
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=OneSentenceParser)
    options = {
        "reconstruct": add_reconstruct(commands.add_parser(
            "reconstruct", allow_abbrev=False, help="one scan in, reconstruction and std out"
        )),
        "roi": add_roi(commands.add_parser(
            "roi", allow_abbrev=False, help="mean and std of a region of a finished run"
        )),
    }  # fmt: skip
    found, unknown = parser.parse_known_args(arguments)
    for argument in unknown:
        if argument.startswith("--"):
            name = argument.partition("=")[0]
            raise InputError(f"unknown option {name}; {nearest(name, options[found.command])}")
        raise InputError(f"unexpected argument {argument!r}; options start with --.")
    return found


def add_reconstruct(parser: argparse.ArgumentParser) -> list[str]:
    """Add the options of ``pdip reconstruct`` and return their names."""
    parser.set_defaults(run=run_reconstruct)
    parser.add_argument("--sinogram", metavar="FILE", required=True, help=".npy or .npz scan")
    parser.add_argument("--geometry", metavar="F", help="YAML file with the geometry")
    parser.add_argument(
        "--ground-truth", metavar="F", help="true image, for scores only; found in a .npz scan"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the run [runs/<name of the scan>]")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in --out")
    again.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument(
        "--deterministic", action="store_true",
        help="the same bits in every run on one GPU; on a CPU they are the same without",
    )  # fmt: skip
    add_setting_options(parser)
    return list(parser._option_string_actions)


def add_roi(parser: argparse.ArgumentParser) -> list[str]:
    """Add the options of ``pdip roi`` and return their names."""
    parser.set_defaults(run=run_roi, deterministic=False)
    parser.add_argument("directory", metavar="DIR", help="folder of a finished run")
    region = parser.add_mutually_exclusive_group(required=True)
    region.add_argument("--mask", metavar="M.npy", help="image of 0 and 1, true inside")
    region.add_argument("--box", metavar="R0:R1,C0:C1", help="rows and columns, counted from 0")
    return list(parser._option_string_actions)


def run_reconstruct(command: argparse.Namespace) -> int:
    """``pdip reconstruct``: read, check, run all stages, write the files."""
    sections = settings_of(command)
    thinning = resolved_scan(sections.pop("scan"))
    settings = Settings.of(sections)
    checked_device(settings.ray.get("device", "cpu"))
    scan = read_scan(command.sinogram, command.geometry, **thinning)
    truth = read_truth(command, scan)
    directory = RunDirectory(command.out or Path("runs") / Path(command.sinogram).stem)
    directory.begin(
        scan,
        {"scan": thinning, **settings.resolved()},
        resume=command.resume,
        overwrite=command.overwrite,
    )
    source = {name: vars(command)[name] for name in ("sinogram", "geometry", "ground_truth")}
    terminal = Terminal() if rank() == 0 else Observer()
    try:
        with quiet_libraries():
            result = reconstruct(
                scan,
                settings,
                observer=terminal,
                checkpoints=DirectoryCheckpoints(directory, terminal.warned),
            )
            write_result(directory, result, scan, truth, source, terminal)
        directory.finish()
    except InputError:
        directory.forget()
        raise
    except (KeyboardInterrupt, LostRank) as reason:
        terminal.close()
        return failed(
            f"{reason or 'interrupted'}; what was computed is kept but for the last seconds, go on "
            f"with the same command and --resume (folder {directory.path}).",
            1,
        )
    finally:
        terminal.close()
    return 0


def read_truth(command: argparse.Namespace, scan: Scan) -> Image | None:
    """The true image that was named, or the one inside a ``.npz`` scan, or None."""
    if command.ground_truth is not None:
        truth = read_ground_truth(command.ground_truth, scan.grid)
        if truth is None:
            raise InputError(
                f"{command.ground_truth} holds neither 'ground_truth' nor 'reference'; name a "
                ".npy image or a .npz file with one of them."
            )
        return truth
    if Path(command.sinogram).suffix.lower() == ".npz":
        return read_ground_truth(command.sinogram, scan.grid)
    return None


def write_result(
    directory: RunDirectory,
    result: Result,
    scan: Scan,
    truth: Image | None,
    source: Mapping[str, str | None],
    terminal: Observer,
) -> None:
    """Write all files of a finished run, ``summary.json`` last."""
    terminal.started("files")
    directory.write_array("reconstruction.npy", result.image)
    directory.write_array("std.npy", result.std)
    directory.write_array("posterior_mean.npy", result.mean)
    directory.write_tensors(POSTERIOR, result.posterior.tensors(), {"format": 1})
    directory.write(
        OVERVIEW,
        lambda stream: draw_overview(result.image, result.std, truth, scan.grid).savefig(
            stream, format="png", dpi=150
        ),
    )
    numbers = summary(result, truth, source)
    directory.write_json(SUMMARY, numbers)
    if truth is not None:
        terminal.finished(
            "scores",
            f"psnr {numbers['psnr']:.2f} dB, ssim {numbers['ssim']:.3f}, relative l2 "
            f"{numbers['relative_l2']:.3f}, log-likelihood per pixel "
            f"{numbers['log_likelihood_per_pixel']:.3f} ({numbers['log_likelihood_kind']}), "
            f"coverage of the 95 % interval {numbers['coverage_95']:.3f}",
        )
    terminal.finished(
        "written", f"{directory.path / OVERVIEW} and beside it the arrays and {SUMMARY}"
    )


def run_roi(command: argparse.Namespace) -> int:
    """``pdip roi``: mean and std of a region from the files of a run, without refitting."""
    tensors, _ = RunDirectory(command.directory).read_tensors(POSTERIOR)
    posterior = SavedPosterior(tensors)
    shape = tuple(posterior.image.shape)
    mask = read_mask(command.mask, shape) if command.mask else read_box(command.box, shape)
    mean, std = posterior.functional(mask.double() / mask.sum())
    pixels = int(mask.sum())
    print(f"{mean:.6g} ± {std:.2g} 1/mm (mean over {pixels} pixel{'s' if pixels > 1 else ''})")
    return 0


@contextlib.contextmanager
def quiet_libraries():
    """Keep library warnings, which no user can act on, off the terminal."""
    with warnings.catch_warnings():
        if not os.environ.get(TRACEBACK):
            warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    sys.exit(main())
