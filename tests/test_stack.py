"""Stacks of slices: which slices, what each is, and what is refused in one sentence."""

import h5py
import numpy as np
import pytest
import torch
from test_readers import ANGLES, FAN, refusal

from pdip.scan import (
    ImageGrid,
    holds_stack,
    read_ground_truth,
    read_scan,
    read_stack,
    read_true_slices,
)
from pdip.scan import npy as npy_module
from pdip.scan.hdf5 import SlicesOnDisk
from pdip.scan.stack import slice_numbers

STACK = np.random.default_rng(1).uniform(0.1, 1.0, (4, 6, 9)).astype(np.float32)
KEYS = {"angles": ANGLES, "image_shape": np.array([5, 5]), "pixel_mm": 1.2, **FAN}


def save(path, sinogram=STACK, **keys):
    """The same scan or stack in the format of the file's ending."""
    keys = {**KEYS, **keys}
    if path.suffix == ".npz":
        np.savez(path, sinogram=sinogram, **keys)
    elif path.suffix == ".npy":
        np.save(path, sinogram)
        lines = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in keys.items()}
        path.with_suffix(".yaml").write_text("\n".join(f"{k}: {v}" for k, v in lines.items()))
    else:
        with h5py.File(path, "w") as file:
            file["sinogram"] = sinogram
            for key, value in keys.items():
                file[key] = value
    return path


FORMATS = pytest.mark.parametrize("ending", [".npy", ".npz", ".h5", ".hdf5"])


@FORMATS
def test_every_slice_is_the_scan_of_that_slice_alone(tmp_path, ending):
    stack = read_stack(save(tmp_path / f"stack{ending}"), image_size=4, view_step=2)
    assert len(stack) == 4 and stack.numbers == (0, 1, 2, 3)
    for number, scan in enumerate(stack):
        alone = save(tmp_path / f"alone{ending}", STACK[number])
        assert not holds_stack(alone)
        expected = read_scan(alone, image_size=4, view_step=2)
        assert torch.equal(scan.sinogram, expected.sinogram)
        assert (scan.geometry, scan.grid) == (expected.geometry, expected.grid)


@FORMATS
def test_a_stack_is_told_from_a_scan(tmp_path, ending):
    path = save(tmp_path / f"stack{ending}")
    assert holds_stack(path)
    assert "read_stack" in refusal(read_scan, path)
    alone = save(tmp_path / f"alone{ending}", STACK[0])
    assert "read_scan" in refusal(read_stack, alone)


def test_a_stack_of_one_fills_gaps_as_its_scan_does(tmp_path):
    np.save(tmp_path / "stack.npy", 200 * STACK[:1])
    np.save(tmp_path / "scan.npy", 200 * STACK[0])
    (scan,) = read_stack(tmp_path / "stack.npy")
    alone = read_scan(tmp_path / "scan.npy")
    assert scan.grid == alone.grid and scan.geometry == alone.geometry
    assert scan.assumptions == alone.assumptions and len(scan.assumptions) >= 4


def test_all_slices_share_the_grid_that_holds_their_sum(tmp_path):
    inner, wide = np.zeros((2, 6, 41), np.float32)
    inner[:, 18:23] = 1.0
    wide[:, 1:40] = 1.0
    np.save(tmp_path / "stack.npy", np.stack([inner, wide, np.full_like(wide, np.nan)]))
    stack = read_stack(tmp_path / "stack.npy")
    assert stack.grid.shape == (41, 41)
    assert read_stack(tmp_path / "stack.npy", slices=0).grid.shape == (28, 28)


@pytest.mark.parametrize(
    "text, numbers",
    [
        (None, range(10)), ("2:5", (2, 3, 4)), (":", range(10)), ("8:", (8, 9)), (":2", (0, 1)),
        ("::4", (0, 4, 8)), ("-2:", (8, 9)), ("5", (5,)), (5, (5,)), ("-1", (9,)), (-10, (0,)),
        ("3:0:-2", (3, 1)), ("0:10", range(10)), (" 1 : 2 ", (1,)),
    ],
)  # fmt: skip
def test_slices_count_as_in_numpy(text, numbers):
    assert slice_numbers(text, 10) == tuple(numbers)


@pytest.mark.parametrize(
    "text, said",
    [
        ("0:11", "slices 0 to 9"), ("10", "slices 0 to 9"), (10, "slices 0 to 9"),
        ("-11", "slices 0 to 9"), ("50:60", "slices 0 to 9"), ("5:5", "no slice"),
        ("7:2", "no slice"), ("::0", "step"), ("a:b", "such as 10:20"), ("", "such as 10:20"),
        ("1:2:3:4", "such as 10:20"), ("1.5", "such as 10:20"), ("9" * 5000, "such as 10:20"),
    ],
)  # fmt: skip
def test_slices_that_do_not_exist_are_refused(text, said):
    assert said in refusal(slice_numbers, text, 10)


@pytest.mark.parametrize(
    "axes, said",
    [
        ((1, 0, 2), "as many as axis 0"),
        ((0, 2, 1), "as many as axis 2"),
        ((1, 2, 0), "as many as axis 0"),
    ],
)
def test_axes_in_another_order_are_named(tmp_path, axes, said):
    path = save(tmp_path / "stack.npz", STACK.transpose(axes), cor=3.0)
    sentence = refusal(read_stack, path)
    assert said in sentence and "(slices, views, detectors)" in sentence


