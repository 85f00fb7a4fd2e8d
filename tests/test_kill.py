"""A process that is killed (SIGKILL) at any moment, and one that runs out of disk, for real."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_cli import files, strict_json

from pdip.tensor_file import unpacked

# ruff: noqa: F401, F811 (files is a fixture)
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
RESULTS = ("reconstruction.npy", "std.npy", "posterior_mean.npy")
# The command, every state kept at once, that dies when file NAME is written for the N-th time:
# after the new content is on the disk, before it takes its place.
SCRIPT = """
import os, signal, sys
from pdip import checkpoints, cli
from pdip.posterior import Posterior

checkpoints.SECONDS_BETWEEN_STATES = 0.0
name, left, replace, std = sys.argv[1], int(sys.argv[2]), os.replace, Posterior.std

def dying(source, place):
    global left
    left -= name in str(place)
    if name in str(place) and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, place)

def dying_std(posterior):
    os.kill(os.getpid(), signal.SIGKILL)

os.replace = dying
if name == "the posterior":
    Posterior.std = dying_std
sys.exit(cli.main(sys.argv[3:]))
"""


def started(files, out, *arguments, name="never", count=1, threads=1, **process):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name, str(count), "reconstruct", "--sinogram",
         str(files / "scan.npz"), "--config", str(files / "quick.yaml"), "--out", str(out),
         "--dip.max_steps", "100", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)}, **process,
    )  # fmt: skip


def ended(process) -> int:
    process.out, process.err = process.communicate()
    return process.returncode


def killed_after(process, seen, seconds: float) -> None:
    """Kill a process from outside so long after something is seen."""
    while not seen():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    time.sleep(seconds)
    process.kill()
    assert ended(process) == -signal.SIGKILL


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
def test_a_run_killed_in_every_stage_ends_with_the_same_bits(files, tmp_path, threads, arguments):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert ended(started(files, whole, *arguments, threads=threads)) == 0
    moments = [("fit.sigmoid.0.0.safetensors", 3), ("first.round_0", 2)]
    if threads == 1:
        moments += [("the posterior", 1), ("std.npy", 1), ("report.html", 1)]
    for name, count in moments:
        process = started(
            files, out, "--resume", *arguments, name=name, count=count, threads=threads
        )
        assert ended(process) == -signal.SIGKILL, (name, process.err)
    last = started(files, out, "--resume", *arguments, threads=threads)
    assert ended(last) == 0 and "warning" not in last.err
    assert_same_results(out, whole)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    one, other = (strict_json(folder / "summary.json") for folder in (out, whole))
    for summary in (one, other):  # what is timed differs
        summary["stages"] = summary["plan"]["seconds"] = None
    assert one == other


def test_a_run_killed_from_outside_ends_with_the_same_bits(files, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert ended(started(files, whole)) == 0
    unfinished = out / "unfinished"
    for pattern, delay in (("fit.sigmoid*", 0.3), ("evidence*", 0.05)):
        process = started(files, out, "--resume")
        killed_after(process, lambda: any(unfinished.glob(pattern)), delay)  # noqa: B023
    assert ended(started(files, out, "--resume")) == 0
    assert_same_results(out, whole)


def test_a_file_system_that_takes_no_large_files_costs_no_finished_stage(files, tmp_path):
    def only_small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    out = tmp_path / "run"
    process = started(files, out, preexec_fn=only_small_files)
    assert ended(process) == 1
    last = process.err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("pdip: ") and "posterior.safetensors cannot be written" in last
    assert "--resume" in last and "Traceback" not in process.err
    process = started(files, out, "--resume")
    assert ended(process) == 0
    assert [line.split(":")[0] for line in process.out.splitlines() if "read back" in line] == [
        "fit", "evidence",
    ]  # fmt: skip
