"""Readers: what is read, what is assumed aloud, and what is refused in one sentence."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from pdip.errors import InputError
from pdip.scan import FanBeam, ImageGrid, ParallelBeam, read_ground_truth, read_scan
from pdip.scan import npy as npy_module

RNG = np.random.default_rng(0)
SINOGRAM = RNG.uniform(0.1, 1.0, (6, 9)).astype(np.float32)
ANGLES = np.linspace(0, np.pi, 6, endpoint=False)
FAN = {
    "geometry": "fanflat",
    "source_origin_mm": 50.0,
    "origin_detector_mm": 10.0,
    "det_pixel_mm": 0.8,
    "cor": 3.75,
}


def central_sinogram(views: int, detectors: int) -> np.ndarray:
    """An object in the middle third of the detector."""
    rows = np.zeros((views, detectors), np.float32)
    rows[:, detectors // 3 : 2 * detectors // 3] = 1.0
    return rows


def save_npy(tmp_path, sinogram=SINOGRAM, yaml=None, suffix=".yaml"):
    path = tmp_path / "scan.npy"
    np.save(path, sinogram, allow_pickle=True)
    if yaml is not None:
        path.with_suffix(suffix).write_text(yaml)
    return path


def save_npz(tmp_path, name="scan.npz", **keys):
    path = tmp_path / name
    np.savez(path, **keys)
    return path


def refusal(read, *args, **kwargs) -> str:
    """The one sentence that ``read`` refuses its input with."""
    with pytest.raises(InputError) as error:
        read(*args, **kwargs)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return str(error.value)


# What is read


def test_npy_without_geometry_is_a_parallel_half_turn_and_says_so(tmp_path):
    scan = read_scan(save_npy(tmp_path, central_sinogram(6, 41)))
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.geometry.angles_deg == (0.0, 30.0, 60.0, 90.0, 120.0, 150.0)
    assert scan.geometry.detector_pitch_mm == 1.0 and scan.geometry.cor == 20.0
    assert scan.grid == scan.geometry.inscribed_grid() and scan.grid.shape == (28, 28)
    said = " ".join(scan.assumptions)
    for fact in ("parallel", "180 degrees", "pitch", "cor = 20", "inscribed"):
        assert fact in said


def test_object_outside_the_inscribed_square_gets_the_covering_grid(tmp_path):
    scan = read_scan(save_npy(tmp_path, SINOGRAM))
    assert scan.grid == scan.geometry.covering_grid() and scan.grid.shape == (9, 9)
    assert "covers all of the field of view" in scan.assumptions[-1]


@pytest.mark.parametrize("seed", range(8))
def test_noise_of_rays_beside_the_image_is_no_object(tmp_path, seed):
    position = np.arange(41) - 20.0
    chord = 0.01 * 2 * np.sqrt(np.clip(8**2 - position**2, 0, None))
    noisy = np.tile(chord, (30, 1)) + np.random.default_rng(seed).normal(0, 0.06, (30, 41))
    keys = {"sinogram": noisy, "image_shape": np.array((30, 30)), "pixel_mm": 1.0}
    scan = read_scan(save_npz(tmp_path, **keys))
    assert not any("pass beside the image" in said for said in scan.assumptions)


@pytest.mark.parametrize(("shape", "warned"), [((41, 41), False), ((20, 41), True), ((9, 9), True)])
def test_an_image_that_does_not_hold_the_object_is_warned_of(tmp_path, shape, warned):
    position = np.arange(41) - 20.0
    chord = 2 * np.sqrt(np.clip(15**2 - position**2, 0, None))
    keys = {"sinogram": np.tile(chord, (30, 1)), "image_shape": np.array(shape), "pixel_mm": 1.0}
    scan = read_scan(save_npz(tmp_path, **keys))
    assert any("pass beside the image see an object" in said for said in scan.assumptions) == warned


def test_a_pixel_wider_than_half_of_the_field_of_view_is_refused(tmp_path):
    keys = {"sinogram": central_sinogram(6, 41), "image_shape": np.array([2, 2]), "pixel_mm": 30.0}
    words = refusal(read_scan, save_npz(tmp_path, **keys))
    assert words.startswith("a pixel is 30 mm wide but the field of view 41 mm")


def test_a_disc_that_the_inscribed_square_cuts_gets_the_covering_grid(tmp_path):
    position = (np.arange(101) - 50) / 50.5
    for radius, shape in ((0.85, (101, 101)), (0.7, (71, 71))):
        chord = 2 * np.sqrt(np.clip(radius**2 - position**2, 0, None))
        scan = read_scan(save_npy(tmp_path, np.tile(chord, (60, 1))))
        assert scan.grid.shape == shape


def test_a_root_that_pokes_out_of_the_inscribed_square_gets_the_covering_grid(tmp_path):
    """Less than half a percent of the sinogram, and yet no image in the square explains it."""
    angles, position = np.radians(np.arange(0, 180, 3))[:, None], np.arange(101) - 50.0
    noise = np.random.default_rng(0).normal(0, 0.3, (60, 101))

    def chord(radius, x):
        return 2 * np.sqrt(np.clip(radius**2 - (position - x * np.cos(angles)) ** 2, 0, None))

    root = chord(32, 0) + noise
    assert read_scan(save_npy(tmp_path, root)).grid.shape == (71, 71)
    poking = root + 0.5 * chord(5, 37)
    assert read_scan(save_npy(tmp_path, poking)).grid.shape == (101, 101)
    spike = root.copy()
    spike[7, 99] += 50
    assert read_scan(save_npy(tmp_path, spike)).grid.shape == (71, 71)


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_sidecar_next_to_the_npy_gives_the_geometry(tmp_path, suffix):
    yaml = """
