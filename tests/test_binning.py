"""Laws of detector elements that are joined: what arrives on them is added, the axis stays."""

import numpy as np
import pytest
import torch

from pdip.errors import InputError
from pdip.scan import read_scan, read_stack
from pdip.scan.binning import binned_fields, joined_weights

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


@pytest.mark.parametrize("kind", ["counts", "transmission"])
def test_joined_rays_have_the_noise_that_is_said(tmp_path, kind):
    y, photons = 1.2, 400
    counts = RANDOM.poisson(photons * np.exp(-y), (40, 300)).astype(float)
    counts[0, 0] += 1e-3  # no whole numbers, as transmissions are none
    whole = {"data_kind": kind, "gain": 1.0 if kind == "counts" else 1 / photons}
    values = counts if kind == "counts" else counts / photons
    name, flat = ("counts", photons) if kind == "counts" else ("sinogram", 1.0)
    path = tmp_path / "scan.npz"
    np.savez(path, angles_deg=4.5 * np.arange(40), **{name: values, "flat": flat}, **whole)
    for binning in (1, 4):
        scan = read_scan(path, binning=binning)
        z = ((scan.sinogram - y) * scan.weights.sqrt()).double().numpy()
        assert abs(z.mean()) * z.size**0.5 < 4
        assert abs((z**2).mean() - 1) < 4 * (2 / z.size) ** 0.5
        assert scan.weights.mean() == pytest.approx(binning * photons * np.exp(-y), rel=0.05)


def test_elements_that_do_not_work_are_left_out_of_the_joined_ones(tmp_path):
    counts = RANDOM.poisson(500, (20, DETECTORS)).astype(float)
    counts[:, 4], counts[:, 9:] = 65535.0, 0.0  # one stuck; three dead, a whole joined element
    path = tmp_path / "scan.npz"
    own = {"flat": np.full((3, DETECTORS), 1000.0), "data_kind": "counts", "gain": 1.0}
    np.savez(path, counts=counts, **own)
    scan = read_scan(path, binning=BINNING)
    expected = -np.log((counts[:, [3, 5]].sum(1) + 0.5) / 2000)
    np.testing.assert_allclose(scan.sinogram[:, 1].numpy(), expected, rtol=1e-6)
    assert bool((scan.weights[:, 3] == 0).all()) and bool((scan.weights[:, :3] > 0).all())
    assert any("4 detector element(s) have the same reading" in said for said in scan.assumptions)


