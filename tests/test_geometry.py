"""Geometry: signs, units and shapes of parallel and fan beams, and of the image grid."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pdip.errors import InputError
from pdip.scan import FanBeam, ImageGrid, ParallelBeam, geometry_from_dict

LOTUS = FanBeam.from_cor(np.arange(0, 360, 12.0), 140, 0.8, 540.0, 90.0, cor=69.135)
BEAMS = [
    ParallelBeam([0.0, 30.0, -80.0], 7, 0.5, 0.2),
    FanBeam([10.0, 200.0], 9, 1.5, 40.0, 25.0, -0.7),
    LOTUS,
]


def line_of_points(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Signed distance from the origin and direction of the normal of the line through 2 points."""
    along = (second - first) / np.linalg.norm(second - first)
    normal = np.array([along[1], -along[0]])
    return float(first @ normal), float(np.arctan2(normal[1], normal[0]))


@pytest.mark.parametrize("shift", [0.0, 0.3, -1.1])
@pytest.mark.parametrize("turn_deg", [0.0, 35.0, 90.0, -200.0])
def test_parallel_ray_lines_follow_the_vectors_of_the_convention(turn_deg, shift):
    beam = ParallelBeam([turn_deg], 5, 0.7, shift)
    t = np.deg2rad(turn_deg)
    u, ray = np.array([np.cos(t), np.sin(t)]), np.array([np.sin(t), -np.cos(t)])
    angle, offset = beam.ray_lines()
    for i in range(5):
        point = ((i - 2) * 0.7 + shift) * u
        s, normal = line_of_points(point + ray, point)
        assert s == pytest.approx(offset[0, i], abs=1e-12)
        assert np.exp(1j * normal) == pytest.approx(np.exp(1j * angle[0, i]))


@pytest.mark.parametrize("shift", [0.0, 2.5, -4.0])
@pytest.mark.parametrize("turn_deg", [0.0, 35.0, 90.0, -200.0])
def test_fan_ray_lines_run_from_the_source_to_the_detector_element(turn_deg, shift):
    beam = FanBeam([turn_deg], 5, 3.0, 40.0, 25.0, shift)
    t = np.deg2rad(turn_deg)
    u = np.array([np.cos(t), np.sin(t)])
    source = 40.0 * np.array([np.sin(t), -np.cos(t)])
    middle = 25.0 * np.array([-np.sin(t), np.cos(t)]) + shift * u
    angle, offset = beam.ray_lines()
    for i in range(5):
        s, normal = line_of_points(source, middle + (i - 2) * 3.0 * u)
        assert s == pytest.approx(offset[0, i], abs=1e-12)
        assert np.exp(1j * normal) == pytest.approx(np.exp(1j * angle[0, i]))


def test_positive_shift_means_the_axis_ray_hits_a_lower_index():
    beam = ParallelBeam([0.0], 11, 0.5, detector_shift_mm=1.0)
    assert beam.cor == 3.0
    assert beam.detector_mm[3] == 0.0


@given(cor=st.floats(1.0, 8.0), pitch=st.floats(0.01, 5.0))
def test_from_cor_gives_the_cor_back_and_the_shift_of_the_definition(cor, pitch):
    for beam in (
        ParallelBeam.from_cor([0.0], 10, pitch, cor=cor),
        FanBeam.from_cor([0.0], 10, pitch, 100.0, 50.0, cor=cor),
    ):
        assert beam.cor == pytest.approx(cor)
        assert beam.detector_shift_mm == pytest.approx((4.5 - cor) * pitch)


@pytest.mark.parametrize("angles", [[0, 45, 90], (0.0, 45.0, 90.0), np.array([0, 45, 90.0])])
def test_angles_of_any_sequence_become_float64_radians(angles):
    beam = ParallelBeam(angles, 3)
    assert beam.angles_rad.dtype == np.float64
    np.testing.assert_allclose(beam.angles_rad, [0, np.pi / 4, np.pi / 2], rtol=1e-15)
    assert beam == ParallelBeam(torch.tensor([0.0, 45.0, 90.0]), 3)


@pytest.mark.parametrize("beam", BEAMS)
def test_saved_geometry_comes_back_equal(beam):
    assert geometry_from_dict(beam.to_dict()) == beam


