"""A process that is killed (SIGKILL) at any moment, and one that runs out of disk, for real."""

import signal
import time

import pytest
import torch
from forked_command import ForkedCommand
from test_cli import files, strict_json

from pdip.tensor_file import unpacked

# ruff: noqa: F401, F811 (files is a fixture)
pytestmark = pytest.mark.slow

RESULTS = ("reconstruction.npy", "std.npy", "posterior_mean.npy")


@pytest.fixture
def started(files, tmp_path):
    """Begins a run into a folder, in a process of its own in which every state is kept at once."""

    def begin(out, *arguments, **process) -> ForkedCommand:
        given = ["reconstruct", "--sinogram", files / "scan.npz", "--config", files / "quick.yaml",
                 "--out", out, "--dip.max_steps", "100", *arguments]  # fmt: skip
        return ForkedCommand([str(item) for item in given], tmp_path, **process)

    return begin


def killed_after(process, seen, seconds: float) -> None:
    """Kill a process from outside so long after something is seen."""
    while not seen():
        assert process.is_running() or process.ended() is None, process.err
        time.sleep(0.01)
    time.sleep(seconds)
    process.kill()
    assert process.ended() == -signal.SIGKILL


def assert_same_results(out, whole) -> None:
    for name in RESULTS:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    one, other = (unpacked(folder / "posterior.safetensors")[0] for folder in (out, whole))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("threads", "arguments"),
    [(1, []), (2, ["--evidence.solver", "projected"])],
    ids=["exact", "projected, two threads"],
)
def test_a_run_killed_in_every_stage_ends_with_the_same_bits(started, tmp_path, threads, arguments):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert started(whole, *arguments, threads=threads).ended() == 0
    moments = [("fit.sigmoid.0.0.safetensors", 3), ("first.round_0", 2)]
    if threads == 1:
        moments += [("the posterior", 1), ("std.npy", 1), ("report.html", 1)]
    for name, count in moments:
        process = started(out, "--resume", *arguments, name=name, count=count, threads=threads)
        assert process.ended() == -signal.SIGKILL, (name, process.err)
    last = started(out, "--resume", *arguments, threads=threads)
    assert last.ended() == 0 and "warning" not in last.err
    assert_same_results(out, whole)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    one, other = (strict_json(folder / "summary.json") for folder in (out, whole))
    for summary in (one, other):  # what is timed differs
        summary["stages"] = summary["plan"]["seconds"] = None
    assert one == other


def test_a_run_killed_from_outside_ends_with_the_same_bits(started, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert started(whole).ended() == 0
    unfinished = out / "unfinished"
    for pattern, delay in (("fit.sigmoid*", 0.3), ("evidence*", 0.05)):
        process = started(out, "--resume")
        killed_after(process, lambda: any(unfinished.glob(pattern)), delay)  # noqa: B023
    assert started(out, "--resume").ended() == 0
    assert_same_results(out, whole)


def test_a_file_system_that_takes_no_large_files_costs_no_finished_stage(started, tmp_path):
    out = tmp_path / "run"
    process = started(out, largest_file=300_000)
    assert process.ended() == 1
    last = process.err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("pdip: ") and "posterior.safetensors cannot be written" in last
    assert "--resume" in last and "Traceback" not in process.err
    process = started(out, "--resume")
    assert process.ended() == 0
    assert [line.split(":")[0] for line in process.out.splitlines() if "read back" in line] == [
        "fit", "evidence",
    ]  # fmt: skip
