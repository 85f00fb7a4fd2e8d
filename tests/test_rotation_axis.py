"""The rotation axis is found from the scan within its standard error, in both beams."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pdip import report
from pdip.errors import InputError
from pdip.ray import ray_transform
from pdip.scan import (
    FanBeam,
    ParallelBeam,
    estimate_rotation_axis,
    read_scan,
    read_stack,
    rectangles,
    simulate,
    walnut,
)

DATA = Path(__file__).parents[2] / "shared" / "data"


def simulated(beam, seed=0, make=walnut, **noise):
    """A scan of a random object."""
    generator = torch.Generator().manual_seed(seed)
    ray = ray_transform(beam, beam.inscribed_grid())
    image = make(ray.grid, generator)
    return simulate(image, ray, **(noise or {"noise_fraction": 0.03}), generator=generator)


def parallel(views, shift, detectors=72, arc=180.0):
    return ParallelBeam([arc * view / views for view in range(views)], detectors, 1.0, shift)


def fan(views, shift, detectors=72):
    angles = [360.0 * view / views for view in range(views)]
    return FanBeam(angles, detectors, 1.0, 200.0, 60.0, shift)


def as_npz(path, scan, **keys):
    """The scan as a file without its axis."""
    own = {k: v for k, v in scan.geometry.to_dict().items() if k != "detector_shift_mm"}
    np.savez(path, sinogram=scan.sinogram.numpy(), **own, **keys)
    return path


@pytest.mark.slow
def test_axis_of_a_half_turn_is_found():
    scan = simulated(parallel(30, 3.3))
    found = estimate_rotation_axis(scan)
    assert abs(found.cor - scan.geometry.cor) < 0.3 and found.standard_error < 0.3
    assert found.centred == 35.5 and found.tried[int(np.argmin(found.errors))] < 34


@pytest.mark.slow
@pytest.mark.parametrize("beam", [parallel, fan])
def test_standard_errors_of_axes_are_about_right(beam):
    z = []
    for seed in range(6):
        shift = 12 * float(np.random.default_rng(seed).random()) - 6
        scan = simulated(beam((14, 24, 45)[seed % 3], shift), seed, (walnut, rectangles)[seed % 2])
        found = estimate_rotation_axis(scan)
        assert scan.geometry.num_views < 24 or abs(found.cor - scan.geometry.cor) < 0.2
        z.append((found.cor - scan.geometry.cor) / found.standard_error)
    assert np.sqrt(np.mean(np.square(z))) < 2.0 and np.median(np.abs(z)) > 0.1


@pytest.mark.slow
def test_masked_rays_do_not_move_the_axis():
    scan = simulated(parallel(30, -2.6))
    spoilt, weights = scan.sinogram.clone(), torch.ones_like(scan.sinogram)
    spoilt[:, 20:24], weights[:, 20:24] = 9.0, 0.0
    found = estimate_rotation_axis(replace(scan, sinogram=spoilt, weights=weights))
    assert abs(found.cor - scan.geometry.cor) < 0.3


@pytest.mark.slow
def test_auto_puts_the_estimate_into_the_geometry_and_says_so(tmp_path):
    scan = simulated(parallel(24, 3.3))
    path = as_npz(tmp_path / "scan.npz", scan)
    found = read_scan(path, cor="auto")
    assert abs(found.geometry.cor - scan.geometry.cor) < 0.4
    assert found.rotation_axis.cor == pytest.approx(found.geometry.cor)
    assert found.rotation_axis.sentence in found.assumptions
    assert not any("taken to project" in sentence for sentence in found.assumptions)
    given = read_scan(path, cor=30.0)
    assert given.geometry.cor == pytest.approx(30.0) and given.rotation_axis is None
    figure = report.draw_rotation_axis(found.rotation_axis)
    titles = [axis.get_title() for axis in figure.axes]
    assert (
        "before: cor 35.5, the middle" in titles
        and f"after: cor {found.geometry.cor:.2f}" in titles
    )


@pytest.mark.slow
def test_a_stack_has_the_axis_of_its_middle_slice(tmp_path):
    scan = simulated(parallel(24, 3.3))
    keys = {k: v for k, v in scan.geometry.to_dict().items() if k != "detector_shift_mm"}
    sinogram = torch.stack([torch.zeros_like(scan.sinogram), scan.sinogram, 0 * scan.sinogram])
    np.savez(tmp_path / "stack.npz", sinogram=sinogram.numpy(), cor="auto", **keys)
    stack = read_stack(tmp_path / "stack.npz")
    assert abs(stack.geometry.cor - scan.geometry.cor) < 0.4
    assert stack.rotation_axis.cor == pytest.approx(stack.geometry.cor)
    assert stack.rotation_axis.sentence in stack.assumptions


def test_what_has_no_axis_to_find_is_refused(tmp_path):
    np.savez(tmp_path / "scan.npz", sinogram=np.eye(9), cor="soon")
    with pytest.raises(InputError, match="a detector index or auto, got 'soon'"):
        read_scan(tmp_path / "scan.npz")
    with pytest.raises(InputError, match="from 6 views, expected at least 8; give cor"):
        estimate_rotation_axis(simulated(parallel(6, 0.0)))


@pytest.mark.slow
def test_an_axis_far_off_the_middle_is_refused():
    with pytest.raises(InputError, match="not found within 15%"):
        estimate_rotation_axis(simulated(parallel(24, 16.0)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, step, within",
    [
        ("tooth/tooth_row0_slice.npz", 1, 0.3),
        ("tooth/tooth_row0_slice.npz", 3, 0.5),
        ("tooth/tooth_row0_small.npz", 1, 0.15),
        ("lotus/lotus_slice.npz", 3, 0.3),
        ("htc2022/ta_slice.npz", 6, 0.3),
        ("pet_transmission/pet_trans_slice.npz", 1, 0.6),
    ],
)
def test_axes_of_measured_scans_are_the_known_ones(name, step, within):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    scan = read_scan(path, data_kind="counts" if "pet" in name else None).every(step)
    found = estimate_rotation_axis(scan)
    assert abs(found.cor - scan.geometry.cor) < within
    assert found.standard_error < within