geometry: fanflat
first_deg: 10
step_deg: -2.5
source_origin_mm: 5e1
origin_detector_mm: 10
det_pixel_mm: 0.8
cor: 3.75
image_shape: [12, 10]
pixel_mm: 0.8
"""
    scan = read_scan(save_npy(tmp_path, SINOGRAM, yaml, suffix))
    beam = FanBeam.from_cor([10 - 2.5 * i for i in range(6)], 9, 0.8, 50.0, 10.0, cor=3.75)
    assert scan.geometry == beam and scan.grid == ImageGrid((12, 10), 0.8)
    assert "scan.yaml" in scan.assumptions[0] or "scan.yml" in scan.assumptions[0]
    assert len(scan.assumptions) == 1


def test_saved_geometry_is_a_sidecar(tmp_path):
    import yaml

    beam = FanBeam([0.0, 7.0, 100.0, 120.0, 200.0, 300.0], 9, 0.8, 50.0, 10.0, 0.3)
    path = save_npy(tmp_path, SINOGRAM, yaml.safe_dump(beam.to_dict()))
    assert read_scan(path).geometry == beam


def test_npz_keys_give_geometry_grid_weights_and_no_truth_in_the_scan(tmp_path):
    path = save_npz(
        tmp_path,
        sinogram=SINOGRAM.astype(np.float64),
        angles=ANGLES,
        weights=SINOGRAM,
        image_shape=[5, 5],
        pixel_mm=1.2,
        ground_truth=np.eye(5),
        units="line integrals",
        noise_std=0.1,
        **FAN,
    )
    scan = read_scan(path)
    assert scan.sinogram.dtype == torch.float32
    np.testing.assert_array_equal(scan.sinogram.numpy(), SINOGRAM)
    np.testing.assert_array_equal(scan.weights.numpy(), SINOGRAM)
    np.testing.assert_allclose(scan.geometry.angles_rad, ANGLES, rtol=1e-14)
    assert scan.geometry.cor == pytest.approx(3.75)
    assert scan.grid == ImageGrid((5, 5), 1.2) and scan.assumptions == ()


def test_npz_with_a_reference_takes_its_grid_and_says_so(tmp_path):
    path = save_npz(
        tmp_path,
        sinogram=SINOGRAM,
        angles_deg=np.arange(6) * 30.0,
        reference=np.ones((7, 7)),
        ref_pixel_mm=0.9,
        **FAN,
    )
    scan = read_scan(path)
    assert scan.grid == ImageGrid((7, 7), 0.9)
    assert scan.assumptions == ("The image grid is that of the reference in the file.",)


def test_named_geometry_file_replaces_the_one_in_the_npz_but_not_its_grid(tmp_path):
    path = save_npz(
        tmp_path, sinogram=SINOGRAM, angles=ANGLES, image_shape=[5, 5], pixel_mm=1.2, **FAN
    )
    yaml = tmp_path / "other.yaml"
    yaml.write_text("geometry: parallel\ndet_pixel_mm: 0.7\nangles_deg: [0, 40, 60, 80, 90, 99]")
    scan = read_scan(path, yaml)
    assert scan.geometry == ParallelBeam([0, 40, 60, 80, 90, 99], 9, 0.7)
    assert scan.grid == ImageGrid((5, 5), 1.2)
    replaced = "The geometry in scan.npz is replaced as a whole by that of other.yaml."
    assert replaced in scan.assumptions
    yaml.write_text("image_shape: [6, 6]\npixel_mm: 1.0")
    kept = read_scan(path, yaml)
    assert kept.grid == ImageGrid((6, 6), 1.0) and not any(
        "replaced" in s for s in kept.assumptions
    )


def test_image_size_and_view_step_keep_field_of_view_and_angles(tmp_path):
    path = save_npz(
        tmp_path, sinogram=SINOGRAM, angles=ANGLES, image_shape=[6, 6], pixel_mm=1.0, **FAN
    )
    scan = read_scan(path, image_size=12, view_step=4)
    assert scan.grid == ImageGrid((12, 12), 0.5)
    np.testing.assert_array_equal(scan.sinogram.numpy(), SINOGRAM[::4])
    np.testing.assert_allclose(scan.geometry.angles_rad, ANGLES[::4])


@pytest.mark.parametrize("array", [SINOGRAM.astype(">f8"), np.asfortranarray(SINOGRAM)])
def test_byte_order_and_memory_order_do_not_change_the_values(tmp_path, array):
    np.testing.assert_array_equal(read_scan(save_npy(tmp_path, array)).sinogram.numpy(), SINOGRAM)


# Ground truth


def test_truth_on_the_same_grid_comes_back_unchanged(tmp_path):
    truth = RNG.uniform(size=(5, 5)).astype(np.float32)
    np.save(tmp_path / "truth.npy", truth)
    found = read_ground_truth(tmp_path / "truth.npy", ImageGrid((5, 5), 0.3))
    np.testing.assert_array_equal(found.numpy(), truth)


def test_finer_truth_becomes_its_pixel_means(tmp_path):
    truth = RNG.uniform(size=(8, 8)).astype(np.float32)
    path = save_npz(tmp_path, reference=truth, ref_pixel_mm=0.5)
    found = read_ground_truth(path, ImageGrid((4, 4), 1.0)).numpy()
    np.testing.assert_allclose(found, truth.reshape(4, 2, 4, 2).mean((1, 3)), rtol=1e-6)


def test_truth_with_a_pixel_size_is_placed_on_the_axis_and_padded_with_zeros(tmp_path):
    path = save_npz(tmp_path, ground_truth=np.ones((2, 2)), pixel_mm=1.0)
    found = read_ground_truth(path, ImageGrid((4, 4), 1.0)).numpy()
    np.testing.assert_array_equal(found, np.pad(np.ones((2, 2)), 1))


def test_truth_of_another_aspect_ratio_needs_a_pixel_size(tmp_path):
    np.save(tmp_path / "truth.npy", np.ones((5, 7)))
    said = refusal(read_ground_truth, tmp_path / "truth.npy", ImageGrid((16, 16)))
    assert "16 x 16" in said and "5 x 7" in said and "ref_pixel_mm" in said
    path = save_npz(tmp_path, reference=np.ones((5, 7)), ref_pixel_mm=1.0)
    assert read_ground_truth(path, ImageGrid((16, 16))).sum() == 35


def test_resampling_a_truth_without_a_pixel_size_is_an_assumption(tmp_path):
    said = []
    for side in (4, 8):
        np.save(tmp_path / "truth.npy", np.ones((side, side)))
        read_ground_truth(tmp_path / "truth.npy", ImageGrid((4, 4), 0.3), assumed=said.append)
        assert len(said) == (side == 8)
    assert "8 x 8" in said[0] and "0.15 mm" in said[0] and "0.3 mm" in said[0]
    path = save_npz(tmp_path, reference=np.ones((8, 8)), ref_pixel_mm=0.5)
    read_ground_truth(path, ImageGrid((4, 4)), assumed=said.append)
    assert len(said) == 2 and said[1].startswith("The scores compare with the reference in")


def test_npz_without_a_truth_gives_none(tmp_path):
    assert read_ground_truth(save_npz(tmp_path, sinogram=SINOGRAM), ImageGrid((4, 4))) is None


@pytest.mark.parametrize("truth", [np.ones(4), np.full((4, 4), np.nan), np.array("a")])
def test_unusable_truth_is_refused(tmp_path, truth):
    refusal(read_ground_truth, save_npz(tmp_path, ground_truth=truth), ImageGrid((4, 4)))


# What is refused: files


def test_missing_folder_and_unknown_files_are_refused(tmp_path):
    assert "does not exist" in refusal(read_scan, tmp_path / "none.npy")
    assert "folder" in refusal(read_scan, tmp_path)
    (tmp_path / "scan.edf").write_bytes(b"II")
    assert "expected one of .npy, .npz" in refusal(read_scan, tmp_path / "scan.edf")
    (tmp_path / "scan").write_text("no ending")
    assert "has the ending 'none'" in refusal(read_scan, tmp_path / "scan")
    assert "does not exist" in refusal(read_scan, "scan\0.npy")
    assert "does not exist" in refusal(read_scan, save_npy(tmp_path), tmp_path / "none.yaml")


@pytest.mark.skipif(os.name != "posix", reason="needs a named pipe")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "scan.npy")
    assert "not a regular file" in refusal(read_scan, tmp_path / "scan.npy")


@pytest.mark.parametrize("name", ["scan.npy", "scan.npz"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"PK\x03\x04"])
def test_files_of_another_kind_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "save it" in refusal(read_scan, tmp_path / name)


def test_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    path = save_npy(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"(6, 9)", b"(66, 9)", 1)[:-8])
    assert "cut off or damaged" in refusal(read_scan, path) or "header" in refusal(read_scan, path)
    path = save_npy(tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    assert "declares 216 bytes" in refusal(read_scan, path)


def test_header_of_exabytes_is_refused_before_memory_is_asked_for(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000000), }"
    path = tmp_path / "scan.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    assert "more than the limit" in refusal(read_scan, path)


def test_pickles_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    trap = np.array([[Trap()]], dtype=object)
    assert "pickle" in refusal(read_scan, save_npy(tmp_path, trap))
    assert "pickle" in refusal(read_scan, save_npz(tmp_path, sinogram=trap))
    assert not (tmp_path / "sprung").exists()


def test_archive_that_unpacks_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    path = save_npz(tmp_path, sinogram=SINOGRAM, reference=np.ones((40, 40)))
    monkeypatch.setattr("pdip.scan.npz.MAX_BYTES", 5000)
    assert "more than the limit" in refusal(read_scan, path)
    monkeypatch.setattr(npy_module, "MAX_BYTES", 100)
    assert "more than the limit" in refusal(read_scan, save_npy(tmp_path))


def test_archive_that_expands_a_thousandfold_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "scan.npz", sinogram=np.zeros((1000, 2000)))
    assert "expands" in refusal(read_scan, tmp_path / "scan.npz")


# What is refused: values


@pytest.mark.parametrize(
    "sinogram, said",
    [
        (np.zeros((6, 0)), "empty"),
        (np.zeros((6, 9)), "constant"),
        (np.full((6, 9), 0.5), "constant"),
        (np.ones(9), "two axes"),
        (np.ones((2, 6, 9)), "two axes"),
        (np.where(SINOGRAM > 0.9, np.nan, SINOGRAM), "NaN or infinite"),
        (SINOGRAM.astype(np.float64) * 1e300, "NaN or infinite"),
        (-SINOGRAM, "minus sign"),
        ((SINOGRAM * 60000).astype(np.uint16), "photon counts"),
        (SINOGRAM.astype(np.complex64), "real numbers"),
        (SINOGRAM > 0.5, "real numbers"),
        (np.full((6, 9), "a"), "sinogram must be"),
    ],
)
def test_sinograms_that_are_no_line_integrals_are_refused(tmp_path, sinogram, said):
    assert said in refusal(read_scan, save_npy(tmp_path, sinogram))


def test_large_line_integrals_are_taken_and_said(tmp_path):
    scan = read_scan(save_npy(tmp_path, SINOGRAM * 1000))
    assert scan.assumptions[0].startswith("WARNING: values up to")
    assert "--data-kind counts" in scan.assumptions[0]


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"angles": ANGLES[:5]}, "6 rows but the geometry lists 5 angles; give"),
        ({"sinogram": SINOGRAM.T}, "9 rows but the geometry lists 6 angles; was it transposed?"),
        ({"angles": np.rad2deg(ANGLES)}, "angles_deg"),
        ({"angles": None, "angles_deg": ANGLES}, "look like radians"),
        ({"angles_deg": ANGLES}, "both give the view angles"),
        ({"angles": np.full(6, np.nan)}, "finite"),
        ({"angles": None, "angle": ANGLES}, "did you mean 'angles'"),
        ({"geometry": "cone"}, "'cone'"),
        ({"geometry": "parallel"}, "no source distance"),
        ({"geometry": None}, "add geometry: fanflat"),
        ({"angle_convention": "odl"}, "'astra'"),
        ({"source_origin_mm": None}, "source_origin_mm"),
        ({"det_pixel_mm": None}, "det_pixel_mm"),
        ({"det_pixel_mm": -0.8}, "positive"),
        ({"det_pixel_mm": 8e-7}, "mm"),
        ({"source_origin_mm": 0.05, "origin_detector_mm": 0.01}, "mm"),
        ({"cor": 40.0}, "cor is 40"),
        ({"detector_shift_mm": 0.1}, "same thing"),
        ({"image_shape": [0, 5], "pixel_mm": 1.0}, "positive"),
        ({"image_shape": [5.5, 5], "pixel_mm": 1.0}, "whole number"),
        ({"image_shape": [5, 5], "pixel_mm": 1e-6}, "field of view"),
        ({"reference": np.ones((5, 5)), "ref_pixel_mm": 1200.0}, "field of view"),
        ({"weights": -SINOGRAM}, "negative"),
        ({"weights": "none"}, "weights must be"),
        ({"sinogram": None}, "no key 'sinogram'"),
    ],
)
def test_npz_keys_that_do_not_fit_are_refused(tmp_path, changed, said):
    keys = {"sinogram": SINOGRAM, "angles": ANGLES, **FAN, **changed}
    path = save_npz(tmp_path, **{key: value for key, value in keys.items() if value is not None})
    assert said in refusal(read_scan, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "yaml, said",
    [
        ("geometri: parallel", "'geometry'"),
        ("pixel: 0.3", "'pixel_mm'"),
        ("- parallel", "key: value"),
        ("geometry: [parallel", "not valid YAML"),
        (
            "geometry: parallel\nstep_deg: 15\nstep_deg: 30",
            "'step_deg' is given twice",
        ),
        ("geometry: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("angles_deg: 5", "list of numbers"),
        ("angles_deg: [0, x, 2, 3, 4, 5]", "must be a number"),
        ("angles_deg: [0, 30]", "6 rows but the geometry lists 2 angles"),
        ("first_deg: 5", "step_deg"),
        ("step_deg: 0", "must not be 0"),
        ("num_detectors: 8", "9 columns but the geometry has 8 detectors"),
        ("det_pixel_mm: true", "must be a number"),
        ("det_pixel_mm: 0x" + "f" * 6000, "finite number"),
        ("cor: " + "[" * 5000, "not valid YAML"),
        ("a: &a [0,0,0,0]\nb: &b [*a,*a,*a,*a]\nangles_deg: [*b,*b]", "unknown key"),
    ],
)
def test_sidecars_that_do_not_fit_are_refused(tmp_path, yaml, said):
    assert said in refusal(read_scan, save_npy(tmp_path, SINOGRAM, yaml))


def test_example_scan_of_the_demo_reads_without_an_assumption():
    path = Path(__file__).parents[1] / "data" / "example" / "scan.npz"
    scan = read_scan(path)
    truth = read_ground_truth(path, scan.grid)
    assert scan.assumptions == () and truth.shape == scan.grid.shape == (56, 56)
    # Parallel rays would keep the sum of the image in every view; a fan keeps it to a few percent.
    masses = scan.sinogram.sum(1)
    assert float(masses.std() / masses.mean()) < 0.1
