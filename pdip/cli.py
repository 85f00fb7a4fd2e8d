"""The commands ``pdip reconstruct``, ``select``, ``roi`` and ``resume``; others in commands/.

Exit codes: 0 done, 1 failed or interrupted, 2 wrong usage or unusable input. Every failure is
one sentence on stderr.
"""

import argparse
import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from pdip.arguments import asked_unit, parsed
from pdip.calibration_check import check_calibration
from pdip.candidates import candidates_of, with_earlier
from pdip.checkpoints import DirectoryCheckpoints
from pdip.commands import COMMANDS, resume
from pdip.commands.request import Request, read_one
from pdip.commands.resume import kept_command
from pdip.config import resolved_scan, settings_of
from pdip.device import checked_device, deterministic
from pdip.errors import ComputationError, InputError, OutputError, out_of_memory
from pdip.interruption import stoppable
from pdip.kept import DirectoryKept
from pdip.pipeline import reconstruct
from pdip.posterior import SavedPosterior
from pdip.ranks import LostRank, rank, speaks, together
from pdip.region import read_box, read_mask, slice_directory
from pdip.report.words import plus_minus
from pdip.result import Result
from pdip.run_directory import POSTERIOR, SUMMARY, RunDirectory
from pdip.run_files import (
    NotShown,
    slice_sentence,
    tell_warnings,
    write_check,
    write_result,
    write_selection,
    write_volumes,
)
from pdip.scan import Scan, Stack
from pdip.selection import select, withheld_kind
from pdip.stack_run import SliceOutcome, StackRun
from pdip.stages import Listener, Observer
from pdip.terminal import TRACEBACK, Terminal, quiet_libraries, say_anything