@pytest.mark.parametrize("beam", BEAMS)
def test_selected_views_keep_everything_but_the_angles(beam):
    chosen = beam.select([1, 0])
    assert type(chosen) is type(beam)
    assert chosen.angles_deg == (beam.angles_deg[1], beam.angles_deg[0])
    assert chosen.cor == beam.cor and chosen.shape == (2, beam.num_detectors)


@pytest.mark.parametrize("bad", [[], [5], [-1], [0.5], [True]])
def test_selecting_no_view_or_one_that_does_not_exist_is_refused(bad):
    with pytest.raises(InputError, match="view"):
        ParallelBeam([0.0, 90.0], 3).select(bad)


@pytest.mark.parametrize("beam", BEAMS)
def test_every_view_sees_all_of_the_inscribed_grid(beam):
    half = beam.inscribed_grid().size_mm[0] / 2
    corner = np.hypot(half, half)
    near, far = (beam.distance_from_axis_mm(u) for u in (beam.detector_mm[0], beam.detector_mm[-1]))
    half_element = 0.5 * beam.detector_pitch_mm
    assert corner <= min(near, far) + half_element
    assert corner >= min(near, far) - half_element


@pytest.mark.parametrize("beam", BEAMS)
def test_no_ray_misses_the_covering_grid(beam):
    half = beam.covering_grid().size_mm[0] / 2
    assert np.abs(beam.ray_lines()[1]).max() <= half


def test_inscribed_grid_of_the_kmnist_detector_is_28_pixels_of_1_mm():
    beam = ParallelBeam([0.0, 90.0], 41, 28 * np.sqrt(2) / 41)
    grid = beam.inscribed_grid()
    assert grid.shape == (28, 28) and grid.pixel_mm == pytest.approx(1.0)


def test_image_size_keeps_the_side_of_the_inscribed_grid():
    assert LOTUS.inscribed_grid(64).size_mm == pytest.approx(LOTUS.inscribed_grid().size_mm)
    assert LOTUS.inscribed_grid(64).shape == (64, 64)


def test_row_zero_has_the_largest_y_and_column_zero_the_smallest_x():
    x, y = ImageGrid((2, 3), 0.5).centres_mm()
    assert x.tolist() == [-0.5, 0.0, 0.5] and y.tolist() == [0.25, -0.25]


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda: ParallelBeam([], 3), "empty"),
        (lambda: ParallelBeam([0.0, float("nan")], 3), "finite"),
        (lambda: ParallelBeam("0 1 2", 3), "list of numbers"),
        (lambda: ParallelBeam([0.0, 1e9], 3), "degrees"),
        (lambda: ParallelBeam(np.zeros((2, 2)), 3), "one row"),
        (lambda: ParallelBeam([0.0], 0), "positive whole number"),
        (lambda: ParallelBeam([0.0], 2.5), "positive whole number"),
        (lambda: ParallelBeam([0.0], 3, 0.0), "positive"),
        (lambda: ParallelBeam([0.0], 3, -1.0), "positive"),
        (lambda: ParallelBeam([0.0], 3, "1 mm"), "number"),
        (lambda: ParallelBeam([0.0], 100, 1e-7), "mm"),
        (lambda: ParallelBeam([0.0], 100, 200.0), "mm"),
        (lambda: ParallelBeam([0.0], 3, 1.0, 2.0), "must hit the detector"),
        (lambda: ParallelBeam.from_cor([0.0], 3, cor=7.0), "cor is 7"),
        (lambda: FanBeam([0.0], 560, 0.2, 0.54, 0.09), "fan of"),
        (lambda: FanBeam([0.0], 560, 0.0002, 540.0, 90.0), "fan of"),
        (lambda: FanBeam([0.0], 560, 0.2, -540.0, 90.0), "positive"),
        (lambda: FanBeam([0.0], 560, 0.2, 540.0, -90.0), "negative"),
        (lambda: ImageGrid((0, 4)), "positive"),
        (lambda: ImageGrid((4, 4), 0.0), "positive"),
        (lambda: ImageGrid((4,)), "height, width"),
        (lambda: ImageGrid((10**6, 10**6)), "larger than any detector"),
        (lambda: geometry_from_dict({"geometry": "parallel"}), "angles_deg"),
        (lambda: geometry_from_dict({**BEAMS[0].to_dict(), "geometry": "cone"}), "cone"),
    ],
)
def test_impossible_sizes_and_units_are_refused_in_one_sentence(build, said):
    with pytest.raises(InputError, match=said) as error:
        build()
    assert "\n" not in str(error.value)
