"""``pdip simulate`` writes scans that read, describe and reconstruct as what they were made of."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from instrument_files import save_dicom

from pdip import cli
from pdip.ray import ray_transform
from pdip.scan import ImageGrid, read_dicom, read_ground_truth, read_scan, shepp_logan
from pdip.scan.dicom import WATER_60_KEV
from pdip.scan.phantoms import SHEPP_LOGAN

FAN = ["--beam", "fan", "--source-origin-mm", 60, "--origin-detector-mm", 30]
SMALL = ["--size", 12, "--views", 6]


def simulated(out, *arguments) -> int:
    return cli.main(["simulate", "--out", str(out), *map(str, arguments)])


def refused(capsys, out, *arguments) -> str:
    code = simulated(out, *arguments)
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and not out.exists()
    return err


def chords(geometry, radius_mm) -> np.ndarray:
    """Line integrals of the Shepp-Logan ellipses in closed form, the mean over 8 rays an element.

    An ellipse of half axes A, B turned by f: 2 A B sqrt(r^2 - t^2) / r^2 with t the distance of
    the ray from its centre and r^2 = (A cos(a - f))^2 + (B sin(a - f))^2.
    """
    num, pitch = geometry.num_detectors, geometry.detector_pitch_mm
    fine = replace(geometry, num_detectors=8 * num, detector_pitch_mm=pitch / 8)
    angle, offset = fine.ray_lines()
    total = np.zeros(angle.shape)
    for value, half_x, half_y, x, y, turn in SHEPP_LOGAN:
        distance = offset / radius_mm - x * np.cos(angle) - y * np.sin(angle)
        turned = angle - math.radians(turn)
        square = (half_x * np.cos(turned)) ** 2 + (half_y * np.sin(turned)) ** 2
        chord = np.sqrt(np.clip(square - distance**2, 0, None)) / square
        total += 2 * value * half_x * half_y * chord * radius_mm
    return total.reshape(len(total), num, 8).mean(-1)


BEAMS = [["--cor", 21.5], [*FAN, "--cor", 24.25], ["--arc", -170]]


@pytest.mark.parametrize("beam", BEAMS)
def test_a_scan_without_noise_is_the_line_integrals_of_the_ellipses(tmp_path, beam):
    out = tmp_path / "s.npz"
    given = ["--phantom", "shepp_logan", "--size", 32, "--views", 7, "--noise", 0, *beam]
    assert simulated(out, *given) == 0
    scan = read_scan(out)
    exact = WATER_60_KEV * chords(scan.geometry, 16.0)
    off = np.linalg.norm(scan.sinogram.numpy() - exact) / np.linalg.norm(exact)
    assert off < 0.01
    truth = read_ground_truth(out, scan.grid)
    assert torch.allclose(truth, WATER_60_KEV * shepp_logan(ImageGrid((32, 32))), atol=2e-3)
    again = ray_transform(scan.geometry, scan.grid).forward(truth)
    assert float((again - scan.sinogram).norm() / scan.sinogram.norm()) > 0.01  # another matrix


@pytest.mark.parametrize("beam", BEAMS)
def test_with_one_part_to_an_element_the_scan_is_that_of_the_reconstructions_matrix(tmp_path, beam):
    out = tmp_path / "s.npz"
    given = ["--phantom", "walnut", *SMALL, "--noise", 0, "--finer", 1]
    assert simulated(out, *given, *beam[:-2], "--arc", 100) == 0
    scan = read_scan(out)
    again = ray_transform(scan.geometry, scan.grid).forward(read_ground_truth(out, scan.grid))
    assert torch.allclose(again, scan.sinogram, atol=1e-6)


def test_options_are_what_the_file_says(tmp_path):
    out = tmp_path / "s.npz"
    assert simulated(out, "--phantom", "walnut", *SMALL, *FAN, "--cor", 11, "--pixel-mm", 0.5) == 0
    scan = read_scan(out)
    beam = scan.geometry
    assert scan.assumptions == ()  # nothing is left to be assumed
    assert scan.grid == ImageGrid((12, 12), 0.5)
    assert beam.cor == pytest.approx(11) and beam.source_origin_mm == 60
    assert beam.angles_deg == pytest.approx([0, 60, 120, 180, 240, 300])
    assert beam.detector_pitch_mm == pytest.approx(0.5 * 1.5)  # a pixel, magnified


@pytest.mark.parametrize("beam", [[], FAN])
def test_the_detector_sees_the_corners_of_the_image(tmp_path, beam):
    np.save(tmp_path / "full.npy", np.full((10, 14), 0.02))
    out = tmp_path / "s.npz"
    assert simulated(out, "--image", tmp_path / "full.npy", "--noise", 0, *beam) == 0
    scan = read_scan(out)
    _, offset = scan.geometry.ray_lines()
    corner, pitch = math.hypot(5, 7), scan.geometry.detector_pitch_mm
    assert corner <= np.abs(offset).max() + pitch / 2 < corner + 2 * pitch


def test_a_seed_decides_the_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = tmp_path / f"{name}.npz"
        assert simulated(path, "--phantom", "ellipses", *SMALL, "--seed", seed) == 0
    a, b, c = ((tmp_path / f"{name}.npz").read_bytes() for name in "abc")
    assert a == b and a != c


def test_noise_is_the_fraction_that_was_asked_for(tmp_path):
    given = ["--phantom", "shepp_logan", "--size", 24, "--views", 40, "--finer", 1]
    assert simulated(tmp_path / "clean.npz", *given, "--noise", 0) == 0
    assert simulated(tmp_path / "noisy.npz", *given, "--noise", 0.1) == 0
    clean, noisy = (read_scan(tmp_path / f"{n}.npz").sinogram for n in ("clean", "noisy"))
    ratio = float((noisy - clean).var() / (0.1 * clean.mean()) ** 2)
    assert abs(ratio - 1) < 4 * math.sqrt(2 / clean.numel())


def test_photons_are_read_back_as_line_integrals_with_their_noise(tmp_path):
    given = ["--phantom", "shepp_logan", "--size", 16, "--views", 30]
    assert simulated(tmp_path / "clean.npz", *given, "--noise", 0) == 0
    out = tmp_path / "s.npz"
    assert simulated(out, *given, "--photons", 2000) == 0
    with np.load(out) as file:
        assert "counts" in file and "sinogram" not in file
    scan, clean = read_scan(out), read_scan(tmp_path / "clean.npz").sinogram
    assert scan.noise_std == 1.0
    ratio = float(((scan.sinogram - clean).square() * scan.weights).mean())
    assert abs(ratio - 1) < 4 * math.sqrt(2 / clean.numel())


def test_a_geometry_file_is_followed_and_options_win(tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text(
        "geometry: fanflat\nangles_deg: [0, 50, 100]\nnum_detectors: 40\ndet_pixel_mm: 0.4\n"
        "source_origin_mm: 100\norigin_detector_mm: 50\ndetector_shift_mm: 0.3\n"
    )
    out = tmp_path / "s.npz"
    given = ["--phantom", "drilled_disc", "--size", 12, "--geometry", file]
    assert simulated(out, *given) == 0
    scan = read_scan(out)
    assert scan.geometry.angles_deg == pytest.approx([0, 50, 100])
    assert scan.geometry.detector_shift_mm == pytest.approx(0.3)
    fitting = scan.geometry.inscribed_grid(12)
    assert scan.grid.pixel_mm == pytest.approx(fitting.pixel_mm)  # the field of view is filled
    assert simulated(out, *given, "--overwrite", "--cor", 20, "--views", 4, "--arc", 200) == 0
    scan = read_scan(out)
    assert scan.geometry.cor == pytest.approx(20)
    assert scan.geometry.angles_deg == pytest.approx([0, 50, 100, 150])


def test_an_image_of_a_file_is_measured_on_its_own_pixels(tmp_path):
    image = np.random.default_rng(0).random((24, 24)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    out = tmp_path / "s.npz"
    given = ["--image", tmp_path / "image.npy", "--views", 5, "--attenuation", 0.01]
    assert simulated(out, *given, "--size", 8, "--pixel-mm", 0.5) == 0
    scan = read_scan(out)
    assert scan.grid == ImageGrid((8, 8), 1.5)
    means = 0.01 * image.reshape(8, 3, 8, 3).mean((1, 3))
    assert np.allclose(read_ground_truth(out, scan.grid).numpy(), means, atol=1e-7)


def test_a_dicom_slice_keeps_its_pixel_size(tmp_path, capsys):
    slice_ = save_dicom(tmp_path / "slice.dcm", np.full((6, 6), -500.0))
    out = tmp_path / "s.npz"
    assert simulated(out, "--image", slice_, "--views", 4) == 0
    image, grid = read_dicom(slice_)
    assert read_scan(out).grid == grid
    assert torch.allclose(read_ground_truth(out, grid), image)
    capsys.readouterr()
    assert "leave out --pixel-mm" in refused(
        capsys, tmp_path / "t.npz", "--image", slice_, "--pixel-mm", 1
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--phantom", "walnut", "--photons", 50, "--attenuation", 2], "more --photons"),
        (["--phantom", "walnut", "--beam", "fan"], "--source-origin-mm"),
        (["--phantom", "walnut", *FAN[:3], 5, *FAN[4:]], "outside of the image"),
        (["--phantom", "walnut", "--noise", -1], "negative"),
        (["--phantom", "walnut", "--arc", 0], "--arc"),
        (["--phantom", "walnut", "--views", 0], "--views"),
        (["--phantom", "walnut", "--size", 10**6], "larger than any detector"),
        (["--phantom", "walnut", "--finer", 0], "--finer"),
        (["--phantom", "walnut", "--seed", -1], "a seed from 0"),
        (["--phantom", "walnut", "--attenuation", 0], "--attenuation"),
        (["--phantom", "walnut", "--cor", 900], "cor is 900"),
        (["--phantom", "nut"], "walnut"),
        (["--image", "nothing.npy"], "does not exist"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path, capsys, arguments, words):
    small = [] if "--size" in arguments else ["--size", 12]
    assert words in refused(capsys, tmp_path / "s.npz", *small, *arguments)


def test_a_file_is_replaced_only_when_that_is_said_and_never_left_half(
    tmp_path, capsys, monkeypatch
):
    out = tmp_path / "s.npz"
    out.write_bytes(b"mine")
    given = ["--phantom", "walnut", *SMALL]
    assert simulated(out, *given) == 2 and out.read_bytes() == b"mine"
    assert "--overwrite" in capsys.readouterr().err

    def full(stream, entries):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pdip.commands.simulate.write_entries", full)
        assert simulated(out, *given, "--overwrite") == 1
    assert "No space left" in capsys.readouterr().err and out.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]
    assert simulated(out, *given, "--overwrite") == 0 and out.read_bytes()[:2] == b"PK"


def test_an_object_wider_than_the_detector_is_said_to_be(tmp_path, capsys):
    given = ["--phantom", "drilled_disc", "--size", 20, "--views", 4]  # 0.85 of 10 mm in radius
    for number, wide in (("12", True), ("19", False)):
        assert simulated(tmp_path / f"{number}.npz", *given, "--num-detectors", number) == 0
        assert ("truncated: " in capsys.readouterr().out) == wide


def test_info_describes_a_simulated_scan(tmp_path, capsys):
    out = tmp_path / "s.npz"
    assert simulated(out, "--phantom", "walnut", *SMALL, "--photons", 1e4) == 0
    assert cli.main(["info", str(out)]) == 0
    said = capsys.readouterr().out
    assert "counts, 6 views x 17 detector elements" in said and "walnut, seed 0" in said


@pytest.mark.slow
@pytest.mark.parametrize("noise", [["--noise", 0.02], ["--photons", 1e4]])
def test_a_simulated_scan_reconstructs_with_scores(tmp_path, capsys, noise):
    out = tmp_path / "s.npz"
    assert simulated(out, "--phantom", "shepp_logan", "--size", 16, "--views", 8, *noise) == 0
    quick = ["--dip.max_steps", "60", "--dip.restarts", "1", "--network.channels", "8"]
    run = ["reconstruct", "--sinogram", str(out), "--out", str(tmp_path / "run"), *quick]
    assert cli.main(run) == 0
    assert "psnr" in capsys.readouterr().out
    assert np.load(tmp_path / "run" / "std.npy").shape == (16, 16)
