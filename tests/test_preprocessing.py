"""Counts become line integrals without bias, with the noise that photons make, and never NaN."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pdip.errors import InputError
from pdip.scan import Preprocessing, read_scan, read_stack
from pdip.scan.photons import estimate_gain, log_bias, log_variance

DATA = Path(__file__).parents[2] / "shared" / "data"
VIEWS, DETECTORS = 60, 80
SLOPE = np.linspace(0.2, 2.2, DETECTORS) * np.ones((VIEWS, 1))  # line integrals


def random(seed=0):
    return np.random.default_rng(seed)


def detector(photons, gain=0.7, dark=100.0, readout=6.0, frames=12, seed=0, truth=SLOPE):
    """What an integrating detector reads: counts, flats and darks."""
    generator = random(seed)

    def read(shape, expected):
        arrived = generator.poisson(expected, shape)
        return gain * arrived + dark + readout * generator.normal(size=shape)

    flats, darks = ((frames, DETECTORS), photons), ((frames, DETECTORS), 0.0)
    return read(truth.shape, photons * np.exp(-truth)), read(*flats), read(*darks)


def z_of_mean(sample, expected):
    return (sample.mean() - expected) / (sample.std(ddof=1) / math.sqrt(sample.size))


def z_of_variance(sample, variance):
    return (sample.var() / variance - 1) / math.sqrt(2 / sample.size)


def test_line_integrals_come_out_with_the_variance_that_the_weights_say():
    counts, flat, dark = detector(photons=5000.0)
    found = Preprocessing("counts", flat, dark, gain=0.7).measured(counts)
    pull = (found.sinogram - SLOPE) * np.sqrt(found.weights)
    assert found.noise_std == 1.0
    # The flats' noise is one number for all views: of the mean only 80 columns are independent.
    assert abs(z_of_mean(pull.mean(0), 0.0)) < 4 and abs(z_of_variance(pull, 1.0)) < 4
    assert found.weights.max() > 2 * found.weights.min()
    wrong = (found.sinogram - SLOPE) * math.sqrt(np.median(found.weights))
    assert abs(z_of_variance(wrong[:, :20], 1.0)) > 10  # equal weights know it less well


def test_gain_from_repeated_flats_is_that_of_the_detector():
    z = []
    for seed in range(20):
        _, flat, dark = detector(photons=2e4, seed=seed)
        drifting = flat * np.linspace(1, 1.3, len(flat))[:, None]  # of the source, and no noise
        found = estimate_gain(flat, dark.var(0, ddof=1).mean(), dark.mean(0))
        z.append((found.value - 0.7) / found.standard_error)
        moved = estimate_gain(drifting - 100, 36.0, np.zeros(DETECTORS))
        assert moved.value == pytest.approx(0.7 * 1.15, rel=0.15)
    assert abs(np.mean(z)) < 4 / math.sqrt(20) and 0.5 < np.std(z) < 1.6
    assert estimate_gain(np.full((5, DETECTORS), 9.0), 0.0, np.zeros(DETECTORS)) is None


def test_counts_in_another_unit_are_the_same_measurement():
    counts, flat, dark = detector(photons=3000.0)
    one = Preprocessing("counts", flat, dark).measured(counts)
    other = Preprocessing("counts", 8 * flat, 8 * dark).measured(8 * counts)
    assert np.allclose(one.sinogram, other.sinogram, rtol=1e-12)
    assert np.allclose(one.weights, other.weights, rtol=1e-10)
    bare = [Preprocessing("counts", k * flat[0], 100.0 * k).measured(k * counts) for k in (1, 8)]
    assert bare[0].noise_std is None
    assert np.allclose(bare[0].weights, bare[1].weights, rtol=1e-10)


@pytest.mark.parametrize("photons", [3.0, 4.0, 8.0, 30.0])
def test_low_counts_are_not_biased_nor_favoured(photons):
    """Of the logarithm of max(N, 1/2), and of weights by the observed counts, the bias is clear."""
    truth = np.zeros((2000, DETECTORS))
    counts = random().poisson(photons, truth.shape)
    found = Preprocessing("counts", 2 * photons).measured(counts)
    expected = math.log(2) - float(log_bias(np.array(photons)))

    def error(y, w):  # of the weighted mean
        return (w * (y - expected)).sum() / w.sum()

    standard_error = math.sqrt(float(log_variance(np.array(photons))) / counts.size)
    assert abs(log_bias(np.array(photons))) < 0.0025
    # The weights of neighbours scatter, which costs a little.
    assert abs(error(found.sinogram, found.weights)) < 4 * 1.3 * standard_error
    plain = np.log(2 * photons / np.maximum(counts, 0.5))
    assert error(plain, np.ones_like(plain)) > 10 * standard_error
    assert error(found.sinogram, counts) < -10 * standard_error


def test_moments_of_the_logarithm_are_those_of_many_draws():
    for mean in (1.0, 2.5, 7.0, 60.0, 900.0):
        draws = np.log(random().poisson(mean, 400_000) + 0.5)
        assert abs(z_of_mean(draws, math.log(mean) + float(log_bias(np.array(mean))))) < 4
        # Logarithms of few counts have longer tails than a Gaussian.
        kurtosis = ((draws - draws.mean()) ** 4).mean() / draws.var() ** 2
        relative = draws.var() / float(log_variance(np.array(mean))) - 1
        assert abs(relative) < 4 * math.sqrt((kurtosis - 1) / draws.size)


def test_what_cannot_be_used_has_weight_zero_a_finite_value_and_is_counted():
    counts, flat, dark = detector(photons=5000.0)
    counts[3, 7], counts[5, 9], flat[:, 20], counts[:, 30] = np.nan, 90.0, dark[0, 20], 812.0
    found = Preprocessing("counts", flat, dark, gain=0.7).measured(counts)
    lost = np.zeros_like(counts, dtype=bool)
    lost[3, 7] = lost[5, 9] = lost[:, 20] = lost[:, 30] = True
    assert np.array_equal(found.weights == 0, lost)
    assert np.isfinite(found.sinogram).all()
    assert np.abs(found.sinogram - SLOPE)[lost].max() < 0.2  # from their neighbours
    said = " ".join(found.said)
    assert "122 of the 4800 rays that were measured have weight 0: 121 without a usable" in said
    assert "1 without a positive count" in said and "1 detector element(s) have no flat" in said
    assert "1 detector element(s) have the same reading in every view" in said


def test_readings_that_no_beam_makes_are_not_used_and_counted():
    """A zinger, and the end of what the detector can say; noise of few photons is neither."""
    counts, flat, dark = (np.round(part).astype(np.uint16) for part in detector(photons=5000.0))
    counts[4, 11], counts[6, 13] = 9000, 65535
    found = Preprocessing("counts", flat, dark, gain=0.7).measured(counts)
    lost = np.zeros(counts.shape, dtype=bool)
    lost[4, 11] = lost[6, 13] = True
    assert np.array_equal(found.weights == 0, lost)
    assert any("2 readings are saturated or more than 2 times" in line for line in found.said)
    counts, flat, dark = (np.round(part) for part in detector(photons=5000.0, gain=10.0))
    counts[8, 3] = 65535  # hardly brighter than the beam, and yet the end of the scale
    found = Preprocessing("counts", flat, dark, gain=10.0).measured(counts.astype(np.uint16))
    assert np.argwhere(found.weights == 0).tolist() == [[8, 3]]
    few = random().poisson(4.0, (VIEWS, DETECTORS))
    assert few.max() > 10
    found = Preprocessing("counts", 5.0, 0.0).measured(few)
    assert not any("saturated" in line for line in found.said)


def as_saved():
    """Counts, flats and darks as a converter of 16 bits saves them."""
    return [np.round(part).astype(np.uint16) for part in detector(photons=5000.0)]


@pytest.mark.parametrize(
    ("top", "dtype", "said"),
    [
        (65535, np.uint16, "100% of their readings are at 65535, the largest value of uint16"),
        (255, np.uint8, "at 255, the largest value of uint8"),
        (4095, np.uint16, "at 4095, the largest value of 12 bits"),
        (16383, float, "at 16383, the largest value of 14 bits"),
    ],
)
def test_saturated_flats_are_refused_and_a_number_in_their_place_is_taken(top, dtype, said):
    counts, _, _ = as_saved()
    flat = np.full((5, DETECTORS), top, dtype)
    with pytest.raises(InputError, match="flats are saturated") as error:
        Preprocessing("counts", flat, 0.0).measured(counts)
    assert said in str(error.value)
    assert np.isfinite(Preprocessing("counts", 2.0**16 - 1, 0.0).measured(counts).sinogram).all()


def test_elements_whose_flat_is_saturated_are_not_used_and_counted():
    counts, flat, dark = as_saved()
    flat[2, 10:14] = 65535
    found = Preprocessing("counts", flat, dark, gain=0.7).measured(counts)
    assert sorted(set(np.argwhere(found.weights == 0)[:, 1])) == [10, 11, 12, 13]
    assert "4 detector element(s) have a saturated flat and are not used." in found.said


def test_saturated_views_are_refused_as_such():
    counts, flat, dark = as_saved()
    counts[:, :50] = 65535
    counts[0, :50] = 65534  # an element that stands still is another matter
    with pytest.raises(InputError, match="the views are saturated: 61%"):
        Preprocessing("counts", flat, dark, gain=0.7).measured(counts)


def test_flats_that_are_copies_count_as_one():
    counts, flat, dark = detector(photons=5000.0)
    one, distinct = (
        Preprocessing("counts", part, dark).measured(counts) for part in (flat[0], flat)
    )
    copies = Preprocessing("counts", flat[[0] * 6], dark).measured(counts)
    assert "WARNING: the 6 flats are copies of one another and count as one" in copies.said[0]
    assert copies.noise_std is None and np.array_equal(copies.weights, one.weights)
    twice = Preprocessing("counts", np.repeat(flat, 2, 0), dark).measured(counts)
    assert "12 of the 24 flats are copies of others" in twice.said[0]
    assert np.array_equal(twice.weights, distinct.weights)
    assert not any("copies" in line for line in (*one.said, *distinct.said))


def test_a_dark_field_that_is_not_given_is_said_to_be_none():
    counts = random().poisson(500.0, (VIEWS, DETECTORS))
    for dark, told in ((None, True), (0.0, False)):
        found = Preprocessing("counts", 1000.0, dark).measured(counts)
        assert any("No dark field" in line for line in found.said) == told


def test_line_integrals_that_are_called_transmissions_are_doubted():
    noisy = SLOPE * (np.arange(DETECTORS) > 20) + 0.02 * random().normal(size=SLOPE.shape)
    found = Preprocessing("transmission").measured(noisy)
    assert any(line.startswith("WARNING: 1") and "line_integrals" in line for line in found.said)
    found = Preprocessing("transmission").measured(np.exp(-noisy))
    assert not any("WARNING" in line for line in found.said)


def test_a_ring_filter_wider_than_the_object_is_refused():
    with pytest.raises(InputError, match="at most half"):
        Preprocessing(rings=DETECTORS).measured(SLOPE)


def test_rays_are_left_out_by_the_photons_they_expect_not_by_those_that_came():
    truth = np.where(np.arange(DETECTORS) < 40, 0.5, 5.0) * np.ones((VIEWS, 1))
    counts = random().poisson(40 * np.exp(-truth))
    found = Preprocessing("counts", 40.0).measured(counts)
    assert (found.weights[:, 2:38] > 0).all() and (found.weights[:, 42:] == 0).all()
    few = Preprocessing("counts", 10.0).measured(
        random().poisson(10 * np.exp(-np.full_like(truth, 1)))
    )
    zero = few.weights[random().poisson(10 * np.exp(-np.full_like(truth, 1))) == 0]
    assert (zero > 0).mean() > 0.9  # no photon of four expected is a measurement


@pytest.mark.slow
@given(
    values=st.lists(
        st.sampled_from([0.0, 1.0, 7.0, 300.0, -5.0, math.nan, math.inf, 1e30, 1e-30]),
        min_size=48, max_size=48,
    ),
    dark=st.sampled_from([0.0, 3.0, 1e3]),
    gain=st.sampled_from([None, 1.0, 0.01]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_any_numbers_give_finite_rays_or_one_sentence(values, dark, gain):
    counts = np.array(values).reshape(4, 12)
    try:
        found = Preprocessing("counts", 500.0, dark, gain=gain).measured(counts)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert np.isfinite(found.sinogram).all() and np.isfinite(found.weights).all()
    assert (found.weights >= 0).all() and (found.weights > 0).any()


def test_transmission_is_counts_over_flat():
    counts, flat, dark = detector(photons=5000.0)
    level = dark.mean(0)
    part = (counts - level) / (flat.mean(0) - level)
    whole = Preprocessing("counts", flat, dark, gain=0.7).measured(counts)
    found = Preprocessing("transmission").measured(part)
    half = 0.7 / 2 / (counts - level)  # half a photon, which a transmission does not tell of
    assert np.allclose(found.sinogram - whole.sinogram, half, atol=2e-5)
    assert found.noise_std is None
    assert np.corrcoef(found.weights.ravel(), whole.weights.ravel())[0, 1] > 0.99


def test_drift_of_the_source_is_taken_from_the_air():
    drift = np.linspace(-0.2, 0.3, VIEWS)[:, None]
    truth = np.where(np.abs(np.arange(DETECTORS) - 40) < 25, 1.0, 0.0) + 0 * SLOPE
    counts, flat, dark = detector(photons=1e5, truth=truth + drift)
    how = Preprocessing("counts", flat, dark, gain=0.7)
    assert np.abs(how.measured(counts).sinogram - truth).mean() > 0.1
    found = replace(how, air_columns=8).measured(counts)
    assert np.abs(found.sinogram - truth).max() < 0.05
    assert "8 elements at either end" in found.said[-1]


def test_rings_are_removed_where_they_are_asked_for():
    pytest.importorskip("algotom")
    column = np.zeros(DETECTORS)
    column[[20, 41, 60]] = 0.1
    truth = 1 + 0.5 * np.sin(np.linspace(0, 3, VIEWS))[:, None] + 0 * SLOPE
    striped = truth + column
    left = Preprocessing(rings=9).measured(striped)
    assert np.abs(left.sinogram - truth).max() < 0.02 and "Rings" in left.said[-1]
    assert np.array_equal(Preprocessing().measured(striped).sinogram, striped)


def test_beam_hardening_bends_line_integrals_and_their_noise_alike():
    pytest.importorskip("algotom")
    y = np.linspace(-0.02, 3, 4 * DETECTORS).reshape(4, -1)
    found = Preprocessing("transmission", beam_hardening=(1.0, 3.0)).measured(np.exp(-y))
    plain = Preprocessing("transmission").measured(np.exp(-y))
    slope = np.gradient(found.sinogram.ravel(), y.ravel())[2:-2]
    ratio = (plain.weights / found.weights).ravel()[2:-2]
    assert np.allclose(ratio, slope**2, rtol=0.02)
    assert (np.diff(found.sinogram.ravel()) > 0).all() and "q = 1 and n = 3" in found.said[-1]


@pytest.mark.parametrize(
    "keys, said",
    [
        ({"data_kind": "photons"}, "one of counts, transmission, line_integrals, got 'photons'"),
        ({"data_kind": "counts"}, "give the key 'flat'"),
        ({"data_kind": "counts", "flat": 9.0, "gain": -1}, "gain must be positive"),
        ({"gain": 2.0}, "data_kind counts or transmission"),
        ({"air_columns": 0}, "air_columns must be a positive whole number"),
        ({"beam_hardening": (0.0, 3.0)}, "q > 0 and n >= 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keys, said):
    with pytest.raises(InputError, match=said):
        Preprocessing(**keys)


@pytest.mark.parametrize(
    "keys, counts, said",
    [
        ({"flat": np.ones((3, 7))}, np.ones((4, 9)), r"flat has shape \(3, 7\) but there are 9"),
        ({"flat": np.ones((3, 2, 9))}, np.ones((4, 9)), r"flat has shape \(3, 2, 9\)"),
        ({"blank": np.ones((3, 9))}, np.ones((4, 9)), r"blank scan has shape \(3, 9\)"),
        ({"flat": 100.0}, np.full((4, 9), np.nan), "only 0 of 36 rays can be used"),
        ({"flat": 50.0, "dark": 60.0}, 80 + np.eye(4, 9), "only 0 of 36 rays"),
        ({"flat": 20.0}, 80 + np.eye(4, 9), "exchanged?"),
        ({"flat": 90.0, "air_columns": 5}, 80 + np.eye(4, 9), "leave nothing of 9"),
    ],
)
def test_counts_that_do_not_fit_are_refused_in_one_sentence(keys, counts, said):
    with pytest.raises(InputError, match=said) as error:
        Preprocessing("counts", **keys).measured(counts)
    assert "\n" not in str(error.value)


def test_a_file_of_counts_is_read_with_the_flats_beside_it(tmp_path):
    counts, flat, dark = detector(photons=5000.0)
    whole = Preprocessing("counts", flat, dark).measured(counts)
    np.savez(tmp_path / "own.npz", counts=counts, flat=flat, dark=dark, geometry="parallel")
    np.save(tmp_path / "scan.npy", np.round(counts).astype(np.uint16))
    np.save(tmp_path / "flat.npy", flat)
    np.save(tmp_path / "dark.npy", dark)
    (tmp_path / "scan.yaml").write_text("data_kind: counts\nflat: flat.npy\ndark: dark.npy\n")
    options = {"flat": str(tmp_path / "flat.npy"), "dark": 100, "data_kind": "counts", "gain": 0.7}
    own, beside = read_scan(tmp_path / "own.npz"), read_scan(tmp_path / "scan.npy")
    named = read_scan(tmp_path / "scan.npy", **options)
    assert np.allclose(own.sinogram, whole.sinogram, atol=1e-6)
    assert np.allclose(own.weights, whole.weights, rtol=1e-5)
    assert own.noise_std == named.noise_std == beside.noise_std == 1.0
    assert np.allclose(beside.sinogram, own.sinogram, atol=2e-3)
    assert np.allclose(named.sinogram, own.sinogram, atol=2e-2)
    assert any("gain is 0.7" in sentence for sentence in own.assumptions)
    (tmp_path / "scan.yaml").unlink()
    with pytest.raises(InputError, match="--data-kind counts"):
        read_scan(tmp_path / "scan.npy")


def test_line_integrals_beside_counts_stay_the_default(tmp_path):
    counts, flat, dark = detector(photons=5000.0)
    np.savez(tmp_path / "both.npz", sinogram=SLOPE + 1, counts=counts, flat=flat, dark=dark)
    plain = read_scan(tmp_path / "both.npz")
    assert torch.equal(plain.sinogram, torch.from_numpy(SLOPE + 1).float())
    assert plain.weights is None and plain.noise_std is None
    asked = read_scan(tmp_path / "both.npz", data_kind="counts")
    assert asked.noise_std == 1.0 and float(asked.sinogram.mean()) == pytest.approx(1.2, abs=0.01)


def test_a_mask_in_the_file_stays(tmp_path):
    counts, flat, dark = detector(photons=5000.0)
    mask = np.ones_like(counts)
    mask[:, 10:13] = 0
    np.savez(tmp_path / "scan.npz", counts=counts, flat=flat, dark=dark, weights=mask)
    weights = read_scan(tmp_path / "scan.npz").weights.numpy()
    assert np.array_equal(weights == 0, mask == 0)


def test_each_slice_of_a_stack_of_counts_has_its_own_flats(tmp_path):
    made = [
        detector(photons=3000.0 * (k + 1), seed=k, truth=SLOPE * (1 + 0.1 * k)) for k in range(3)
    ]
    keys = dict(
        zip(("counts", "flat", "dark"), map(np.stack, zip(*made, strict=True)), strict=True)
    )
    np.savez(tmp_path / "stack.npz", data_kind="counts", **keys)
    stack = read_stack(tmp_path / "stack.npz", slices="1:3", view_step=2)
    for number, scan in zip((1, 2), stack, strict=True):
        counts, flat, dark = made[number]
        alone = Preprocessing("counts", flat, dark).measured(counts)
        assert np.allclose(scan.sinogram, alone.sinogram[::2], atol=1e-5)
        assert np.allclose(scan.weights, alone.weights[::2], rtol=1e-4)
        assert scan.noise_std == 1.0
    np.savez(tmp_path / "bad.npz", **{**keys, "flat": keys["flat"][:2]})
    with pytest.raises(InputError, match="there are 3 slices"):
        read_stack(tmp_path / "bad.npz").scan(0)


def test_measured_tooth_agrees_with_its_line_integrals():
    path = DATA / "tooth" / "tooth_row0_slice.npz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    given, own = read_scan(path), read_scan(path, data_kind="counts")
    assert float((given.sinogram - own.sinogram).abs().max()) < 2e-4
    assert own.noise_std == 1.0
    air = own.sinogram[:, -40:].double()
    pull = (air - air.mean(0)) * own.weights[:, -40:].sqrt()
    # Air at the end of the detector, less its mean over views: the photon noise alone, and a drift.
    assert 0.8 < float(pull.std()) < 1.5