OUT_OF_MEMORY = (
    "the computer or its GPU ran out of memory; use --view-step, --image-size or fewer "
    "--network.channels."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, with the other processes if torchrun started several; never raises.

    Args:
        arguments: the command line after the program's name; None for the process's own.

    Returns:
        the exit code.
    """
    say_anything()
    try:
        with stoppable(), together():
            return answered(list(sys.argv[1:] if arguments is None else arguments))
    except (KeyboardInterrupt, LostRank) as reason:  # while the processes meet or part
        return failed(f"{why(reason)}.", 1)


def answered(arguments: list[str]) -> int:
    """The exit code of one command; whatever it raises becomes a sentence."""

    def run() -> int:
        commands = {
            "reconstruct": run_reconstruct, "select": run_select, "roi": run_roi,
            "resume": run_resume,
        }  # fmt: skip
        command = parsed(arguments, commands, {"resume": resume, **COMMANDS})
        with deterministic() if command.deterministic else contextlib.nullcontext():
            return command.run(command)

    return exit_code(run)


def why(reason: BaseException) -> str:
    """What ended a run from outside; Ctrl-C comes without a word."""
    return str(reason) or "interrupted"


def exit_code(run: Callable[[], int], kept: str = "nothing was kept") -> int:
    """What ``run`` returns; whatever it raises becomes a sentence and its exit code.

    Args:
        run: the command.
        kept: what an interruption leaves behind.
    """
    try:
        return run()
    except SystemExit as leaving:  # --help
        return int(leaving.code or 0)
    except InputError as error:
        return failed(error, 2)
    except OutputError as error:
        return failed(f"{error}; make room or see to its rights.", 1)
    except ComputationError as error:
        return failed(error, 1)
    except KeyboardInterrupt as reason:
        return failed(f"{why(reason)}; {kept}.", 1)
    except BrokenPipeError:  # the reader of stdout has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return failed(f"{error.filename or 'a file'}: {error.strerror or error}.", 1)
    except Exception as error:  # a fault of pdip itself: still one sentence, never a traceback
        if out_of_memory(error):
            return failed(OUT_OF_MEMORY, 1)
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


def run_reconstruct(command: argparse.Namespace) -> int:
    """``pdip reconstruct``: read, check, run all stages, write the files."""
    request = Request.of(command)
    run = run_stack if request.is_stack else run_scan
    return watched(request.directory, lambda terminal: run(command, request, terminal))


def run_select(command: argparse.Namespace) -> int:
    """``pdip select``: read, check, compare settings on withheld rays."""
    sections = settings_of(command)
    reading = resolved_scan(sections.pop("scan"))
    candidates = candidates_of(command, sections)
    checked_device(sections["ray"].get("device", "cpu"))
    name = f"{Path(command.sinogram).stem}-select"
    directory = RunDirectory(command.out or Path("runs") / name)
    seed = sections["dip"].get("seed", 0)

    def run(terminal: Observer) -> None:
        scan = read_one(command.sinogram, command.geometry, reading)
        withheld = {"seed": seed, "withheld": withheld_kind(scan)}
        shared = {"scan": reading, "select": withheld}
        with begun(directory, scan, shared, command):
            kept = DirectoryKept(directory, scan, shared, terminal.warned)
            compared = with_earlier(candidates, directory, terminal.warned)
            found = select(scan, compared, seed=seed, observer=terminal, kept=kept)
        write_selection(directory, found, compared, terminal)
        directory.finish()

    return watched(directory, run)


def watched(directory: RunDirectory, run: Callable[[Observer], None]) -> int:
    """The exit code of a run that is shown on the terminal and may be interrupted."""
    terminal = Terminal() if rank() == 0 else Observer()
    try:
        with quiet_libraries():
            run(terminal)
            return 0
    except OutputError as error:
        raise ComputationError(
            f"{error}; make room or see to its rights, then the same command with --resume goes on "
            "without computing anew what the folder holds."
        ) from None
    except (KeyboardInterrupt, LostRank) as reason:
        terminal.close()
        return failed(
            f"{why(reason)}; what was computed is kept but for the last seconds, go on "
            f"with the same command and --resume (folder {directory.path}).",
            1,
        )
    finally:
        directory.release()
        terminal.close()


def run_scan(command: argparse.Namespace, request: Request, terminal: Observer) -> None:
    """Reconstruct a single scan and check its calibration where that is wanted."""
    directory, settings, source = request.directory, request.settings, request.source
    scan, truth = request.scan()  # raises before anything is computed
    with begun(directory, scan, request.resolved, command):
        checkpoints = DirectoryCheckpoints(directory, terminal.warned)
        result = reconstruct(scan, settings, observer=terminal, checkpoints=checkpoints)
        write_result(directory, result, scan, truth, source, terminal)
        if request.check:
            check = check_calibration(
                scan, settings, result=result, observer=terminal, checkpoints=checkpoints
            )
            write_check(directory, check, terminal)
    directory.finish()
    tell_warnings(directory, terminal)


def run_stack(command: argparse.Namespace, request: Request, terminal: Observer) -> None:
    """Reconstruct the slices of a stack, each rank its share, and put them together."""
    directory, source = request.directory, request.source
    first = rank() == 0  # asked here: within a slice every rank is alone
    stack, truths = request.stack()

    @functools.cache  # what a slice was warned of is with the one that writes its files
    def told(number: int) -> Observer:
        return Terminal(f"slice {number}, ") if first else Listener()

    def ended(outcome: SliceOutcome) -> None:
        if first:
            terminal.finished(f"slice {outcome.number}", slice_sentence(directory, outcome))

    def write(folder: RunDirectory, result: Result, scan: Scan, number: int) -> None:
        truth = None if truths is None else truths[number]
        observer = told(number)
        try:
            write_result(folder, result, scan, truth, {**source, "slice": number}, observer)
        except NotShown as error:
            observer.close()
            unshown.append(error)

    unshown: list[NotShown] = []  # the other slices do not suffer from it
    run = StackRun(stack, request.settings, request.reading, directory, told, write)
    with begun(directory, stack, request.resolved, command):
        for sentence in (*stack.assumptions, *directory.assumptions):
            terminal.assumed(sentence)
        outcomes = run.outcomes(ended, resume=command.resume)
        missing = [outcome for outcome in outcomes if outcome.failure is not None]
        if len(missing) == len(outcomes):
            raise missing[0].failure
    try:
        write_volumes(run, outcomes, source, terminal)
    except NotShown as error:
        unshown.append(error)
    directory.finish()
    if missing:
        raise ComputationError(
            f"{len(missing)} of {len(outcomes)} slices have no result and are NaN in the volumes: "
            f"{', '.join(str(outcome.number) for outcome in missing)}; why is in "
            f"{directory.path / SUMMARY}."
        )
    if unshown:
        raise unshown[0]


@contextlib.contextmanager
def begun(directory: RunDirectory, scan: Scan | Stack, settings: dict, command: argparse.Namespace):
    """The folder made ready; input that turns out to be unusable leaves no folder behind."""
    directory.begin(
        scan,
        settings,
        resume=command.resume,
        overwrite=command.overwrite,
        command=kept_command(command),
        alone=True,
    )
    try:
        yield
    except InputError:
        directory.forget()
        raise


def run_resume(command: argparse.Namespace) -> int:
    """``pdip resume``: the command that made the run in a folder once more, with ``--resume``."""
    directory = RunDirectory(command.directory)
    arguments = resume.resuming_arguments(directory, command.check_calibration)
    if arguments:
        return answered(arguments)
    print(f"finished: the run in {directory.path} is complete, there is nothing to go on with")
    return 0


def run_roi(command: argparse.Namespace) -> int:
    """``pdip roi``: mean and std of a region from the files of a run, without refitting."""
    directory = slice_directory(RunDirectory(command.directory), command.slice)
    tensors, _ = directory.read_tensors(POSTERIOR)
    with directory.understood():
        posterior = SavedPosterior(tensors)
    shape = tuple(posterior.image.shape)
    mask = read_mask(command.mask, shape) if command.mask else read_box(command.box, shape)
    mean, std = asked_unit(command)(*posterior.functional(mask.double() / mask.sum()))
    pixels = int(mask.sum())
    plural = "s" if pixels > 1 else ""
    print(f"{plus_minus(mean, std)} {command.unit} (mean over {pixels} pixel{plural})")
    return 0
