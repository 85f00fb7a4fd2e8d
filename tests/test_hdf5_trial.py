"""What damaged HDF5 files do to the HDF5 library, they do to another process; good ones pass."""

import ast
import threading
import zlib

import h5py
import numpy as np
import pytest
import test_fuzz
from instrument_files import save_dxchange
from test_hdf5 import written
from test_readers import refusal
from test_stack import STACK

from pdip.cli import main
from pdip.errors import ComputationError, InputError
from pdip.scan import hdf5_trial, read_scan, read_stack
from pdip.scan.formats import read_fields
from pdip.scan.hdf5_trial import PROGRAM, first_read

FIRST_SIZE = 24
"""Place of the size of the first text in a heap of texts, counted from the heap's beginning."""


@pytest.fixture
def reader(monkeypatch):
    """A process of its own for the test, that has half a second for a file."""
    own = hdf5_trial._Reader()
    monkeypatch.setattr(hdf5_trial, "_reader", own)
    monkeypatch.setattr(hdf5_trial, "SECONDS", 0.5)
    yield own
    own.end()


def with_heap_byte(path, place: int, value: int):
    """A file with a text as an attribute, one byte of its heap of texts changed."""

    def fill(file):
        file["sinogram"] = STACK[0]
        file["sinogram"].attrs["units"] = "1"

    content = bytearray(written(path, fill).read_bytes())
    content[content.index(b"GCOL") + place] = value
    path.write_bytes(content)
    return path


@pytest.mark.slow
def test_a_file_that_hdf5_reads_for_ever_is_refused_by_every_command(tmp_path, reader, capsys):
    path = with_heap_byte(tmp_path / "scan.h5", FIRST_SIZE, 0)
    for command in (["info", str(path)], ["reconstruct", "--sinogram", str(path), "--out", "run"]):
        assert main(command) == 2
        _, err = capsys.readouterr()
        assert err.count("\n") == 1 and "busy for more than 0.5 s; copy the file anew" in err
    assert read_stack(written(tmp_path / "good.h5", fill_stack)).sinograms.shape == STACK.shape


def fill_stack(file):
    file["sinogram"] = STACK


def test_a_text_that_cannot_be_read_is_in_nobodys_way(tmp_path, reader):
    path = with_heap_byte(tmp_path / "scan.h5", 0, 0)
    assert "global heap" in next(iter(first_read(path).reasons.values()))
    assert read_scan(path).sinogram.shape == STACK[0].shape

    def fill(file):
        file["sinogram"] = STACK[0]
        file.attrs["geometry"] = "parallel"

    content = written(path, fill).read_bytes()
    path.write_bytes(content.replace(b"GCOL", b"GC0L"))
    said = refusal(read_scan, path)
    assert said.startswith("the attribute 'geometry' in scan.h5 cannot be read (")


def test_a_chunk_that_unpacks_beyond_its_size_is_refused(tmp_path, reader, monkeypatch):
    monkeypatch.setattr(hdf5_trial, "MEBIBYTES", 48)

    def fill(file):
        data = file.create_dataset("sinogram", (6, 9), "f4", chunks=(6, 9), compression="gzip")
        data.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**27), 1))

    path = written(tmp_path / "scan.h5", fill)
    before = test_fuzz.resident_bytes()
    assert "/sinogram in scan.h5 cannot be read" in refusal(read_scan, path)
    assert test_fuzz.resident_bytes() - before < 2**26


def program(folder, monkeypatch, text: str) -> None:
    """Another program in the place of the one that reads."""
    (folder / "program.py").write_text(text)
    monkeypatch.setattr(hdf5_trial, "PROGRAM", folder / "program.py")


def test_a_file_that_crashes_hdf5_is_refused_and_the_next_one_read(tmp_path, reader, monkeypatch):
    bad = written(tmp_path / "bad.h5", fill_stack)
    with monkeypatch.context() as patch:
        program(tmp_path, patch, "import os, signal\ninput()\nos.kill(os.getpid(), signal.SIGSEGV)")
        with pytest.raises(InputError, match=r"bad.h5 crashes the HDF5 library \(SIGSEGV\); copy"):
            first_read(bad)
    assert not first_read(bad).reasons


def test_a_process_that_cannot_start_is_no_fault_of_the_file(tmp_path, reader, monkeypatch, capsys):
    path = written(tmp_path / "scan.h5", fill_stack)
    program(tmp_path, monkeypatch, "import no_such_package")
    with pytest.raises(ComputationError, match="No module named 'no_such_package'"):
        first_read(path)
    assert main(["info", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interruption_leaves_no_answer_for_the_next_file(tmp_path, reader, monkeypatch):
    path = written(tmp_path / "scan.h5", fill_stack)
    with monkeypatch.context() as patch:
        patch.setattr(reader, "_said", interrupted)
        with pytest.raises(KeyboardInterrupt):
            first_read(path)
    assert reader._process is None
    assert not first_read(path).reasons


def interrupted(process, path):
    process.stdin.write(f'"{path}"\n')
    process.stdin.flush()
    raise KeyboardInterrupt


def test_a_file_is_read_first_once_for_each_state_of_it(tmp_path, reader, monkeypatch):
    asked, answer = [], reader.answer
    monkeypatch.setattr(reader, "answer", lambda path: asked.append(path) or answer(path))
    path = written(tmp_path / "scan.h5", fill_stack)
    stack = read_stack(path)
    assert len(list(stack)) == len(STACK) and len(asked) == 1
    written(path, lambda file: file.update({"sinogram": STACK[:2]}))
    assert read_stack(path).sinograms.shape == STACK[:2].shape and len(asked) == 2


def test_several_processes_read_one_file_first_at_a_time(tmp_path):
    path = save_dxchange(tmp_path / "scan.h5")
    readers, answers = [hdf5_trial._Reader() for _ in range(2)], []

    def ask(reader):
        answers.extend(reader.answer(str(path)) for _ in range(20))
        reader.end()

    threads = [threading.Thread(target=ask, args=(reader,)) for reader in readers]
    with h5py.File(path, "r", locking="best-effort"):
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert answers == [{"broken": None, "unread": []}] * 40


def test_of_large_data_sets_one_value_is_read(tmp_path, reader):
    """Else a stack would be read twice; a later chunk is met when it is asked for."""

    first = np.random.default_rng(0).random((512, 1024), np.float32)

    def fill(file):
        data = file.create_dataset("sinogram", (9, 512, 1024), "f4", chunks=(1, 512, 1024),
                                   compression="gzip")  # fmt: skip
        data[0] = first
        data.id.write_direct_chunk((8, 0, 0), b"no deflated bytes")

    path = written(tmp_path / "scan.h5", fill)
    assert not first_read(path).reasons
    slices = read_fields(path)["sinogram"]
    assert np.array_equal(slices[0], first)
    with pytest.raises(InputError, match="filter returned failure"):
        slices[8]


def test_the_process_loads_no_part_of_pdip_so_that_it_starts_fast():
    imports = [n for n in ast.walk(ast.parse(PROGRAM.read_text())) if isinstance(n, ast.Import)]
    names = {alias.name for node in imports for alias in node.names}
    assert names == {"json", "math", "resource", "signal", "sys", "h5py", "hdf5plugin"}
    assert "ImportFrom" not in ast.dump(ast.parse(PROGRAM.read_text()))