@pytest.mark.parametrize(
    "sinogram, keys, said",
    [
        (STACK[:, :5], {}, "has 5 views but the geometry lists 6 angles"),
        (STACK[:0], {}, "empty"),
        (STACK[None], {}, "three axes"),
        (STACK, {"weights": STACK[:2]}, "weights have shape (2, 6, 9)"),
        (STACK, {"pixel_mm": 1e-6}, "field of view"),
        (np.full((4, 6, 9), "a"), {}, "expected numbers"),
    ],
)
def test_stacks_that_do_not_fit_are_refused(tmp_path, sinogram, keys, said):
    assert said in refusal(read_stack, save(tmp_path / "stack.npz", sinogram, **keys))


@FORMATS
def test_a_bad_slice_is_refused_alone_when_it_is_asked_for(tmp_path, ending):
    spoiled = STACK.copy()
    spoiled[1], spoiled[2, 3, 4] = 0.0, np.nan
    stack = read_stack(save(tmp_path / f"stack{ending}", spoiled))
    assert torch.equal(stack.scan(3).sinogram, torch.from_numpy(STACK[3]))
    assert "constant" in refusal(stack.scan, 1)
    assert "NaN" in refusal(stack.scan, 2)


def test_the_middle_is_a_slice_that_can_be_used(tmp_path):
    bad, none = STACK.copy(), np.full_like(STACK, np.nan)
    bad[2] = np.nan
    stack = read_stack(save(tmp_path / "stack.npz", bad, **KEYS))
    assert torch.equal(stack.middle.sinogram, torch.from_numpy(STACK[1]))
    assert "NaN" in refusal(lambda: read_stack(save(tmp_path / "none.npz", none, **KEYS)).middle)


def test_weights_are_those_of_the_slice_or_shared(tmp_path):
    own = read_stack(save(tmp_path / "own.npz", weights=STACK), view_step=2)
    assert torch.equal(own.scan(2).weights, torch.from_numpy(STACK[2, ::2]))
    shared = read_stack(save(tmp_path / "shared.h5", weights=STACK[1]))
    assert torch.equal(shared.scan(2).weights, torch.from_numpy(STACK[1]))


def test_npy_stack_stays_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(npy_module, "MAX_BYTES", STACK[0].nbytes)
    path = save(tmp_path / "stack.npy", np.asfortranarray(STACK))
    stack = read_stack(path, slices="1:3")
    assert isinstance(stack.sinograms, np.memmap)
    np.testing.assert_array_equal([scan.sinogram.numpy() for scan in stack], STACK[1:3])
    monkeypatch.setattr(npy_module, "MAX_BYTES", STACK[0].nbytes - 1)
    assert "a slice of stack.npy declares" in refusal(read_stack, path)


def test_npy_stack_that_is_cut_off_is_refused(tmp_path):
    path = save(tmp_path / "stack.npy")
    path.write_bytes(path.read_bytes()[:-4])
    assert "cut off" in refusal(read_stack, path)


def test_hdf5_reads_the_requested_slices_only(tmp_path, monkeypatch):
    read, get = [], SlicesOnDisk.__getitem__

    def noted(self, index):
        read.append(index)
        return get(self, index)

    monkeypatch.setattr(SlicesOnDisk, "__getitem__", noted)
    stack = read_stack(save(tmp_path / "stack.h5"), slices="1:3")
    assert read == []
    assert len(list(stack)) == 2 and read == [1, 2]


@FORMATS
def test_true_volume_goes_with_its_slices(tmp_path, ending):
    truth = np.random.default_rng(2).uniform(0, 1, (4, 5, 5)).astype(np.float32)
    path = save(tmp_path / "stack.npz", ground_truth=truth)
    stack = read_stack(path, slices="1:3")
    assert torch.equal(read_true_slices(path, stack)[2], torch.from_numpy(truth[2]))
    for name, volume in (("whole", truth), ("selected", truth[1:3])):
        other = tmp_path / f"{name}{ending}"
        if ending == ".npy":
            np.save(other, volume)
        elif ending == ".npz":
            np.savez(other, reference=volume, ref_pixel_mm=1.2)
        else:
            with h5py.File(other, "w") as file:
                file["ground_truth"] = volume
        found = read_true_slices(other, stack)
        for number in (1, 2):
            assert torch.equal(found[number], torch.from_numpy(truth[number]))


def test_true_volume_of_other_slices_is_refused(tmp_path):
    stack = read_stack(save(tmp_path / "stack.npz"), slices="1:3")
    assert read_true_slices(tmp_path / "stack.npz", stack) is None
    for shape in ((5, 5), (3, 5, 5)):
        np.save(tmp_path / "truth.npy", np.ones(shape))
        said = refusal(read_true_slices, tmp_path / "truth.npy", stack)
        assert "4 slices as in the stack or the 2 selected" in said
    np.save(tmp_path / "truth.npy", np.ones((4, 5, 7)))
    assert "aspect ratio" in refusal(read_true_slices, tmp_path / "truth.npy", stack)
    said = []
    np.save(tmp_path / "truth.npy", np.ones((4, 10, 10)))
    read_true_slices(tmp_path / "truth.npy", stack, assumed=said.append)
    assert len(said) == 1 and "10 x 10" in said[0]
    assert "(rows, columns)" in refusal(
        read_ground_truth, save(tmp_path / "t.npz", ground_truth=np.ones((4, 5, 5))),
        ImageGrid((5, 5)),
    )  # fmt: skip
