"""Several processes of one run: the numbers of one process, and an end in one sentence."""

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_cli import files, reconstruct  # noqa: F401 (a fixture)

from pdip import pipeline, ranks
from pdip.device import checked_device
from pdip.errors import InputError
from pdip.ranks import ENVIRONMENT, Team, mapped
from pdip.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("rough_figures")

THREADS = max(1, ranks.cores() // 2)
SAME = ("reconstruction.npy", "std.npy", "posterior_mean.npy", "posterior.safetensors")

LAWS = """
import torch
from pdip import ranks
from pdip.errors import ComputationError, InputError

with ranks.together():
    for length in range(6):
        assert ranks.gather(ranks.share(list(range(length)))) == list(range(length))
    chunks = torch.arange(14.0).reshape(7, 2).split(2)
    calls = []
    def double(chunk):
        calls.append(len(chunk))
        return 2 * chunk
    assert torch.equal(ranks.mapped(double, chunks, (2,)), 2 * torch.cat(chunks))
    assert len(calls) == 2, calls
    calls.clear()
    ranks.mapped(double, chunks[:1], (2,))
    assert len(calls) == 1, calls
    told = ranks.by_first(lambda: {"from": ranks.rank(), "beside": ranks.count()})()
    assert told == {"from": 0, "beside": 1}, told
    def refuse():
        raise InputError(f"no, says {ranks.rank()}")
    try:
        ranks.by_first(refuse)()
        raise AssertionError
    except InputError as error:
        assert str(error) == "no, says 0"
    with ranks.alone():
        assert (ranks.rank(), ranks.count(), ranks.share([1, 2, 3])) == (0, 1, [1, 2, 3])
    assert [ranks.speaks(), ranks.speaks()].count(True) < 2
    try:
        ranks.mapped(double, [torch.ones(1 + ranks.rank(), 2)] * 2, (2,))
        raise AssertionError
    except ComputationError as error:
        assert "different numbers" in str(error)
    if ranks.rank() == 1:
        import os
        os._exit(9)
    try:
        ranks.gather([0])
        raise AssertionError
    except ranks.LostRank as error:
        print("lost")
"""

DYING = """
import os, signal, sys
from pdip import cli, pipeline, ranks

linearise = pipeline.linearise
def die(*arguments, **keywords):
    if ranks.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return linearise(*arguments, **keywords)
pipeline.linearise = die
sys.exit(cli.main())
"""


def processes(*arguments) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of two ranks that nobody watches over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    started = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **place, "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank,
                 "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(p.returncode, out, err) for p, (out, err) in zip(started, said, strict=True)]


def options(files, out, *more) -> list[str]:  # noqa: F811
    return ["reconstruct", "--sinogram", str(files / "scan.npz"), "--out", str(out),
            "--config", str(files / "quick.yaml"), *more]  # fmt: skip


def sentences(results) -> list[str]:
    """What pdip said at its end, on all ranks."""
    return [line for _, _, err in results for line in err.splitlines() if line[:6] == "pdip: "]


def assert_same(run, other):
    for name in SAME:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def by_one_process(files, tmp_path_factory):  # noqa: F811
    before, out = torch.get_num_threads(), tmp_path_factory.mktemp("runs") / "one"
    torch.set_num_threads(THREADS)
    try:
        assert reconstruct(files, out) == 0
    finally:
        torch.set_num_threads(before)
    return out


@pytest.mark.slow
def test_torchrun_gives_the_numbers_of_one_process(files, tmp_path, by_one_process):  # noqa: F811
    out = tmp_path / "two"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
         "-m", "pdip", *options(files, out)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for stage in ("ray: ", "fit: ", "evidence: ", "posterior: ", "written: "):
        assert done.stdout.count(f"\n{stage}") + done.stdout.startswith(stage) == 1
    assert {path.name for path in out.iterdir()} == {p.name for p in by_one_process.iterdir()}
    assert_same(out, by_one_process)


@pytest.mark.slow
def test_a_run_whose_rank_was_killed_is_resumed(files, tmp_path, by_one_process):  # noqa: F811
    out = tmp_path / "run"
    results = processes("-c", DYING, *options(files, out))
    assert [code for code, _, _ in results] == [1, -signal.SIGKILL]
    (sentence,) = sentences(results)
    assert "died" in sentence and "--resume" in sentence and str(out) in sentence
    assert (out / "fit.safetensors").exists() and not (out / "summary.json").exists()
    results = processes("-m", "pdip", *options(files, out, "--resume"))
    assert [code for code, _, _ in results] == [0, 0], results
    assert "fit: read back" in results[0][1] and not results[1][1]
    assert_same(out, by_one_process)


@pytest.mark.slow
def test_unusable_input_is_said_once_by_all_ranks(files, tmp_path):  # noqa: F811
    results = processes("-m", "pdip", *options(files, tmp_path / "run", "--dip.tv_wieght", "1"))
    assert [code for code, _, _ in results] == [2, 2]
    assert len(sentences(results)) == 1 and "dip.tv_weight" in sentences(results)[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ranks_share_and_gather_and_notice_a_loss(tmp_path):
    results = processes("-c", LAWS)
    assert results[0][:2] == (0, "lost\n"), results
    assert results[1][0] == 9, results


@pytest.mark.parametrize("length", [0, 1, 2, 5, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_are_disjoint_complete_and_even(length, count):
    parts = []
    for rank in range(count):
        token = ranks._team.set(Team(rank, count, rank, None, None))
        parts.append(ranks.share(range(length)))
        ranks._team.reset(token)
    assert [item for part in parts for item in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_without_torchrun_a_process_is_alone(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with ranks.together():
        assert (ranks.rank(), ranks.count()) == (0, 1)
        assert not torch.distributed.is_initialized()


def test_mapped_is_the_function_of_every_chunk():
    batch = torch.arange(10.0).reshape(5, 2)
    found = mapped(lambda chunk: chunk.sum(-1, keepdim=True), batch.split(2), (1,))
    assert torch.equal(found, batch.sum(-1, keepdim=True))


def test_only_the_first_rank_writes(tmp_path):
    directory = RunDirectory(tmp_path)
    for rank, expected in ((1, []), (0, ["a.txt"])):
        token = ranks._team.set(Team(rank, 2, rank, None, None))
        directory.write_text("a.txt", "a")
        ranks._team.reset(token)
        assert [path.name for path in tmp_path.iterdir()] == expected


@pytest.mark.slow
def test_sigterm_ends_a_run_as_ctrl_c_does(files, tmp_path, capsys, monkeypatch):  # noqa: F811
    before = signal.getsignal(signal.SIGTERM)

    def told_to_stop(*arguments, **keywords):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(pipeline, "linearise", told_to_stop)
    assert reconstruct(files, tmp_path / "run", "--dip.max_steps", "5") == 1
    error = capsys.readouterr().err
    assert "SIGTERM" in error and "--resume" in error and str(tmp_path / "run") in error
    assert (tmp_path / "run" / "fit.safetensors").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_rank_takes_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    token = ranks._team.set(Team(5, 6, 1, None, None))
    try:
        assert checked_device("cuda") == torch.device("cuda", 1)
        with pytest.raises(InputError, match="--device cuda"):
            checked_device("cuda:0")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        with pytest.raises(InputError, match="--nproc-per-node"):
            checked_device("cuda")
    finally:
        ranks._team.reset(token)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_agree_with_one(files, tmp_path):  # noqa: F811
    assert reconstruct(files, tmp_path / "one", "--device", "cuda") == 0
    results = processes(
        "-m", "pdip", *options(files, tmp_path / "two", "--device", "cuda")
    )  # fmt: skip
    assert [code for code, _, _ in results] == [0, 0], results
    one, two = (torch.from_numpy(np.load(tmp_path / run / "std.npy")) for run in ("one", "two"))
    assert float((one - two).norm() / one.norm()) < 1e-2
