"""A scan that is read as it should be is left in peace; each mistake in reading it is named."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_rotation_axis import as_npz, fan, parallel, simulated

from pdip.scan import FanBeam, ParallelBeam, Scan, check_reading, read_scan, rectangles, walnut
from pdip.scan.arc_gap import missing_arc
from pdip.scan.binning import file_index, joined_index
from pdip.scan.odd_elements import odd_elements
from pdip.scan.open_beam import open_beam_drift
from pdip.scan.view_fit import at_cor

DATA = Path(__file__).parents[2] / "shared" / "data"
SAMPLES = (
    ("tooth/tooth_row0_slice.npz", 1), ("tooth/tooth_row0_small.npz", 9),
    ("lotus/lotus_slice.npz", 3), ("lotus/lotus_small.npz", 30), ("htc2022/ta_slice.npz", 1),
    ("htc2022/ta_small.npz", 6), ("pet_transmission/pet_trans_slice.npz", 1),
    *((f"kmnist/cases/k{views}_{number}.npz", 1) for views in (5, 20) for number in range(4)),
)  # fmt: skip


COUNTED = " (of the elements as they are in the file)"


def flipped(scan):
    return replace(scan, sinogram=scan.sinogram.flip(1))


def turned(scan, factor):
    angles = tuple(factor * angle for angle in scan.geometry.angles_deg)
    return replace(scan, geometry=replace(scan.geometry, angles_deg=angles))


def transposed(scan, arc):
    """Rows and columns exchanged, with as many angles as there then are rows."""
    views, detectors = scan.geometry.shape
    angles = [arc * view / detectors for view in range(detectors)]
    beam = replace(
        scan.geometry, angles_deg=angles, num_detectors=views, detector_shift_mm=0.0,
        detector_pitch_mm=scan.geometry.detector_pitch_mm * detectors / views,
    )  # fmt: skip
    return Scan(scan.sinogram.T.contiguous(), beam, beam.covering_grid())


def said(scan):
    found = check_reading(scan)
    assert len(found) <= 1
    return found[0] if found else ""


def found_axis(told, given, counted=""):
    """The place that is named for the axis, in place of the one given."""
    assert f"and not at {given:.6g}{counted}; give --cor " in told, told
    place = told.split("the rotation axis is at ")[1].split()[0]
    assert f"give --cor {place}" in told
    return float(place)


@pytest.mark.slow
def test_a_right_reading_is_left_in_peace():
    assert said(simulated(parallel(40, 2.0))) == ""
    assert said(simulated(fan(60, 0.0))) == ""


@pytest.mark.slow
def test_a_wrong_arc_is_named_with_the_step_that_would_be_right():
    told = said(turned(simulated(parallel(40, 2.0)), 2.0))
    assert told.startswith("WARNING") and "the views span 180 degrees, not 360" in told
    assert "step_deg: 4.5" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beam", "elements"),
    [
        (parallel(40, 2.0), 18),
        (fan(60, 0.0), 18),
        pytest.param(fan(60, 0.0), -18, marks=pytest.mark.slow),
    ],
)
def test_an_axis_a_quarter_of_the_detector_away_is_named(beam, elements):
    """Nearer to the end of the detector than that, half a turn contradicts nothing."""
    scan = simulated(beam)
    shift = scan.geometry.detector_shift_mm - elements * scan.geometry.detector_pitch_mm
    wrong = replace(scan, geometry=replace(scan.geometry, detector_shift_mm=shift))
    told = said(wrong)
    if "axis is counted from the detector's other end" not in told:
        assert abs(found_axis(told, wrong.geometry.cor) - scan.geometry.cor) < 0.1


def test_exchanged_axes_are_named():
    assert "transpose the sinogram" in said(transposed(simulated(parallel(40, 0.0)), 180))


@pytest.mark.slow
def test_other_mistakes_are_named():
    shifted = simulated(parallel(40, 6.0))
    assert "counted from the detector's other end" in said(flipped(shifted))
    astray = replace(shifted, geometry=replace(shifted.geometry, detector_shift_mm=0.0))
    assert "--cor auto" in said(astray)
    turning = simulated(fan(90, 0.0), make=rectangles)
    assert "rotation runs the other way" in said(turned(turning, -1.0))
    assert "or the detector is flipped" in said(flipped(turning))
    apart = simulated(fan(90, 5.0), make=rectangles)
    assert "if the rotation runs the other way; negate" in said(turned(apart, -1.0))
    assert "if the detector is flipped; reverse" in said(flipped(apart))
    degrees = turned(simulated(parallel(25, 0.0, arc=720.0)), np.pi / 180)  # 12 in place of 691
    assert "the angles are in radians" in said(degrees)


@pytest.mark.slow
def test_simulated_scans_are_left_in_peace():
    for seed in range(12):
        views, noise = (9, 16, 30, 60, 100)[seed % 5], (0.01, 0.1, 0.3)[seed % 3]
        beams = (
            parallel(views, 3.0), parallel(views, 0.0, arc=(60.0, 120.0)[seed % 2]),
            parallel(views, -2.0, arc=360.0), fan(views, 1.5),
        )  # fmt: skip
        scan = simulated(
            beams[seed % 4], seed, (walnut, rectangles)[seed % 2], noise_fraction=noise
        )
        told, short = said(scan), seed % 4 == 1
        assert ("no view was taken from" in told) if short else told == "", (seed, told)


def test_views_of_weight_zero_leave_out_their_arc():
    angles, weights = list(range(0, 180, 2)), torch.ones(90, 5)
    assert missing_arc(angles) is None and missing_arc(angles, weights) is None
    weights[40:] = 0
    assert missing_arc(angles, weights) == (78.0, 102.0)


@pytest.mark.slow
def test_the_axis_of_a_short_arc_is_not_judged():
    """Another axis explains this right scan better, with the object elsewhere."""
    angles = tuple(np.linspace(0.0, 120.0, 100))
    scan = simulated(replace(fan(100, -3.0), angles_deg=angles), 9, rectangles, noise_fraction=0.01)
    assert said(scan).startswith("WARNING: no view was taken from 60 of 180 degrees")


@pytest.mark.slow
@pytest.mark.parametrize("name, step", SAMPLES)
def test_measured_scans_are_left_in_peace_and_mistakes_in_them_named(name, step):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    scan = read_scan(path).every(step)
    assert said(scan) == ""
    if scan.geometry.num_views < 20:
        return
    if isinstance(scan.geometry, FanBeam):
        assert said(flipped(scan)) and said(turned(scan, -1.0))
        assert "transpose the sinogram" in said(transposed(scan, 360.0))
    elif scan.geometry.num_views > 40:
        assert "the views span 180 degrees" in said(turned(scan, 2.0))


def repeated(scan, count, shift):
    """The last views of the scan with the angles of those ``shift`` before, two turns later."""
    angles = np.array(scan.geometry.angles_deg)
    angles[-count:] = angles[-count - shift : len(angles) - shift] + 720.0
    return replace(scan, geometry=replace(scan.geometry, angles_deg=tuple(angles)))


def test_views_of_one_angle_that_contradict_each_other_are_named():
    twice = said(repeated(simulated(parallel(60, 0.0)), 30, 30)).split()
    assert " ".join(twice[:8]) == "WARNING: 30 views have the angle of another"
    assert 25 < int(twice[twice.index("differ") - 1]) <= 30
    once = said(repeated(simulated(fan(60, 0.0)), 1, 15))
    assert "1 view has the angle of another view, but 1 differs from it by" in once


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_views_that_are_measured_twice_are_left_in_peace(noise):
    """Two full turns, each with its noise and intensity."""
    beam = replace(fan(60, 0.0), angles_deg=tuple(12.0 * view for view in range(60)))
    scan = simulated(beam, noise_fraction=noise)
    drift = torch.linspace(0.98, 1.02, 60)[:, None]
    assert said(replace(scan, sinogram=drift * scan.sinogram)) == ""


@pytest.mark.slow
def test_few_views_are_not_judged():
    few = simulated(fan(15, 0.0))
    assert said(replace(few, geometry=at_cor(few.geometry, 20.0))) == ""
    still = said(replace(few, geometry=replace(few.geometry, angles_deg=(0.0,) * 15)))
    assert "from 180 of 180 degrees" in still
    more = simulated(fan(16, 0.0))
    assert said(replace(more, geometry=at_cor(more.geometry, 20.0))) != ""


@pytest.mark.slow
@pytest.mark.parametrize("beam", [parallel(60, 0.5, 70), fan(60, 0.5, 70)])
def test_an_axis_two_elements_away_is_named_with_its_place(beam):
    """And no arc or sense, though these explain such a scan better than it is read, too."""
    scan = simulated(beam, noise_fraction=0.02)
    told = said(replace(scan, geometry=at_cor(beam, 36.0)))
    assert abs(found_axis(told, 36.0) - 34.0) < 0.1 and told.endswith(" or --cor auto.")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, step, binning, right, given",
    [
        ("lotus/lotus.mat", 6, 32, 34.3, (20, 36.5)),
        ("htc2022/ta_full_a_1.mat", 6, 8, 34.5, (32.5, 50)),
        ("tooth/tooth_row0_slice.npz", 1, 1, 295.8, (270, 302)),
    ],
)
def test_wrong_axes_of_measured_scans_are_named(name, step, binning, right, given):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    scan = read_scan(path, binning=binning).every(step)
    for cor in given:
        told = said(replace(scan, geometry=at_cor(scan.geometry, cor)))
        counted = COUNTED if binning > 1 else ""
        found = found_axis(told, file_index(cor, binning), counted)
        assert abs(joined_index(found, binning) - right) < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("beam, binning", [(parallel(40, 3.0, 144), 4), (fan(60, -4.0, 144), 2)])
def test_the_axis_that_is_named_is_right_whatever_the_binning(tmp_path, beam, binning):
    scan = simulated(beam, noise_fraction=0.02)
    path = as_npz(tmp_path / "scan.npz", scan, cor=beam.cor + 14)
    read = read_scan(path, binning=binning)
    told = said(read)
    assert f"and not at {beam.cor + 14:g}{COUNTED}; give --cor " in told
    within = 0.3 * binning  # 0.3 of the elements as they are read
    cor = float(told.split("give --cor ")[1].split()[0].rstrip("."))
    assert abs(cor - beam.cor) < within
    for joined in (1, binning):
        again = read_scan(path, binning=joined, cor=cor)
        assert said(again) == ""
        middle = (again.geometry.num_detectors - 1) / 2
        shift = (middle - again.geometry.cor) * again.geometry.detector_pitch_mm
        assert abs(shift - beam.detector_shift_mm) < within
    found = read_scan(path, binning=binning, cor="auto").rotation_axis
    assert abs(found.cor - beam.cor) < within and found.centred == 71.5
    assert f"{COUNTED} +- " in found.sentence


@pytest.mark.slow
def test_an_axis_counted_from_the_other_end_is_named_in_elements_of_the_file(tmp_path):
    beam = parallel(40, 8.0, 144)
    path = as_npz(tmp_path / "scan.npz", simulated(beam), cor=143 - beam.cor)
    told = said(read_scan(path, binning=2))
    assert f"give --cor {beam.cor:g} (of the elements" in told


def spoilt(scan, views, add):
    """With the intensity of some views changed, or with nothing but air in them."""
    sinogram = scan.sinogram.clone()
    sinogram[views] = 0.0 if add is None else sinogram[views] + add
    return replace(scan, sinogram=sinogram)


@pytest.mark.slow
@pytest.mark.parametrize(
    "beam, views, add",
    [(parallel(45, 2.0), [17], None), (fan(60, 2.0), [0, 1, 40], math.log(2.0))],
)
def test_spoilt_views_are_named_and_do_not_hide_the_axis(beam, views, add):
    scan = spoilt(simulated(beam), views, add)
    (odd,) = check_reading(scan)
    named = [int(word.split(" (")[0]) for word in odd.split("fit")[0].split("view")[1].strip("s ")
             .split(", ")[: len(views)]]  # fmt: skip
    assert named == views and odd.startswith("WARNING: view")
    wrong = replace(scan, geometry=at_cor(beam, beam.cor + 3))
    again, axis = check_reading(wrong)
    assert again == odd and abs(found_axis(axis, beam.cor + 3) - beam.cor) < 0.2


@pytest.mark.slow
def test_a_spoilt_view_of_weight_0_is_left_in_peace():
    scan = spoilt(simulated(parallel(45, 2.0)), [17], None)
    weights = torch.ones_like(scan.sinogram)
    weights[17] = 0
    assert said(replace(scan, weights=weights)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("element, add", [(20, 1.5), (60, -1.5)])
def test_a_hot_or_dead_element_is_named_unless_it_has_no_weight(element, add):
    scan = simulated(parallel(45, 2.0), noise_fraction=0.05)
    level = scan.sinogram.mean()
    scan.sinogram[:, element] += add * level * (1 + 0.3 * torch.rand(45))
    told = said(scan)
    assert told.startswith(f"WARNING: detector element {element}, counted from 0")
    assert "key 'weights', or try --scan.rings" in told
    weights = torch.ones_like(scan.sinogram)
    weights[:, element] = 0
    assert said(replace(scan, weights=weights)) == ""


@pytest.mark.parametrize("place", [12, 20, 30, 36, 60])
def test_elements_beside_one_of_weight_0_are_left_in_peace(place):
    scan = simulated(parallel(60, 0.0))
    weights = torch.ones_like(scan.sinogram)
    weights[:, place] = 0
    scan.sinogram[:, place] = 0
    assert odd_elements(replace(scan, weights=weights)) == []


@pytest.mark.slow
def test_elements_that_are_spoilt_do_not_hide_the_axis():
    beam = parallel(45, 2.0)
    scan = simulated(beam)
    scan.sinogram[:, [30, 31]] += 2 * scan.sinogram.mean()
    wrong = replace(scan, geometry=at_cor(beam, beam.cor + 3))
    odd, axis = check_reading(wrong)
    assert "elements 30, 31, counted from 0 as they are read" in odd
    assert abs(found_axis(axis, beam.cor + 3) - beam.cor) < 0.2


@pytest.mark.parametrize("views", [4, 45])
def test_a_detail_that_wanders_is_no_spoilt_element(views):
    beam = parallel(views, 0.0)
    scan = simulated(beam)
    place = torch.arange(beam.num_detectors) - beam.cor
    for angle, view in zip(beam.angles_rad, scan.sinogram, strict=True):
        view += 3 * scan.sinogram.mean() * ((place - 25 * math.cos(angle)).abs() < 1)
    assert odd_elements(scan) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("angles", "gap", "ends"),
    [((0.0, 9.0), "171", "9 and 180"), (range(30, 130, 4), "84", "126 and 210"),
     ((0.0, 40.0, 220.0, 340.0), "120", "40 and 160"), (range(0, 180, 60), None, None),
     (range(0, 120, 10), "70", "110 and 180"), (range(0, 360, 8), None, None),
     (range(0, 360, 48), None, None),
     ((0, 111.25, 222.5, 333.75, 445.0), None, None)],
)  # fmt: skip
def test_directions_without_views_are_named(angles, gap, ends):
    beam = replace(parallel(2, 0.0), angles_deg=tuple(float(angle) for angle in angles))
    found = check_reading(simulated(beam))
    told = f"from {gap} of 180 degrees (between {ends}, modulo 180)"
    assert found == () if gap is None else told in found[0]


def test_few_angles_within_a_turn_in_radians_are_asked_about():
    beam = parallel(9, 0.0)
    scan = simulated(beam)
    (told,) = check_reading(turned(scan, np.pi / 180))
    assert "if they are in radians, give them with the key 'angles'" in told
    narrow = replace(beam, angles_deg=(0.0, 9.0))
    assert "radians" not in check_reading(simulated(narrow))[0]


def test_exchanged_axes_are_no_spoilt_views():
    (told,) = check_reading(transposed(simulated(parallel(40, 0.0), make=rectangles), 180))
    assert "transpose the sinogram" in told


@pytest.mark.slow
@pytest.mark.parametrize("beam, factor", [(parallel(45, 2.0), 1.2), (fan(60, 0.0), 0.8)])
def test_a_drift_of_the_open_beam_is_named_with_its_air_columns(tmp_path, beam, factor):
    scan = simulated(beam, noise_fraction=0.02)
    scan = replace(scan, sinogram=scan.sinogram * (2 / scan.sinogram.max()))
    rate = torch.linspace(1.0, factor, beam.num_views)[:, None]
    drifting = scan.sinogram - rate.log()
    (told,) = check_reading(replace(scan, sinogram=drifting))
    part, columns = (int(told.split(before)[1].split(end)[0]) for before, end in (
        ("drifts by ", "%"), ("air_columns ", "."),
    ))  # fmt: skip
    assert abs(part - 20) <= 2
    seen = scan.sinogram.mean(0) > 0.05 * scan.sinogram.mean()  # the object's shadow
    assert 3 <= columns <= min(int(seen.int().argmax()), int(seen.flip(0).int().argmax())) + 1
    path = as_npz(tmp_path / "scan.npz", replace(scan, sinogram=drifting), cor=beam.cor)
    assert said(read_scan(path, air_columns=columns)) == ""


def test_an_object_beyond_the_detector_is_no_drift():
    scan = simulated(parallel(60, 0.0), make=rectangles, noise_fraction=0.01)
    for cut in (8, 16, 24):
        beam = replace(scan.geometry, num_detectors=72 - 2 * cut)
        inner = scan.sinogram[:, cut:-cut].contiguous()
        assert open_beam_drift(Scan(inner, beam, beam.covering_grid())) is None


def test_one_view_is_warned_of():
    assert said(simulated(parallel(45, 2.0)).every(100)).startswith("WARNING: 1 view: ")


@pytest.mark.slow
def test_noise_hides_mistakes_and_nothing_is_said():
    beam = parallel(20, 0.0)
    noise = torch.randn(beam.shape, generator=torch.Generator().manual_seed(0)) + 1
    assert said(Scan(noise, ParallelBeam(beam.angles_deg, 72), beam.inscribed_grid())) == ""


def test_counts_and_transmissions_taken_for_line_integrals_are_named():
    scan = simulated(parallel(40, 2.0))
    transmitted = torch.exp(-scan.sinogram)
    for values in (transmitted, 1e4 * transmitted):
        assert "--data-kind" in said(replace(scan, sinogram=values))
    few = scan.every(8)  # fewer views than the other readings need
    assert "--data-kind" in said(replace(few, sinogram=torch.exp(-few.sinogram)))


@pytest.mark.slow
def test_dead_elements_and_an_object_beyond_the_detector_are_no_air():
    scan = simulated(parallel(40, 2.0))
    weights = torch.ones_like(scan.sinogram)
    weights[:, :3] = 0  # dead elements tell nothing
    dead = torch.where(weights > 0, torch.exp(-scan.sinogram), 0.0)
    assert "--data-kind" in said(Scan(dead, scan.geometry, scan.grid, weights))
    cut = scan.sinogram[:, 20:-20] + 0.1  # an object that reaches beyond the detector
    beam = replace(scan.geometry, num_detectors=cut.shape[1])
    assert "--data-kind" not in said(Scan(cut, beam, beam.covering_grid()))


@pytest.mark.slow
def test_transmissions_of_an_object_that_absorbs_little_are_named():
    """Over a mean close to 1 the ends stand out by little, but they are 1 in every view."""
    scan = simulated(parallel(45, 2.0))
    absorbed = 0.1 * scan.sinogram / scan.sinogram.max()
    assert "--data-kind transmission" in said(replace(scan, sinogram=torch.exp(-absorbed)))
    assert "--data-kind transmission" not in said(replace(scan, sinogram=absorbed))
