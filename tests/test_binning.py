"""Laws of detector elements that are joined: what arrives on them is added, the axis stays."""

import numpy as np
import pytest

from pdip.errors import InputError
from pdip.scan import read_scan, read_stack
from pdip.scan.binning import binned_fields

RANDOM = np.random.default_rng(0)
VIEWS, DETECTORS, BINNING = 5, 12, 3
FAN = {"geometry": "fanflat", "source_origin_mm": 90.0, "origin_detector_mm": 30.0}


def saved(path, **fields):
    np.savez(path, angles_deg=np.arange(VIEWS) * 36.0, **fields)
    return path


def joined(values: np.ndarray) -> np.ndarray:
    return values.reshape(*values.shape[:-1], -1, BINNING).sum(-1)


@pytest.mark.parametrize("beam", [{}, {"det_pixel_mm": 0.4}, {"det_pixel_mm": 0.4, **FAN}])
@pytest.mark.parametrize("axis", [{}, {"cor": 4.3}, {"detector_shift_mm": 0.9}])
def test_a_joined_element_lies_in_the_middle_of_its_parts(tmp_path, beam, axis):
    lines = RANDOM.random((VIEWS, DETECTORS))
    path = saved(tmp_path / "scan.npz", sinogram=lines, **beam, **axis)
    fine, coarse = (read_scan(path, binning=k).geometry for k in (1, BINNING))
    before = (np.arange(DETECTORS) - fine.cor) * fine.detector_pitch_mm
    after = (np.arange(DETECTORS // BINNING) - coarse.cor) * coarse.detector_pitch_mm
    np.testing.assert_allclose(after, joined(before) / BINNING, atol=1e-12)
    assert coarse.angles_deg == fine.angles_deg


def test_line_integrals_are_joined_as_what_arrives(tmp_path):
    lines = 3 * RANDOM.random((VIEWS, DETECTORS))
    scan = read_scan(saved(tmp_path / "scan.npz", sinogram=lines), binning=BINNING)
    expected = -np.log(joined(np.exp(-lines)) / BINNING)
    np.testing.assert_allclose(scan.sinogram.numpy(), expected, rtol=1e-6)
    assert any("3 detector elements each are read as one" in said for said in scan.assumptions)


def test_counts_joined_are_those_that_a_wide_element_would_count(tmp_path):
    flat = RANDOM.poisson(900, (4, DETECTORS)) + 20.0
    counts = np.round(400 + 200 * RANDOM.random((VIEWS, DETECTORS)))
    own = {"data_kind": "counts", "gain": 1.0}
    fine = saved(tmp_path / "fine.npz", counts=counts, flat=flat, dark=20.0, **own)
    wide = {"counts": joined(counts), "flat": joined(flat), "dark": 20.0 * BINNING}
    coarse = saved(tmp_path / "coarse.npz", **wide, **own)
    found, expected = read_scan(fine, binning=BINNING), read_scan(coarse)
    assert found.sinogram.equal(expected.sinogram) and found.weights.equal(expected.weights)
    assert found.noise_std == expected.noise_std == 1.0


def test_the_weight_of_a_joined_ray_is_that_of_the_mean_of_its_parts():
    weights = np.array([[1.0, 2.0, 4.0, 1.0, 0.0, 1.0]])
    fields = {"sinogram": np.ones((1, 6)), "weights": weights}
    out, _ = binned_fields(fields, 3)
    draws = RANDOM.standard_normal((200_000, 3)) / np.sqrt(weights[0, :3])
    variance = draws.mean(1).var()
    assert out["weights"][0, 0] * variance == pytest.approx(1, abs=4 * (2 / 200_000) ** 0.5)
    assert out["weights"][0, 1] == 0


def test_slices_of_a_stack_are_joined_when_they_are_read(tmp_path):
    lines = RANDOM.random((4, VIEWS, DETECTORS))
    np.save(tmp_path / "stack.npy", lines)
    stack = read_stack(tmp_path / "stack.npy", binning=BINNING, slices="1:3")
    for number, scan in zip((1, 2), stack, strict=True):
        np.save(tmp_path / "one.npy", lines[number])
        alone = read_scan(tmp_path / "one.npy", binning=BINNING)
        assert scan.sinogram.equal(alone.sinogram) and scan.geometry == alone.geometry


@pytest.mark.parametrize("binning, said", [(5, "give one of 2, 3, 4, 6"), (0, "positive whole")])
def test_elements_that_cannot_be_joined_are_refused(tmp_path, binning, said):
    path = saved(tmp_path / "scan.npz", sinogram=RANDOM.random((VIEWS, DETECTORS)))
    with pytest.raises(InputError, match=said):
        read_scan(path, binning=binning)
