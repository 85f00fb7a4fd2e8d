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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pdip.arguments import parsed
from pdip.checkpoints import DirectoryCheckpoints
from pdip.config import resolved_scan, settings_of
from pdip.device import checked_device
from pdip.errors import ComputationError, InputError
from pdip.pipeline import reconstruct
from pdip.posterior import SavedPosterior
from pdip.region import read_box, read_mask
from pdip.report import draw_overview, draw_volume, summary, volume_summary
from pdip.result import Result
from pdip.run_directory import ARRAYS, OVERVIEW, POSTERIOR, SUMMARY, RunDirectory
from pdip.scan import (
    Scan,
    holds_stack,
    read_ground_truth,
    read_scan,
    read_stack,
    read_true_slices,
)
from pdip.settings import Settings
from pdip.stack_run import SliceOutcome, StackRun
from pdip.terminal import Terminal
from pdip.typing import Image

TRACEBACK = "PDIP_TRACEBACK"
"""Environment variable: when set, a failure shows where in the code it happened."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; never raises.

    Args:
        arguments: the command line after the program's name; None for the process's own.

    Returns:
        the exit code.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = parsed(arguments, {"reconstruct": run_reconstruct, "roi": run_roi})
        return command.run(command)
    except SystemExit as leaving:  # --help
        return int(leaving.code or 0)
    except InputError as error:
        return failed(error, 2)
    except ComputationError as error:
        return failed(error, 1)
    except KeyboardInterrupt:
        return failed("interrupted; nothing was kept.", 1)
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
    """Print the sentence on one line of stderr and return the exit code."""
    if os.environ.get(TRACEBACK) and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(f"pdip: {' '.join(str(sentence).split())}", file=sys.stderr, flush=True)
    return code


def run_reconstruct(command: argparse.Namespace) -> int:
    """``pdip reconstruct``: read, check, run all stages, write the files."""
    sections = settings_of(command)
    reading = resolved_scan(sections.pop("scan"))
    settings = Settings.of(sections)
    checked_device(settings.ray.get("device", "cpu"))
    directory = RunDirectory(command.out or Path("runs") / Path(command.sinogram).stem)
    source = {name: vars(command)[name] for name in ("sinogram", "geometry", "ground_truth")}
    run = run_scan
    if holds_stack(command.sinogram, reading["dataset"]):
        run = run_stack
    elif reading.pop("slices") is not None:
        raise InputError(
            f"--slices selects from a stack (slices, views, detectors), but {command.sinogram} "
            "holds a single scan; leave it out."
        )
    terminal = Terminal()
    try:
        with quiet_libraries():
            return run(command, settings, reading, directory, source, terminal)
    except InputError:
        directory.forget()
        raise
    except KeyboardInterrupt:
        terminal.close()
        return failed(
            f"interrupted; finished stages are kept, go on with the same command and --resume "
            f"(folder {directory.path}).",
            1,
        )
    finally:
        terminal.close()


def run_scan(command, settings: Settings, reading, directory, source, terminal) -> int:
    """Reconstruct a single scan."""
    scan = read_scan(command.sinogram, command.geometry, **reading)
    truth = read_truth(command, read_ground_truth, scan.grid, reading["dataset"])
    directory.begin(
        scan,
        {"scan": reading, **settings.resolved()},
        resume=command.resume,
        overwrite=command.overwrite,
    )
    checkpoints = DirectoryCheckpoints(directory)
    result = reconstruct(scan, settings, observer=terminal, checkpoints=checkpoints)
    write_result(directory, result, scan, truth, source, terminal)
    return 0


def run_stack(command, settings: Settings, reading, directory, source, terminal) -> int:
    """Reconstruct the slices of a stack, one after another, and put them together."""
    stack = read_stack(command.sinogram, command.geometry, **reading)
    truths = read_truth(command, read_true_slices, stack, reading["dataset"])
    directory.begin(
        stack,
        {"scan": reading, **settings.resolved()},
        resume=command.resume,
        overwrite=command.overwrite,
    )
    for sentence in stack.assumptions:
        terminal.assumed(sentence)

    def write_slice(folder: RunDirectory, result: Result, scan: Scan, number: int) -> None:
        truth = None if truths is None else truths[number]
        write_result(folder, result, scan, truth, {**source, "slice": number}, told(number))

    def told(number: int) -> Terminal:
        return Terminal(f"slice {number}, ")

    run = StackRun(stack, settings, reading, directory, told, write_slice)
    outcomes = []
    for outcome in run.outcomes(resume=command.resume):
        outcomes.append(outcome)
        terminal.finished(f"slice {outcome.number}", slice_sentence(directory, outcome))
    missing = [outcome for outcome in outcomes if outcome.failure is not None]
    if len(missing) == len(outcomes):
        raise missing[0].failure
    write_volumes(run, outcomes, source, terminal)
    if not missing:
        return 0
    names = ", ".join(str(outcome.number) for outcome in missing)
    return failed(
        f"{len(missing)} of {len(outcomes)} slices have no result and are NaN in the volumes: "
        f"{names}; why is in {directory.path / SUMMARY}.",
        1,
    )


def slice_sentence(directory: RunDirectory, outcome: SliceOutcome) -> str:
    """How a slice ended, in one line."""
    if outcome.failure is not None:
        return f"no result: {outcome.failure}"
    numbers = directory.slice(outcome.number).read_json(SUMMARY)
    scored = "" if numbers["psnr"] is None else f", psnr {numbers['psnr']:.2f} dB"
    seconds = sum(cost["seconds"] for cost in numbers["stages"].values())
    return (
        f"mean std {numbers['mean_std']:.3g} 1/mm, noise std {numbers['noise_std']:.3g}{scored}, "
        f"{seconds:.1f} s; {numbers['stop_reason']}"
    )


def write_volumes(run: StackRun, outcomes, source: Mapping, terminal: Terminal) -> None:
    """Write the files of a stack beside the folders of its slices, ``summary.json`` last."""
    terminal.started("files")
    directory = run.directory
    run.write_volumes(outcomes, ARRAYS)
    volumes = [np.load(directory.path / name, mmap_mode="r") for name in ARRAYS[:2]]
    figure = draw_volume(*volumes, [outcome.number for outcome in outcomes], run.stack.grid)
    directory.write(OVERVIEW, lambda stream: figure.savefig(stream, format="png", dpi=150))
    slices = {
        outcome.number: str(outcome.failure)
        if outcome.failure is not None
        else directory.slice(outcome.number).read_json(SUMMARY)
        for outcome in outcomes
    }
    numbers = volume_summary(slices, run.stack.assumptions, source)
    directory.write_json(SUMMARY, numbers)
    for sentence in numbers["assumptions"][len(run.stack.assumptions) :]:
        terminal.assumed(sentence)
    if numbers["psnr"] is not None:
        terminal.finished(
            "scores",
            f"means over slices: psnr {numbers['psnr']:.2f} dB, ssim {numbers['ssim']:.3f}, "
            f"relative l2 {numbers['relative_l2']:.3f}, log-likelihood per pixel "
            f"{numbers['log_likelihood_per_pixel']:.3f} ({numbers['log_likelihood_kind']}), "
            f"coverage of the 95 % interval {numbers['coverage_95']:.3f}",
        )
    terminal.finished(
        "written", f"{directory.path / OVERVIEW} and beside it the volumes and {SUMMARY}"
    )


def read_truth(command: argparse.Namespace, read: Callable, place, dataset: str | None):
    """The truth that was named, or the one inside the scan file, or None.

    Args:
        command: names the files.
        read: reads an image or a volume from a file, as it fits ``place``.
        place: the grid or the stack to compare with.
        dataset: of the sinogram in an HDF5 file.
    """
    if command.ground_truth is not None:
        truth = read(command.ground_truth, place)
        if truth is None:
            raise InputError(
                f"{command.ground_truth} holds neither 'ground_truth' nor 'reference'; name a "
                ".npy image or a .npz or HDF5 file with one of them."
            )
        return truth
    if Path(command.sinogram).suffix.lower() == ".npy":
        return None
    return read(command.sinogram, place, dataset)


def write_result(
    directory: RunDirectory,
    result: Result,
    scan: Scan,
    truth: Image | None,
    source: Mapping[str, str | None],
    terminal: Terminal,
) -> None:
    """Write all files of a finished run, ``summary.json`` last."""
    terminal.started("files")
    directory.write_array("reconstruction.npy", result.image)
    directory.write_array("std.npy", result.std)
    directory.write_array("posterior_mean.npy", result.mean)
    directory.write_tensors(POSTERIOR, result.posterior.tensors(), {"format": 1})
    figure = draw_overview(result.image, result.std, truth, scan.grid)
    directory.write(OVERVIEW, lambda stream: figure.savefig(stream, format="png", dpi=150))
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
    directory = slice_directory(RunDirectory(command.directory), command.slice)
    tensors, _ = directory.read_tensors(POSTERIOR)
    posterior = SavedPosterior(tensors)
    shape = tuple(posterior.image.shape)
    mask = read_mask(command.mask, shape) if command.mask else read_box(command.box, shape)
    mean, std = posterior.functional(mask.double() / mask.sum())
    pixels = int(mask.sum())
    print(f"{mean:.6g} ± {std:.2g} 1/mm (mean over {pixels} pixel{'s' if pixels > 1 else ''})")
    return 0


def slice_directory(directory: RunDirectory, number: int | None) -> RunDirectory:
    """The folder that answers: the run's own, or that of the slice that was named."""
    numbers = directory.slice_numbers()
    if not numbers and number is None:
        return directory
    if number in numbers:
        return directory.slice(number)
    if not numbers:
        raise InputError(f"{directory.path} holds no stack of slices; leave --slice out.")
    raise InputError(
        f"{directory.path} holds a stack of {len(numbers)} slices from {numbers[0]} to "
        f"{numbers[-1]}; name one of them with --slice N."
    )


@contextlib.contextmanager
def quiet_libraries():
    """Keep library warnings, which no user can act on, off the terminal."""
    with warnings.catch_warnings():
        if not os.environ.get(TRACEBACK):
            warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    sys.exit(main())
