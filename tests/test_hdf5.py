"""HDF5 files: found by name, keys from data sets and attributes, and no way to another file."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from test_readers import ANGLES, FAN, refusal
from test_stack import STACK, save

from pdip.scan import read_scan, read_stack


def written(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def test_the_only_data_set_is_taken_and_attributes_are_keys(tmp_path):
    def fill(file):
        file.attrs["geometry"] = "fanflat"
        data = file.create_dataset("entry/data", data=STACK[0], chunks=(6, 9), compression="gzip")
        file["entry/angles"] = ANGLES
        file["entry"].attrs["image_shape"] = [5, 5]
        for key in ("source_origin_mm", "origin_detector_mm", "det_pixel_mm", "cor"):
            data.attrs[key] = FAN[key]
        file["title"], file["other/flags"] = "a disc", np.array([True])

    scan = read_scan(written(tmp_path / "scan.h5", fill))
    expected = read_scan(save(tmp_path / "same.npz", STACK[0]))
    assert torch.equal(scan.sinogram, expected.sinogram)
    assert scan.geometry == expected.geometry and scan.grid.shape == (5, 5)


def test_a_file_without_geometry_takes_the_one_beside_it(tmp_path):
    save(tmp_path / "stack.npy")
    path = written(tmp_path / "stack.h5", lambda file: file.update({"sinogram": STACK}))
    stack = read_stack(path)
    assert stack.geometry.angles_deg == pytest.approx(np.rad2deg(ANGLES))
    assert "stack.yaml" in stack.assumptions[0]


def test_one_of_several_data_sets_is_named(tmp_path):
    def fill(file):
        file["a/data"], file["b/data"], file["a/line"] = STACK, STACK[0], ANGLES

    path = written(tmp_path / "scan.h5", fill)
    said = refusal(read_scan, path)
    assert "/a/data (4, 6, 9), /b/data (6, 9)" in said and "--dataset NAME" in said
    assert read_stack(path, dataset="a/data").sinograms.shape == STACK.shape
    assert torch.equal(read_scan(path, dataset="/b/data").sinogram, torch.from_numpy(STACK[0]))
    assert "no data set 'c/data' (it holds" in refusal(read_scan, path, dataset="c/data")
    assert "no data set 'a'" in refusal(read_scan, path, dataset="a")
    empty = written(tmp_path / "empty.h5", lambda file: None)
    assert "it holds none" in refusal(read_scan, empty)
    assert "HDF5 files only" in refusal(read_scan, save(tmp_path / "scan.npz"), dataset="a")


@pytest.mark.parametrize(
    "fill, said",
    [
        (lambda f: f.update({"angle": ANGLES}), "did you mean 'angles'"),
        (lambda f: f.attrs.update({"cor_": 3.0}), "did you mean 'cor'"),
        (lambda f: f.attrs.update({"cor": 2.0}), "'cor' twice"),
        (lambda f: f.update({"weights": np.array([b"x"], object)}), "expected real numbers"),
        (lambda f: f.create_group("weights"), "a group where a data set"),
        (lambda f: f.attrs.update({"step_deg": 2.0}), "both give the view angles"),
    ],
)
def test_keys_that_do_not_fit_are_refused(tmp_path, fill, said):
    path = save(tmp_path / "scan.h5", STACK[0])
    with h5py.File(path, "a") as file:
        if said.startswith("did you mean"):
            del file[said.split("'")[1]]
        fill(file)
    assert said in refusal(read_scan, path)


def elsewhere(tmp_path):
    """Files that hold the values a trap points at."""
    (tmp_path / "raw.bin").write_bytes(STACK.tobytes())
    return save(tmp_path / "other.h5")


def external_link(file, other):
    file["sinogram"] = h5py.ExternalLink(str(other), "/sinogram")


def soft_link_to_an_external_link(file, other):
    file["outside"] = h5py.ExternalLink(str(other), "/")
    file["sinogram"] = h5py.SoftLink("/outside/sinogram")


def external_group(file, other):
    file["group"] = h5py.ExternalLink(str(other), "/")


def external_weights(file, other):
    file["sinogram"] = STACK
    file["weights"] = h5py.ExternalLink(str(other), "/sinogram")


def external_storage(file, other):
    raw = [(str(other.with_name("raw.bin")), 0, STACK.nbytes)]
    file.create_dataset("sinogram", STACK.shape, STACK.dtype, external=raw)


def virtual(file, other):
    layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
    layout[:] = h5py.VirtualSource(str(other), "sinogram", STACK.shape)
    file.create_virtual_dataset("sinogram", layout)


@pytest.mark.parametrize(
    "trap, dataset",
    [
        (external_link, None), (soft_link_to_an_external_link, None),
        (external_group, "group/sinogram"), (external_weights, None), (external_storage, None),
        (virtual, None),
    ],
)  # fmt: skip
def test_values_of_other_files_are_refused_before_they_are_opened(
    tmp_path, monkeypatch, trap, dataset
):
    other = elsewhere(tmp_path)
    path = written(tmp_path / "trap.h5", lambda file: trap(file, other))
    opened = []
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: opened.append(self.name))
    said = refusal(read_stack, path, dataset=dataset)
    assert "another file" in said or "other files" in said
    assert opened == []


@pytest.mark.slow
def test_no_other_file_is_opened_on_the_way(tmp_path):
    """The system's own record of opened files, as h5py looks through links by itself."""
    other = elsewhere(tmp_path)
    written(tmp_path / "trap.h5", lambda file: external_link(file, other))
    program = (
        "import sys, pathlib, h5py\n"
        "from pdip.scan import read_stack\n"
        "trap, other = map(pathlib.Path, sys.argv[1:])\n"
        "other.unlink(); import os; os.mkfifo(other)\n"  # to open it would wait for ever
        "try:\n    read_stack(trap)\nexcept ValueError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "trap.h5"), str(other)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "link to another file" in done.stdout, done.stderr


def test_links_within_the_file_are_followed_unless_they_lead_round(tmp_path):
    def fill(file):
        file["deep/data"], file["sinogram"] = STACK, h5py.SoftLink("/alias/data")
        file["alias"] = h5py.SoftLink("deep")
        file["round"] = h5py.SoftLink("/round")
        file["deep/up"] = file["/"]

    path = written(tmp_path / "links.h5", fill)
    assert read_stack(path).sinograms.shape == STACK.shape
    assert "circle" in refusal(read_stack, path, dataset="round")


@pytest.mark.parametrize("chunks", [None, (1, 1000, 1000)])
def test_a_data_set_that_declares_more_than_the_file_holds_is_refused(tmp_path, chunks):
    path = written(
        tmp_path / "huge.h5",
        lambda file: file.create_dataset("sinogram", (10**6, 1000, 1000), "f4", chunks=chunks),
    )
    assert path.stat().st_size < 10**5
    assert "holds 0 MiB of it" in refusal(read_stack, path)


def test_a_slice_or_chunk_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    def fill(file):
        file.create_dataset("sinogram", data=STACK, chunks=(4, 6, 9))

    path = written(tmp_path / "stack.h5", fill)
    monkeypatch.setattr("pdip.scan.npy.MAX_BYTES", 3 * STACK[0].nbytes)
    assert "a chunk of /sinogram declares" in refusal(read_stack, path)
    path = written(tmp_path / "plain.h5", lambda file: file.update({"sinogram": STACK}))
    monkeypatch.setattr("pdip.scan.npy.MAX_BYTES", STACK[0].nbytes - 1)
    assert "a slice of 'sinogram' declares" in refusal(read_stack, path)


def test_compressions_of_hdf5plugin_are_read(tmp_path):
    hdf5plugin = pytest.importorskip("hdf5plugin")

    def fill(file):
        file.create_dataset("sinogram", data=STACK, chunks=(1, 6, 9), **hdf5plugin.Zstd())

    stack = read_stack(written(tmp_path / "stack.h5", fill))
    assert torch.equal(stack.scan(3).sinogram, torch.from_numpy(STACK[3]))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n"])
def test_files_of_another_kind_are_refused(tmp_path, content):
    (tmp_path / "scan.h5").write_bytes(content)
    assert "not a readable HDF5 file" in refusal(read_scan, tmp_path / "scan.h5")
