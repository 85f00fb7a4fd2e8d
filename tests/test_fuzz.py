"""Damaged files of every format: read or refused in one sentence, in bounded memory."""

import functools
import resource
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from instrument_files import (
    COUNTS,
    LINE_INTEGRALS,
    htc_record,
    save_dicom,
    save_dxchange,
    save_mat73,
    save_nxtomo,
)
from scipy.io import savemat
from test_readers import ANGLES, FAN, SINOGRAM, save_npy
from test_stack import STACK

from pdip.config import resolved_scan
from pdip.errors import InputError
from pdip.report import information
from pdip.scan import (
    ImageGrid,
    hdf5_trial,
    holds_stack,
    read_dicom,
    read_ground_truth,
    read_scan,
    read_stack,
)
from pdip.scan.readers import fields_with_geometry
from pdip.scan.rows import at_row

PEAK_BYTES = 2**24
"""Memory that reading a damaged file of a few kilobytes may ask for (16 MiB)."""
RESIDENT_BYTES = 2**27
"""The same, with the libraries' own, over all examples of a format (128 MiB)."""


def npy(path: Path, values=SINOGRAM) -> None:
    np.save(path, values)


def npz(path: Path) -> None:
    np.savez_compressed(path, sinogram=SINOGRAM, angles=ANGLES, reference=np.ones((4, 4)), **FAN)


def sidecar(path: Path) -> None:
    path.write_text(
        "geometry: fanflat\nfirst_deg: 10\nstep_deg: 3e0\nsource_origin_mm: 50.0\n"
        "origin_detector_mm: 10\ndet_pixel_mm: 0.8\ncor: 3.75\nimage_shape: [12, 10]\n"
    )


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("g/data", data=STACK, chunks=(1, 6, 9), compression="gzip")
        file["g/angles"] = ANGLES
        file["g/data"].attrs["geometry"] = "parallel"


def matlab(path: Path, packed: bool = False) -> None:
    savemat(path, {"CtDataFull": htc_record(), "j": 1.0}, do_compression=packed)


def tiff(path: Path, values=COUNTS, **stored) -> None:
    tifffile.imwrite(path, values, photometric="minisblack", **stored)


SAMPLES: dict[str, Callable[[Path], None]] = {
    "scan.npy": npy,
    "stack.npy": functools.partial(npy, values=STACK),
    "scan.npz": npz,
    "member.npy": npy,
    "sidecar.yaml": sidecar,
    "keys.h5": hdf5,
    "dxchange.h5": save_dxchange,
    "nxtomo.nxs": save_nxtomo,
    "record.mat": matlab,
    "packed.mat": functools.partial(matlab, packed=True),
    "record73.mat": lambda path: save_mat73(path, CtDataFull=htc_record()),
    "scan.tif": functools.partial(tiff, values=LINE_INTEGRALS.astype(np.float32)),
    "views.tif": tiff,
    "deflated.tif": functools.partial(tiff, compression="zlib", predictor=True),
    "slice.dcm": lambda path: save_dicom(path, np.eye(4)),
    "packed.dcm": lambda path: save_dicom(path, np.eye(4), packed=True),
}
"""A small file of each format."""


@functools.cache
def sample(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        SAMPLES[name](Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def mutations(original: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes replaced, and perhaps the end cut off."""

    def apply(changes: list[tuple[int, int]], keep: int) -> bytes:
        damaged = bytearray(original)
        for position, value in changes:
            damaged[position] = value
        return bytes(damaged[:keep])

    position = st.integers(0, len(original) - 1)
    value = st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255)
    changes = st.lists(st.tuples(position, value), min_size=1, max_size=6)
    return st.builds(apply, changes, st.just(len(original)) | position)


def placed(folder: Path, name: str, content: bytes) -> Path:
    """The scan file to read, with the damaged part in its place."""
    if name == "sidecar.yaml":
        (folder / "scan.yaml").write_bytes(content)
        return save_npy(folder)
    if name == "member.npy":
        with zipfile.ZipFile(folder / "scan.npz", "w") as archive:
            archive.writestr("sinogram.npy", content)
            archive.writestr("ref_pixel_mm.npy", content)
        return folder / "scan.npz"
    (folder / name).write_bytes(content)
    return folder / name


def read_all(path: Path) -> None:
    """Read the file in every way there is for its ending."""
    try:
        list(information(path, None, resolved_scan({})))
    except InputError as error:
        assert "\n" not in str(error)
    if path.suffix == ".dcm":
        image, _ = read_dicom(path)
        assert bool(torch.isfinite(image).all())
        return
    fields, _ = fields_with_geometry(path)
    if holds_stack(path):
        at_row(fields, 0)
        scan = read_stack(path, slices=0).scan(0)
    else:
        read_ground_truth(path, ImageGrid((4, 4)))
        scan = read_scan(path)
    assert bool(torch.isfinite(scan.sinogram).all())


def resident_bytes() -> int:
    """The most memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("examples", [3, pytest.param(64, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused(tmp_path, monkeypatch, name, examples):
    """The same damage in every run: what one run found, the next can show again."""
    monkeypatch.setattr(hdf5_trial, "SECONDS", 2.0)

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(damaged=mutations(sample(name)))
    def read_or_refused(damaged):
        hdf5_trial._first_read.cache_clear()  # one path, written faster than clocks tick
        path = placed(tmp_path, name, damaged)
        tracemalloc.start()
        try:
            read_all(path)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 500
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < PEAK_BYTES

    before = resident_bytes()
    read_or_refused()
    assert resident_bytes() - before < RESIDENT_BYTES


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_themselves_are_read(tmp_path, name):
    """Else the damage would be tried on files that are refused anyhow."""
    path = placed(tmp_path, name, sample(name))
    if path.suffix == ".dcm":
        read_all(path)
        return
    fields, _ = fields_with_geometry(path)
    assert {"counts", "sinogram"} & set(fields)
