"""The files of a finished run: of one scan, of a stack of slices, or of compared settings."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pdip.calibration_check import CHECK, CalibrationCheck
from pdip.errors import ComputationError, InputError, OutputError
from pdip.ranks import LostRank, by_first
from pdip.report import (
    check_summary,
    check_warnings,
    draw_check,
    draw_overview,
    draw_rotation_axis,
    draw_volume,
    summary,
    volume_summary,
)
from pdip.report.words import number, warnings_of
from pdip.result import Result
from pdip.run_directory import (
    ARRAYS,
    BOUNDS,
    CALIBRATION,
    OVERVIEW,
    POSTERIOR,
    RECALIBRATED,
    REPORT,
    ROTATION_AXIS,
    SELECTION,
    SUMMARY,
    WINNER,
    RunDirectory,
)
from pdip.run_report import (
    keep_report_data,
    typical_noise_std,
    typical_noise_std_by_evidence,
    write_report,
    write_volume_report,
)
from pdip.scan import Scan, Stack
from pdip.selection_result import Selection
from pdip.settings import STAGES, Settings, plain
from pdip.stack_run import SliceOutcome, StackRun
from pdip.stages import Observer
from pdip.strict_json import strict
from pdip.typing import Image


@by_first
def write_selection(
    directory: RunDirectory,
    selection: Selection,
    candidates: Mapping[str, Settings],
    terminal: Observer,
) -> None:
    """Print the table, and write it and the winner's settings; ``select.json`` last."""
    winner = candidates[selection.winner.name]
    given = {section: plain(getattr(winner, section)) for section in STAGES}
    directory.write_yaml(WINNER, {section: keys for section, keys in given.items() if keys})
    record = selection.record()
    for entry, settings in zip(record["candidates"], candidates.values(), strict=True):
        entry["settings"] = settings.resolved()
    directory.write_json(SELECTION, record)
    print(selection.table())
    terminal.finished("winner", selection.sentence)
    terminal.finished(
        "written",
        f"{directory.path / SELECTION} and its settings, --config {directory.path / WINNER}",
    )


class NotShown(ComputationError):
    """The result of a run is complete, but a figure or page of it could not be written."""


