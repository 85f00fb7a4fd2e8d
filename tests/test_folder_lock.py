"""One process at a time works in the folder of a run, and a dead one is in nobody's way."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from pdip.cli import main, why
from pdip.errors import InputError
from pdip.folder_lock import NAME, FolderLock
from pdip.run_directory import RunDirectory
from pdip.scan import ImageGrid, ParallelBeam, Scan

HOLDING = """
import sys, time
from pathlib import Path
from pdip.folder_lock import FolderLock

lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def held_elsewhere(folder) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.slow
def test_a_folder_is_held_until_its_process_is_gone(tmp_path):
    with held_elsewhere(tmp_path) as process:
        with pytest.raises(InputError, match=rf"working in .* \(process {process.pid}\)"):
            FolderLock(tmp_path)
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / NAME).exists()
    FolderLock(tmp_path).release()
    assert not (tmp_path / NAME).exists()


def test_a_lock_that_its_holder_took_away_is_made_anew(tmp_path, monkeypatch):
    before = FolderLock(tmp_path)
    opened = os.open

    def late(*arguments):
        file = opened(*arguments)
        before.release()
        return file

    monkeypatch.setattr("pdip.folder_lock.os.open", late)
    lock = FolderLock(tmp_path)
    assert (tmp_path / NAME).read_text() == str(os.getpid())
    with pytest.raises(InputError, match="another run"):
        FolderLock(tmp_path)
    lock.release()


def test_a_file_system_without_locks_is_open_to_all(tmp_path, monkeypatch):
    def none(*arguments):
        raise OSError("no locks")

    monkeypatch.setattr("pdip.folder_lock.fcntl.flock", none)
    FolderLock(tmp_path).release()
    FolderLock(tmp_path).release()


@pytest.mark.slow
def test_a_folder_in_which_another_run_works_is_left_as_it_is(tmp_path):
    scan = Scan(torch.rand(3, 9), ParallelBeam([0.0, 60.0, 120.0], 9), ImageGrid((6, 6)))
    first, second = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    first.begin(scan, {"dip": {"seed": 1}}, alone=True)
    before = (tmp_path / "run" / "settings.yaml").read_bytes()
    for how, seed in (("resume", 1), ("overwrite", 2)):
        with pytest.raises(InputError, match="another run is working in"):
            second.begin(scan, {"dip": {"seed": seed}}, alone=True, **{how: True})
    assert (tmp_path / "run" / "settings.yaml").read_bytes() == before
    first.release()
    second.begin(scan, {"dip": {"seed": 2}}, alone=True, overwrite=True)
    second.forget()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_that_is_refused_leaves_no_lock_behind(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    with held_elsewhere(tmp_path / "run") as process:
        scan = "data/example/scan.npz"
        assert main(["reconstruct", "--sinogram", scan, "--out", str(tmp_path / "run")]) == 2
        assert f"(process {process.pid})" in capsys.readouterr().err
        process.kill()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [NAME]


def test_nothing_to_go_on_with_is_said(tmp_path):
    scan = Scan(torch.rand(3, 9), ParallelBeam([0.0, 60.0, 120.0], 9), ImageGrid((6, 6)))
    directory = RunDirectory(tmp_path / "run")
    directory.begin(scan, {}, resume=True, alone=True)
    directory.release()
    assert directory.assumptions[0].startswith("there was no run in ")


def test_ctrl_c_has_a_word():
    assert why(KeyboardInterrupt()) == "interrupted"
    assert why(KeyboardInterrupt("stopped from outside")) == "stopped from outside"
