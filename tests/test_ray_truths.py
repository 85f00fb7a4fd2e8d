"""Truths that fix every sign and unit of the ray transform and of filtered backprojection.

Line integrals of discs and ellipses are known in closed form: an ellipse with half axes a, b and
density mu gives ``2 mu a b sqrt(h² - d²) / h²`` with ``h² = (a cos φ)² + (b sin φ)²`` (φ the angle
of the ray's normal in the ellipse's axes) and d the distance of the ray from its centre
(Kak and Slaney 1988, equation 3.5).
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_ray import detector_centres_mm, ray_lines

from pdip.errors import InputError
from pdip.ray import fbp, ray_transform
from pdip.scan import FanBeam, ImageGrid, ParallelBeam

DATA = Path(__file__).parents[2] / "shared" / "data"
GRID = ImageGrid((72, 96), 0.5)
MU = 0.02  # 1/mm
ELLIPSE = {"centre": (8.0, -5.0), "axes": (9.0, 5.0), "tilt_rad": 0.4}
DISC = {"centre": (8.0, -5.0), "axes": (7.0, 7.0), "tilt_rad": 0.0}

VIEWS = np.array([4.0, 25.0, 85.0, 140.0, -30.0])
SCANS = {
    "parallel": ParallelBeam(VIEWS, 140, 0.5),
    "parallel shifted": ParallelBeam(VIEWS, 140, 0.5, 6.3),
    "fan": FanBeam(VIEWS, 150, 0.9, 90.0, 60.0),
    "fan shifted": FanBeam(VIEWS, 150, 0.9, 90.0, 60.0, -8.1),
}
FULL_TURN, HALF_TURN = np.arange(0, 360, 2.0), np.arange(0, 180, 2.0)
IRREGULAR = np.concatenate([np.arange(0, 60, 1.0), np.arange(60, 180, 3.0)])
FBP_SCANS = {
    "half turn": ParallelBeam(HALF_TURN, 140, 0.5, 6.3),
    "half turn, both ends": ParallelBeam(np.arange(0, 181, 2.0), 140, 0.5),
    "three quarter turn": ParallelBeam(np.arange(0, 270, 2.0), 140, 0.5, 6.3),
    "full turn backwards": ParallelBeam(FULL_TURN[::-1], 140, 0.5, -6.3),
    "irregular": ParallelBeam(IRREGULAR, 140, 0.5),
    "shuffled": ParallelBeam(np.random.default_rng(0).permutation(IRREGULAR), 140, 0.5),
    "fan full turn": FanBeam(FULL_TURN, 150, 0.9, 90.0, 60.0, -4.1),
    "fan irregular": FanBeam(np.concatenate([IRREGULAR, 180 + HALF_TURN]), 150, 0.9, 90.0, 60.0),
    "fan short scan": FanBeam(np.arange(0, 236, 2.0), 150, 0.9, 90.0, 60.0),
    "fan short scan backwards": FanBeam(-np.arange(20, 256, 2.0), 150, 0.9, 90.0, 60.0, 4.1),
    "fan three quarter turn": FanBeam(np.arange(0, 280, 2.0), 150, 0.9, 90.0, 60.0, -4.1),
    "fan at the axis": FanBeam(FULL_TURN, 150, 0.6, 90.0, 0.0, 2.0),
}


def ellipse_image(centre, axes, tilt_rad, grid=GRID, fine=8):
    """The ellipse as pixel averages over ``fine`` x ``fine`` points, 1/mm."""
    dense = ImageGrid((grid.shape[0] * fine, grid.shape[1] * fine), grid.pixel_mm / fine)
    x, y = dense.centres_mm()
    x, y = x[None, :] - centre[0], y[:, None] - centre[1]
    along = x * np.cos(tilt_rad) + y * np.sin(tilt_rad)
    across = y * np.cos(tilt_rad) - x * np.sin(tilt_rad)
    inside = (along / axes[0]) ** 2 + (across / axes[1]) ** 2 < 1
    return torch.from_numpy(MU * inside.reshape(grid.shape[0], fine, -1, fine).mean(axis=(1, 3)))


def ellipse_sinogram(geometry, centre, axes, tilt_rad):
    """Its line integrals in closed form, dimensionless."""
    point, direction = ray_lines(geometry, detector_centres_mm(geometry))
    normal = np.stack([direction[..., 1], -direction[..., 0]], axis=-1)
    distance = ((point - np.array(centre)) * normal).sum(axis=-1)
    angle = np.arctan2(normal[..., 1], normal[..., 0]) - tilt_rad
    squared = (axes[0] * np.cos(angle)) ** 2 + (axes[1] * np.sin(angle)) ** 2
    chord = 2 * axes[0] * axes[1] * np.sqrt(np.maximum(squared - distance**2, 0)) / squared
    return torch.from_numpy(MU * chord)


def relative(value, truth):
    return float(torch.linalg.vector_norm(value - truth) / torch.linalg.vector_norm(truth))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [DISC, ELLIPSE], ids=["disc", "ellipse"])
@pytest.mark.parametrize("projector", ["linear", "line"])
@pytest.mark.parametrize("name", SCANS)
def test_sinogram_is_the_closed_form(name, projector, shape):
    ray = ray_transform(SCANS[name], GRID, projector=projector, dtype=torch.float64)
    assert relative(ray(ellipse_image(**shape)), ellipse_sinogram(SCANS[name], **shape)) < 0.025


def test_strip_sinogram_is_the_closed_form():
    for geometry in (SCANS["parallel shifted"], SCANS["fan"]):
        ray = ray_transform(geometry, GRID, projector="strip", dtype=torch.float64)
        truth = ellipse_sinogram(geometry, **ELLIPSE)
        assert relative(ray(ellipse_image(**ELLIPSE)), truth) < 0.025


def test_a_point_projects_where_the_data_readme_says():
    """Detector axis u = (cos t, sin t), `cor` the index of the ray through the axis, row 0 on top.

    The matrix's column of one pixel has its centre of mass at the projection of the pixel centre.
    """
    image = torch.zeros(GRID.shape, dtype=torch.float64)
    image[10, 80] = 1.0
    x, y = (80 - 47.5) * 0.5, (35.5 - 10) * 0.5
    t = np.deg2rad(VIEWS)
    along, towards_source = x * np.cos(t) + y * np.sin(t), x * np.sin(t) - y * np.cos(t)
    for geometry, position in [
        (ParallelBeam(VIEWS, 1400, 0.05, 6.3), along),
        (FanBeam(VIEWS, 1500, 0.09, 90.0, 60.0, -8.1), along * 150 / (90 - towards_source)),
    ]:
        cor = (geometry.num_detectors - 1) / 2 - geometry.detector_shift_mm / (
            geometry.detector_pitch_mm
        )
        sinogram = ray_transform(geometry, GRID, dtype=torch.float64)(image).numpy()
        index = (sinogram * np.arange(geometry.num_detectors)).sum(1) / sinogram.sum(1)
        np.testing.assert_allclose(index, cor + position / geometry.detector_pitch_mm, atol=0.1)


@cache
def fbp_ray(name):
    return ray_transform(FBP_SCANS[name], GRID, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("filter", ["hann", "ramp"])
@pytest.mark.parametrize("name", FBP_SCANS)
def test_fbp_recovers_value_and_place_of_a_disc(name, filter):
    ray = fbp_ray(name)
    image = fbp(ray, ellipse_sinogram(FBP_SCANS[name], **DISC), filter=filter)
    inner = ellipse_image((8.0, -5.0), (5.0, 5.0), 0.0) == MU
    outer = ellipse_image((8.0, -5.0), (9.0, 9.0), 0.0) == 0
    assert image[inner].mean() == pytest.approx(MU, rel=2e-3)
    assert image[inner].std() < 0.01 * MU
    assert image[outer].mean().abs() < 0.005 * MU
    assert image[outer].std() < 0.06 * MU
    x, y = (torch.from_numpy(v) for v in GRID.centres_mm())
    mass = image.where(~outer, 0)
    assert float((mass * x).sum() / mass.sum()) == pytest.approx(8.0, abs=0.03)
    assert float((mass * y[:, None]).sum() / mass.sum()) == pytest.approx(-5.0, abs=0.03)


def test_fbp_takes_batches_precisions_and_gradients():
    geometry = FBP_SCANS["fan full turn"]
    ray = fbp_ray("fan full turn")
    sinogram = ellipse_sinogram(geometry, **DISC)
    batch = torch.stack([sinogram, 2 * sinogram])[:, None]
    double = fbp(ray, batch)
    assert double.shape == (2, 1, *GRID.shape) and double.dtype == torch.float64
    assert torch.allclose(double[1, 0], 2 * fbp(ray, sinogram), rtol=1e-12, atol=1e-15)
    single = fbp(ray, batch.float().requires_grad_())
    assert single.dtype == torch.float32 and single.requires_grad
    assert relative(single.detach().double(), double) < 1e-5


def test_fbp_of_a_short_arc_is_low_but_not_scaled_up():
    """Sixty degrees cannot give the value back; the missing wedge must not weigh on the ends."""
    geometry = ParallelBeam(np.arange(0, 60, 1.0), 140, 0.5)
    ray = ray_transform(geometry, GRID, dtype=torch.float64)
    image = fbp(ray, ellipse_sinogram(geometry, **DISC))
    assert 0.2 * MU < image[46, 63] < 0.6 * MU


def test_fbp_passes_over_views_without_weight():
    geometry = FBP_SCANS["fan full turn"]
    sinogram, weights = ellipse_sinogram(geometry, **DISC), torch.ones(geometry.num_views, 1)
    weights[::4] = 0
    kept = [view for view in range(geometry.num_views) if view % 4]
    others = ray_transform(geometry.select(kept), GRID, dtype=torch.float64)
    weighted = fbp(fbp_ray("fan full turn"), sinogram, weights=weights.expand(sinogram.shape))
    assert torch.equal(weighted, fbp(others, sinogram[kept]))


def test_fbp_refuses_what_does_not_fit():
    ray = ray_transform(SCANS["fan"], GRID)
    with pytest.raises(InputError, match="positive weight"):
        fbp(ray, torch.zeros(ray.range_shape), weights=torch.zeros(ray.range_shape))
    with pytest.raises(InputError, match="filter 'cosine' is unknown"):
        fbp(ray, torch.zeros(5, 150), filter="cosine")
    with pytest.raises(InputError, match="5 views of 150 detectors"):
        fbp(ray, torch.zeros(150, 5))


REAL_SCANS = {
    "lotus/lotus_small.npz": 0.02,
    "htc2022/ta_small.npz": 0.02,
    "tooth/tooth_row0_small.npz": 0.03,
}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"real scans not found at {DATA}")
@pytest.mark.parametrize(("name", "units"), REAL_SCANS.items())
def test_fbp_of_a_real_full_scan_is_its_reference(name, units):
    """Same orientation (correlation) and same unit (slope) as an FBP made by other software."""
    with np.load(DATA / name) as file:
        scan = dict(file)
    sinogram, pitch = torch.from_numpy(scan["sinogram"]), float(scan["det_pixel_mm"])
    shift = ((sinogram.shape[1] - 1) / 2 - float(scan["cor"])) * pitch
    angles, reference = np.rad2deg(scan["angles"]), scan["reference"]
    if str(scan["geometry"]) == "fanflat":
        distances = float(scan["source_origin_mm"]), float(scan["origin_detector_mm"])
        geometry = FanBeam(angles, sinogram.shape[1], pitch, *distances, shift)
    else:
        geometry = ParallelBeam(angles, sinogram.shape[1], pitch, shift)
    grid = ImageGrid(reference.shape, float(scan["ref_pixel_mm"]))
    image = fbp(ray_transform(geometry, grid), sinogram, filter="ramp").numpy()
    x, y = grid.centres_mm()
    seen = x[None, :] ** 2 + y[:, None] ** 2 < (0.45 * x[-1] * 2) ** 2
    image, reference = image[seen], reference[seen]
    assert np.corrcoef(image, reference)[0, 1] > 0.99
    assert (image @ reference) / (reference @ reference) == pytest.approx(1, abs=units)