@pytest.mark.parametrize("slices", [0, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_line_integrals_of_a_stuck_element_are_not_used(tmp_path, slices, weighted):
    lines = 1 + RANDOM.random((20, DETECTORS))
    lines[:, [0, -1]] = 0.0  # air at both ends
    spoilt = lines.copy()
    spoilt[:, 4], spoilt[:, 6:9] = 0.0, 3.0  # one of a joined element, and all of another
    weights = 1 + RANDOM.random((20, DETECTORS)) if weighted else np.ones((20, DETECTORS))
    path, stack = tmp_path / "scan.npz", np.stack([lines, spoilt])
    np.savez(path, sinogram=stack if slices else spoilt, **{"weights": weights} if weighted else {})
    fine, coarse = (
        read_stack(path, binning=k).scan(1) if slices else read_scan(path, binning=k)
        for k in (1, BINNING)
    )
    for scan in (fine, coarse):
        assert sum("4 detector element(s) between others" in s for s in scan.assumptions) == 1
    alive = np.isin(np.arange(DETECTORS), [4, 6, 7, 8], invert=True)
    np.testing.assert_allclose(fine.weights.numpy(), weights * alive, rtol=1e-6)
    assert fine.sinogram[:, alive].equal(torch.from_numpy(lines[:, alive]).float())
    expected = -np.log(np.exp(-lines[:, [3, 5]]).mean(1))
    np.testing.assert_allclose(coarse.sinogram[:, 1].numpy(), expected, rtol=1e-6)
    scale = 1 if weighted else 1 / BINNING
    part = scale * 4 / (1 / weights[:, [3, 5]]).sum(1)
    np.testing.assert_allclose(coarse.weights[:, 1].numpy(), part, rtol=1e-6)
    whole = scale * 9 / (1 / weights[:, :3]).sum(1)
    np.testing.assert_allclose(coarse.weights[:, 0].numpy(), whole, rtol=1e-6)
    assert bool((coarse.weights[:, 2] == 0).all())


def test_air_and_round_objects_without_noise_are_not_stuck(tmp_path):
    air = 1 + RANDOM.random((20, DETECTORS))
    air[:, :3], air[:, -2:] = 0.0, 0.0
    still = np.ones((20, DETECTORS)) * np.arange(DETECTORS)
    still[3, [2, 8]] += 1e-3  # rounding
    few = 1 + RANDOM.random((7, DETECTORS))
    few[:, 4] = 0.0
    for name, lines in (("air", air), ("still", still), ("few", few)):
        np.save(tmp_path / f"{name}.npy", lines)
        assert read_scan(tmp_path / f"{name}.npy").weights is None


def test_the_weight_of_a_joined_ray_is_that_of_the_mean_of_its_parts():
    weights = np.array([[1.0, 2.0, 4.0, 1.0, 0.0, 1.0]])
    found = joined_weights(weights, 3)
    draws = RANDOM.standard_normal((200_000, 3)) / np.sqrt(weights[0, :3])
    assert found[0, 0] * draws.mean(1).var() == pytest.approx(1, abs=4 * (2 / 200_000) ** 0.5)
    assert found[0, 1] == 0


def test_weights_of_the_file_are_joined(tmp_path):
    weights = 1 + RANDOM.random((VIEWS, DETECTORS))
    lines = RANDOM.random((VIEWS, DETECTORS))
    path = saved(tmp_path / "scan.npz", sinogram=lines, weights=weights)
    scan = read_scan(path, binning=BINNING)
    np.testing.assert_allclose(scan.weights.numpy(), joined_weights(weights, BINNING), rtol=1e-6)


@pytest.mark.parametrize("slices", [0, 2])
def test_an_axis_counts_the_elements_of_the_file_wherever_it_is_given(tmp_path, slices):
    shape = (slices, VIEWS, DETECTORS) if slices else (VIEWS, DETECTORS)
    read = read_stack if slices else read_scan
    lines = RANDOM.random(shape)
    own = saved(tmp_path / "own.npz", sinogram=lines, cor=4.3)
    other = saved(tmp_path / "other.npz", sinogram=lines, detector_shift_mm=0.2)
    (tmp_path / "g.yaml").write_text("cor: 4.3")
    for found in (
        read(own, binning=BINNING),
        read(other, tmp_path / "g.yaml", binning=BINNING),
        read(other, binning=BINNING, cor=4.3),
        read(own, binning=BINNING, cor=4.3),
    ):
        assert found.geometry.cor == pytest.approx((4.3 - 1) / 3)
        assert (found.middle if slices else found).binning == BINNING
    (assumed,) = (s for s in read_scan(saved(tmp_path / "no.npz", sinogram=lines.reshape(
        -1, DETECTORS)[:VIEWS]), binning=BINNING).assumptions if "middle" in s)  # fmt: skip
    assert "cor = 5.5 (of the elements as they are in the file)" in assumed
    with pytest.raises(InputError, match="0 to 11 in elements of the file.*cor is 11.6"):
        read(own, binning=BINNING, cor=11.6)
    read(own, binning=BINNING, cor=9.0)


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


def test_a_key_of_the_file_does_not_join_elements():
    fields = {"sinogram": np.ones((VIEWS, DETECTORS)), "binning": BINNING}
    assert "binning" not in binned_fields(fields, 1)[0]
    assert binned_fields(fields, 2)[0]["binning"] == 2