class _Showing:
    """Writes what only shows a result: a failure there must not cost the result.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._failures: dict[str, str] = {}

    def show(self, name: str, write: Callable, *arguments) -> None:
        """Write a figure or page; its failure waits for :meth:`end`."""
        try:
            write(*arguments)
        except LostRank:
            raise
        except (InputError, OutputError) as error:
            self._failures[name] = str(error).rstrip(".")
        except Exception as error:  # drawing may raise anything, and the result is worth more
            self._failures[name] = f"{name} cannot be made ({type(error).__name__}: {error})"

    def end(self) -> None:
        """Say what is missing, once the summary is written.

        Raises:
            NotShown: something is.
        """
        if self._failures:
            folder, first = self._directory.path, next(iter(self._failures.values()))
            mend = f"; pdip report {folder} writes the page" if REPORT in self._failures else ""
            raise NotShown(f"{first}; the result in {folder} is complete without it{mend}.")


def write_result(
    directory: RunDirectory,
    result: Result,
    scan: Scan,
    truth: Image | None,
    source: Mapping[str, str | None],
    terminal: Observer,
) -> None:
    """Write all files of a finished run, ``summary.json`` last.

    Raises:
        OutputError: a file that holds a part of the result cannot be written.
        NotShown: the result is complete, but a figure or the page is missing.
    """
    terminal.started("files")
    showing = _Showing(directory)
    for name, values in zip(ARRAYS, (result.image, result.std, result.mean), strict=True):
        directory.write_array(name, values)
    directory.write_tensors(POSTERIOR, result.posterior.tensors(), {"format": 1})
    draw = functools.partial(draw_overview, result.image, result.std, truth, scan.grid)
    showing.show(OVERVIEW, directory.write_figure, OVERVIEW, draw)
    _show_axis(showing, directory, scan)
    keep_report_data(directory, result, scan, truth)
    numbers = summary(result, truth, source) | {
        "typical_noise_std": typical_noise_std(result, scan),
        "typical_noise_std_by_evidence": typical_noise_std_by_evidence(result, scan),
        "warnings": list(terminal.warnings),
    }
    found = strict(with_earlier_check(directory, numbers))  # the page is that of the file
    showing.show(REPORT, write_report, directory, found)
    directory.write_json(SUMMARY, found)
    showing.end()
    if truth is not None:
        terminal.finished("scores", score_sentence(numbers))
    terminal.finished(
        "written",
        f"{directory.path / REPORT} to open in a browser, {OVERVIEW}, the arrays and {SUMMARY}",
    )


@by_first
def with_earlier_check(directory: RunDirectory, numbers: dict[str, Any]) -> dict[str, Any]:
    """The summary with what a check before this resumption found, whose files are there still."""
    if not directory.holds(SUMMARY):
        return numbers
    try:
        before = directory.read_json(SUMMARY)
        stages = {k: v for k, v in before["stages"].items() if k.startswith(f"{CHECK}: ")}
        found = {"calibration": before["calibration"]}
        found["warnings"] = [*numbers["warnings"], *check_warnings(found["calibration"])]
    except (InputError, LookupError, AttributeError, TypeError):  # no check, or a damaged file
        return numbers
    return {**numbers, "stages": numbers["stages"] | stages, **found}


@by_first
def write_check(directory: RunDirectory, check: CalibrationCheck, terminal: Observer) -> None:
    """Add what a check found to the files of a finished run, ``summary.json`` last.

    What an earlier check left and this one does not find is removed.

    Raises:
        OutputError, NotShown: as for :func:`write_result`.
    """
    showing = _Showing(directory)
    for name, values in ((RECALIBRATED, check.std), (BOUNDS, check.bounds)):
        if values is None:
            directory.discard(name)
        else:
            directory.write_array(name, values)
    showing.show(CALIBRATION, directory.write_figure, CALIBRATION, lambda: draw_check(check))
    numbers = directory.read_json(SUMMARY)
    numbers["stages"] |= {name: asdict(cost) for name, cost in check.stages.items()}
    found = check_summary(check)
    warnings = [*terminal.warnings, *check_warnings(found)]
    numbers = strict(numbers | {"calibration": found, "warnings": warnings})
    showing.show(REPORT, write_report, directory, numbers)
    directory.write_json(SUMMARY, numbers)
    terminal.finished("calibration", f"{check.verdict}. {check.grounds}")
    showing.end()


@by_first
def write_volumes(
    run: StackRun, outcomes: Sequence[SliceOutcome], source: Mapping, terminal: Observer
) -> None:
    """Write the files of a stack beside the folders of its slices, ``summary.json`` last.

    Raises:
        OutputError, NotShown: as for :func:`write_result`.
    """
    terminal.started("files")
    directory, showing = run.directory, _Showing(run.directory)
    run.write_volumes(outcomes, ARRAYS)
    volumes = [directory.read_array(name) for name in ARRAYS[:2]]
    numbers = [outcome.number for outcome in outcomes]
    draw = functools.partial(draw_volume, *volumes, numbers, run.stack.grid)
    showing.show(OVERVIEW, directory.write_figure, OVERVIEW, draw)
    _show_axis(showing, directory, run.stack)
    slices = {
        outcome.number: str(outcome.failure)
        if outcome.failure is not None
        else directory.slice(outcome.number).read_json(SUMMARY)
        for outcome in outcomes
    }
    means = strict(volume_summary(slices, run.stack.assumptions, source))
    means["warnings"] = [*terminal.warnings, *means["warnings"]]
    showing.show(REPORT, write_volume_report, directory, means)
    directory.write_json(SUMMARY, means)
    for sentence in means["assumptions"][len(run.stack.assumptions) :]:
        terminal.assumed(sentence)
    showing.end()
    if means["psnr"] is not None:
        terminal.finished("scores", f"means over slices: {score_sentence(means)}")
    terminal.finished(
        "written",
        f"{directory.path / REPORT} to open in a browser, {OVERVIEW}, the volumes and {SUMMARY}",
    )
    tell_warnings(directory, terminal)


@by_first
def tell_warnings(directory: RunDirectory, terminal: Observer) -> None:
    """Say at the end of a run what its page warns of: what was said on the way has scrolled off."""
    found = warnings_of(directory.read_json(SUMMARY))
    if found:
        what = f"; the first: {found[0]}" if len(found) > 1 else f": {found[0]}"
        terminal.finished("warnings", f"{len(found)}, at the top of the page{what}")


def _show_axis(showing: _Showing, directory: RunDirectory, scan: Scan | Stack) -> None:
    """The figure of the rotation axis, where it was estimated."""
    if scan.rotation_axis is not None:
        draw = functools.partial(draw_rotation_axis, scan.rotation_axis)
        showing.show(ROTATION_AXIS, directory.write_figure, ROTATION_AXIS, draw)


def slice_sentence(directory: RunDirectory, outcome: SliceOutcome) -> str:
    """How a slice ended, in one line."""
    if outcome.failure is not None:
        return f"no result: {outcome.failure}"
    numbers = directory.slice(outcome.number).read_json(SUMMARY)
    scored = "" if numbers["psnr"] is None else f", psnr {numbers['psnr']:.2f} dB"
    noise = number(numbers.get("typical_noise_std_by_evidence"), 3)
    seconds = sum(cost["seconds"] for cost in numbers["stages"].values())
    return (
        f"mean std {numbers['mean_std']:.3g} 1/mm, noise std of a ray {noise} by the evidence"
        f"{scored}, {seconds:.1f} s; {numbers['stop_reason']}"
    )


def score_sentence(numbers: Mapping[str, Any]) -> str:
    """The comparison with the truth in one line."""
    return (
        f"psnr {numbers['psnr']:.2f} dB, ssim {numbers['ssim']:.3f}, relative l2 "
        f"{numbers['relative_l2']:.3f}, log-likelihood per pixel "
        f"{numbers['log_likelihood_per_pixel']:.3f} ({numbers['log_likelihood_kind']}), "
        f"coverage of the 95 % interval {numbers['coverage_95']:.3f}"
    )
