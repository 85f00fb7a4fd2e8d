"""Metrics against closed forms, numerical integrals and second libraries; evaluate as a whole."""

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import MultivariateNormal, Normal

from pdip import calibration
from pdip.calibration import checks, evaluate, evaluation
from pdip.calibration.density import patch_covariances
from pdip.calibration.spectrum import claimed_power, power
from pdip.errors import ComputationError, InputError

SIDE = (9, 14)
PIXELS = SIDE[0] * SIDE[1]


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def large():
    """Mean, std of three orders of magnitude, and a truth drawn from the claimed Gaussian."""
    mean, std = normal(150, 160), (normal(150, 160, seed=1)).exp()
    return mean, std, mean + std * normal(150, 160, seed=2)


@pytest.fixture(scope="module")
def correlated():
    """Mean, std, truth, covariance and 400 samples of a correlated Gaussian on a small image."""
    row, column = (torch.arange(PIXELS) // SIDE[1]).double(), (torch.arange(PIXELS) % SIDE[1])
    squared = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
    scale = 0.5 + torch.linspace(0, 1, PIXELS).double()
    covariance = scale[:, None] * scale * torch.exp(-squared / 6) + 0.05 * torch.eye(PIXELS)
    draws = normal(401, PIXELS, seed=3) @ torch.linalg.cholesky(covariance).T
    mean = normal(*SIDE, seed=4)
    images = mean + draws.reshape(-1, *SIDE)
    std = covariance.diagonal().sqrt().reshape(SIDE)
    return mean, std, images[0], covariance, images[1:]


def flat(*images):
    return [image.numpy().reshape(-1) for image in images]


def test_coverage_of_truths_from_the_claimed_gaussian_is_its_level(large):
    mean, std, truth = large
    curve = calibration.coverage_curve(*large)
    error = (curve.levels * (1 - curve.levels) / mean.numel()).sqrt()
    assert ((curve.empirical - curve.levels) / error).abs().max() < 4
    wide = calibration.coverage_curve(mean, 1.5 * std, truth)
    assert ((wide.empirical - wide.levels) / error).max() > 10
    at_95 = calibration.coverage_curve(*large, levels=(0.95,)).empirical
    assert float(at_95) == calibration.coverage(*large)


def test_miscalibration_area_is_positive_where_the_std_is_too_small(large):
    mean, std, truth = large
    error = (1 / 12 / mean.numel()) ** 0.5
    assert abs(calibration.miscalibration_area(*large)) < 4 * error
    for factor in (0.5, 2.0):
        area = calibration.miscalibration_area(mean, factor * std, truth)
        # E (2 Φ(|z|) - 1) for z ~ N(0, 1 / factor²) is 2 atan(1 / factor) / π.
        assert area == pytest.approx(2 * math.atan(1 / factor) / math.pi - 0.5, abs=4 * error)
        assert (area > 0) == (factor < 1)
        absolute = calibration.absolute_miscalibration_area(mean, factor * std, truth)
        assert absolute == pytest.approx(abs(area), abs=1e-3)


def test_std_scaled_to_coverage_covers_that_share_and_no_more(large):
    mean, std, truth = large
    factor = calibration.scale_to_coverage(mean, 3 * std, truth)
    covered = calibration.coverage(mean, 3 * factor * (1 + 1e-12) * std, truth)
    assert 0.95 <= covered < 0.95 + 2 / mean.numel()
    assert factor == pytest.approx(1 / 3, rel=0.03)
    width = calibration.sharpness_at_equal_coverage(*large)
    assert calibration.sharpness_at_equal_coverage(mean, 3 * std, truth) == pytest.approx(width)
    assert width == pytest.approx(2 * 1.96 * calibration.sharpness(std), rel=0.03)


def test_stratified_coverage_finds_what_the_average_hides(large):
    mean, std, truth = large
    strata = calibration.size_stratified_coverage(*large, strata=5)
    assert list(strata) == [f"part_{k}" for k in range(1, 6)]
    band = 4 * math.sqrt(0.95 * 0.05 / (mean.numel() / 5))
    assert all(abs(share - 0.95) < band for share in strata.values())
    assert sum(strata.values()) / 5 == pytest.approx(calibration.coverage(*large), abs=1e-4)
    order = std.flatten().argsort().argsort().reshape(std.shape)
    halved = torch.where(order < std.numel() / 2, std / 9, std)
    low, high = calibration.size_stratified_coverage(mean, halved, truth, strata=2).values()
    assert low < 0.3 < 0.95 - band < high


def test_places_of_pixels_are_no_order_where_their_std_is_equal(large):
    mean, std, truth = (values.flatten()[:4000] for values in large)
    std = std.quantile(torch.arange(1.0, 4).to(std) / 4).repeat_interleave(1334)[:4000]
    error = (truth - mean).sort().values
    shuffled = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    for score in (calibration.ence, calibration.ause, calibration.size_stratified_coverage):
        ordered = score(torch.zeros_like(error), std, error)
        other = score(torch.zeros_like(error), std[shuffled], error[shuffled])
        assert ordered == pytest.approx(other, rel=1e-12)


def test_metrics_agree_with_uncertainty_toolbox(large):
    toolbox = pytest.importorskip("uncertainty_toolbox")
    arrays = [x[:2000] for x in flat(*large)]
    triple = [torch.from_numpy(x) for x in arrays]
    mean, std, truth = arrays
    crps = toolbox.crps_gaussian(mean, std, truth)
    assert calibration.crps(*triple) == pytest.approx(crps, rel=1e-10)
    assert calibration.nll_per_pixel(*triple) == pytest.approx(
        toolbox.nll_gaussian(mean, std, truth), rel=1e-10
    )
    for factor in (0.6, 1.0):
        area = toolbox.miscalibration_area(mean, factor * std, truth, vectorized=True)
        own = calibration.absolute_miscalibration_area(triple[0], factor * triple[1], triple[2])
        assert own == pytest.approx(area, abs=1e-3)
    level, expected = toolbox.get_proportion_lists(mean, std, truth, num_bins=12)
    own = calibration.coverage_curve(*triple, levels=tuple(level))
    assert np.abs(own.empirical.numpy() - expected).max() < 2 / len(mean)


def test_ence_agrees_with_netcal(large):
    regression = pytest.importorskip(
        "netcal.metrics.regression", reason="needs netcal: pip install -e '.[oracles]'"
    )
    arrays = [x[:2000] for x in flat(*large)]
    mean, _, truth = arrays
    # On evenly spread stds its bins of equal width are ours of equal count.
    std = np.linspace(0.5, 2.5, 2001)[:-1] + 5e-4
    own = calibration.ence(*map(torch.from_numpy, (mean, std, truth)), bins=8)
    other = regression.ENCE(bins=8).measure((mean, std), truth, range_=[(0.5, 2.5)])
    assert own == pytest.approx(float(other), rel=1e-6)


def test_ence_of_a_wrong_scale_is_its_distance_from_one(large):
    mean, std, truth = large
    assert calibration.ence(*large) < 4 * math.sqrt(10 / math.pi / mean.numel())
    assert calibration.ence(mean, std / 2, truth) == pytest.approx(1, abs=0.03)
    found = calibration.reliability(mean, std, truth, bins=7)
    assert found.count.sum() == mean.numel() and (found.predicted.diff() > 0).all()
    everything = (found.count * found.error.square()).sum()
    assert torch.isclose(everything, (truth - mean).square().sum(), rtol=1e-10)


def test_crps_is_the_integral_of_the_squared_distance_of_distributions():
    grid = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    mean, std, truth = (torch.tensor([[x]], dtype=torch.float64) for x in (0.3, 1.7, 2.1))
    distance = Normal(0.3, 1.7).cdf(grid) - (grid >= 2.1).double()
    integral = float(torch.trapezoid(distance.square(), grid))
    assert calibration.crps(mean, std, truth) == pytest.approx(integral, rel=1e-4)
    draws = mean + std * normal(20_000, 1, 1)
    assert calibration.crps_of_samples(draws, truth) == pytest.approx(integral, rel=0.03)


def test_interval_score_is_its_formula():
    mean, std, truth = torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[1.0, 4.0]])
    expected = 2 * 1.959964 + (4 - 1.959964) * (2 / 0.05) / 2
    assert calibration.interval_score(mean, std, truth) == pytest.approx(expected, rel=1e-6)


def test_energy_score_agrees_with_scoringrules_and_with_the_crps_of_one_pixel(correlated):
    scoringrules = pytest.importorskip("scoringrules")
    *_, truth, _, samples = correlated
    few = samples[:30]
    expected = scoringrules.es_ensemble(
        truth.flatten(), few.flatten(1), estimator="fair", backend="torch"
    )
    assert calibration.energy_score(few, truth) == pytest.approx(float(expected), rel=1e-10)
    one = calibration.energy_score(few[:, :1, :1], truth[:1, :1])
    assert one == pytest.approx(calibration.crps_of_samples(few[:, :1, :1], truth[:1, :1]))
    with pytest.raises(InputError, match="at least 2 samples"):
        calibration.energy_score(few[:1], truth)


def test_variogram_score_is_its_formula_and_sees_lost_correlations(correlated):
    *_, truth, _, samples = correlated
    half, point = samples[:, :4, :4].flatten(1), truth[:4, :4].flatten()
    drawn = (half[:, :, None] - half[:, None, :]).abs().sqrt().mean(0)
    true = (point[:, None] - point).abs().sqrt()
    expected = (true - drawn).square().sum() / (16 * 15)
    found = calibration.variogram_score(samples[:, :4, :4], truth[:4, :4], patch=4)
    assert found == pytest.approx(float(expected), rel=1e-10)
    corner, truths = samples[:350, :4, :4], samples[350:, :4, :4]
    alone = torch.stack([corner.roll(i, 0)[:, i // 4, i % 4] for i in range(16)], 1)
    alone = alone.reshape(corner.shape)
    lost = [
        calibration.variogram_score(alone, x) - calibration.variogram_score(corner, x)
        for x in truths
    ]
    lost = torch.tensor(lost)
    assert lost.mean() > 4 * lost.std() / math.sqrt(len(lost))
    with pytest.raises(InputError, match="at least 2x2"):
        calibration.variogram_score(samples, truth, patch=1)


@pytest.mark.parametrize("patch", [1, 2, 10, None])
@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
def test_patch_density_is_that_of_multivariate_normals(correlated, patch, shrinkage):
    mean, std, truth, covariance, _ = correlated
    shrunk = (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().diag()
    size, total = patch or 14, 0.0
    for rows in torch.arange(PIXELS).reshape(SIDE).split(size):
        for block in rows.split(size, dim=1):
            index = block.flatten()
            local = MultivariateNormal(mean.flatten()[index], shrunk[index][:, index])
            total += float(local.log_prob(truth.flatten()[index]))
    found = calibration.patch_nll_per_pixel(
        mean, truth, patch=patch, covariance=covariance, shrinkage=shrinkage
    )
    assert found == pytest.approx(-total / PIXELS, rel=1e-10)
    if patch == 1 or shrinkage == 1:
        assert found == pytest.approx(calibration.nll_per_pixel(mean, std, truth), rel=1e-10)


def test_patch_density_of_samples_is_that_of_their_covariance(correlated, monkeypatch):
    mean, _, truth, _, samples = correlated
    deviations = (samples - mean).flatten(1)
    moments = deviations.T @ deviations / len(samples)
    for patch in (3, None):
        expected = calibration.patch_nll_per_pixel(mean, truth, patch=patch, covariance=moments)
        found = calibration.patch_nll_per_pixel(mean, truth, patch=patch, samples=samples)
        assert found == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr("pdip.calibration.density.MAX_ELEMENTS", 9 * 400 * 2)
    parts = list(patch_covariances(calibration.patches(*SIDE, 3)[0], None, deviations))
    assert [len(index) for index, _ in parts] == [2] * 6
    again = calibration.patch_nll_per_pixel(mean, truth, patch=3, samples=samples)
    whole = calibration.patch_nll_per_pixel(mean, truth, patch=3, covariance=moments)
    assert again == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("size", [1, 2, 4, 9, 20, None])
def test_patches_tile_the_image(size):
    groups = calibration.patches(*SIDE, size)
    assert torch.equal(torch.cat([g.flatten() for g in groups]).sort().values, torch.arange(PIXELS))
    for row in torch.cat(list(groups[0].split(1))):
        rows, columns = row // SIDE[1], row % SIDE[1]
        assert (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1) == len(row)


def test_reduced_chi_squared_of_truths_from_the_claimed_gaussian_is_one(large, correlated):
    mean, std, truth = large
    error = math.sqrt(2 / mean.numel())
    assert abs(calibration.reduced_chi_squared(*large) - 1) < 4 * error
    assert calibration.reduced_chi_squared(mean, std / 1.2, truth) - 1 > 10 * error
    mean, _, _, covariance, samples = correlated
    found = [calibration.joint_reduced_chi_squared(mean, x, covariance) for x in samples]
    error = math.sqrt(2 / PIXELS / len(samples))
    assert abs(sum(found) / len(found) - 1) < 4 * error
    narrow = [calibration.joint_reduced_chi_squared(mean, x, covariance / 1.2) for x in samples]
    assert sum(narrow) / len(found) - 1 > 10 * error


def test_z_quantiles_are_those_of_numpy(large):
    mean, std, truth = large
    found = calibration.z_quantiles(*large)
    probabilities = np.arange(1, 100) / 100
    z = ((truth - mean) / std).numpy()
    assert np.allclose(found.observed, np.quantile(z, probabilities), rtol=1e-10)
    assert np.allclose(found.expected, scipy.stats.norm.ppf(probabilities), rtol=1e-10)


def test_ause_is_zero_if_the_std_orders_the_errors(large):
    mean, _, truth = large
    error = (truth - mean).abs()
    assert calibration.ause(mean, error, truth) == pytest.approx(0, abs=1e-12)
    assert calibration.ause(mean, 7 * error**3, truth) == pytest.approx(0, abs=1e-12)
    backwards = calibration.ause(mean, 1 / error, truth)
    assert backwards > calibration.ause(mean, torch.ones_like(error), truth) > 0.1
    assert calibration.rank_correlation(mean, error, truth) == pytest.approx(1)
    assert calibration.rank_correlation(mean, 1 / error, truth) == pytest.approx(-1)


def test_sparsification_is_the_error_of_what_remains():
    mean, std = torch.zeros(1, 4), torch.tensor([[4.0, 1.0, 2.0, 2.0]])
    truth = torch.tensor([[1.0, 2.0, 6.0, 2.0]]).double()
    curves = calibration.sparsification(mean, std, truth, (0.0, 0.25, 0.5, 0.75))
    # The two pixels of std 2 leave in either order: one of their mean square remains.
    remaining = torch.tensor([45 / 4, 44 / 3, (4 + 20) / 2, 4]).double()
    assert torch.allclose(curves.by_std, (remaining / (45 / 4)).sqrt())
    best = torch.tensor([45 / 4, 9 / 3, 5 / 2, 1]).double()
    assert torch.allclose(curves.by_error, (best / (45 / 4)).sqrt())
    constant = calibration.sparsification(mean, torch.ones(1, 4), truth)
    assert torch.allclose(constant.by_std, torch.ones(50).double())
    assert math.isnan(calibration.rank_correlation(mean, torch.ones(1, 4), truth))
    with pytest.raises(InputError, match="equals the truth"):
        calibration.ause(truth, std, truth)


def test_rank_correlation_is_the_correlation_of_ranks(large):
    mean, std, truth = large
    ranks = [x.flatten().argsort().argsort().double() for x in (std, (truth - mean).abs())]
    own = calibration.rank_correlation(*large)
    assert own == pytest.approx(float(torch.corrcoef(torch.stack(ranks))[0, 1]), rel=1e-10)
    assert own > 0.4


def test_claimed_power_is_that_of_the_covariance(correlated):
    mean, _, _, _, samples = correlated
    deviations = (samples - mean).flatten(1)
    moments = deviations.T @ deviations / len(samples)
    periodogram = power(samples - mean).mean(0)
    assert torch.allclose(claimed_power(moments, *SIDE), periodogram, rtol=1e-9)


@pytest.mark.parametrize("kind", ["covariance", "samples"])
def test_spectrum_finds_the_scale_that_is_over_confident(correlated, kind):
    mean, std, truth, covariance, samples = correlated
    claimed = {"covariance": covariance, "samples": samples}[kind]
    found = calibration.whitened_spectrum(mean, std, truth, **{kind: claimed}, pixel_mm=0.1)
    z = (found.ratio - 1) / (2 / found.num_modes).sqrt()
    assert z.abs().max() < 5 and found.claimed_by == kind
    assert found.frequency_per_mm[0] == 0 and 4 < found.frequency_per_mm[-1] <= 5
    row = 3 * (-1.0) ** torch.arange(SIDE[1]).double().expand(SIDE)
    fine = calibration.whitened_spectrum(mean, std, truth + row, **{kind: claimed}, pixel_mm=0.1)
    assert fine.ratio[-1] > 10 * found.ratio[-1] and torch.allclose(fine.ratio[:3], found.ratio[:3])


def test_spectrum_of_independent_errors_is_one_by_std_alone(large):
    mean, std, truth = large
    found = calibration.whitened_spectrum(*large)
    z = (found.ratio - 1) / (2 / found.num_modes).sqrt()
    assert z.abs().max() < 4.5 and found.claimed_by == "std"
    smooth = calibration.whitened_spectrum(mean, std, truth + 0.5 * std)
    assert smooth.ratio[0] > 1000 and torch.allclose(smooth.ratio[1:], found.ratio[1:])


def test_evaluate_answers_in_plain_numbers_whatever_is_known(correlated):
    mean, std, truth, covariance, samples = correlated
    full = evaluate(mean, std, truth, covariance=covariance, samples=samples, pixel_mm=0.1)
    found = json.loads(json.dumps(full.as_dict(), allow_nan=False))
    nll = found["nll_per_pixel"]
    names = {"patch_2", "patch_10", "joint"}
    assert set(nll) == {"patch_1"} | names | {f"{name}_shrunk" for name in names}
    assert nll["joint"] < nll["patch_10"] < nll["patch_2"] < nll["patch_1"]
    assert found["spectrum"]["claimed_by"] == "covariance"
    assert all(isinstance(x, float) for x in found["coverage_curve"]["empirical"])
    bare = evaluate(mean, std, truth).as_dict()
    of_samples = evaluate(mean, std, truth, samples=samples[:60]).as_dict()
    assert set(bare) == set(found) == set(of_samples)
    assert {key for key, value in bare.items() if value is None} == {
        "crps_of_samples", "energy_score", "variogram_score", "joint_reduced_chi_squared",
    }  # fmt: skip
    assert bare["nll_per_pixel"]["patch_1"] == nll["patch_1"]
    assert bare["nll_per_pixel"]["patch_2"] is None
    assert of_samples["nll_per_pixel"]["patch_2"] == pytest.approx(nll["patch_2"], abs=0.2)
    assert of_samples["nll_per_pixel"]["patch_10"] is None  # 9 x 10 pixels of 60 samples


@pytest.mark.slow
def test_bands_of_evaluate_hold_its_values_and_are_wider_for_larger_blocks(correlated):
    mean, std, truth, covariance, _ = correlated
    assert evaluate(mean, std, truth).bands == {}
    found, fine = (evaluate(mean, std, truth, block=side) for side in (4, 1))
    values = found.as_dict() | {"nll_per_pixel": found.nll_per_pixel["patch_1"]}
    assert set(found.bands) == set(evaluation.BANDED)
    for name, band in found.bands.items():
        assert band.value == values[name] and band.low < band.high
    assert found.bands["crps"].standard_error > 1.2 * fine.bands["crps"].standard_error
    for side in (0, 5):
        with pytest.raises(InputError, match="blocks of at least 1 pixel and at most 4"):
            evaluate(mean, std, truth, block=side)


def test_evaluate_does_not_depend_on_the_dtype(correlated):
    mean, std, truth, *_ = correlated
    single = evaluate(mean.float(), std.float(), truth.float())
    assert single.crps == pytest.approx(evaluate(mean, std, truth).crps, rel=1e-5)


def test_homoscedastic_std_has_no_rank_correlation_in_json(correlated):
    mean, std, truth, *_ = correlated
    found = evaluate(mean, torch.full_like(std, 0.7), truth).as_dict()
    assert found["rank_correlation"] is None


def test_what_cannot_be_compared_is_refused(correlated):
    mean, std, truth, covariance, samples = correlated
    with pytest.raises(InputError, match="of one shape"):
        evaluation.check(mean, std, truth[:3], None, None)
    with pytest.raises(InputError, match="positive std everywhere, got 1"):
        evaluate(mean, std * (torch.arange(PIXELS).reshape(SIDE) > 0), truth)
    with pytest.raises(InputError, match="finite truth"):
        evaluate(mean, std, truth / (torch.arange(PIXELS).reshape(SIDE) > 0))
    with pytest.raises(InputError, match=r"covariance \(126, 126\)"):
        evaluate(mean, std, truth, covariance=covariance[:5, :5])
    with pytest.raises(InputError, match=r"samples \(samples, 9, 14\)"):
        evaluate(mean, std, truth, samples=samples[:, :5])
    with pytest.raises(InputError, match="more samples than the 126 pixels"):
        calibration.patch_nll_per_pixel(mean, truth, samples=samples[:126])
    with pytest.raises(InputError, match="give one"):
        calibration.patch_nll_per_pixel(mean, truth)
    with pytest.raises(InputError, match="between 0 and 1"):
        calibration.patch_nll_per_pixel(mean, truth, covariance=covariance, shrinkage=1.5)
    with pytest.raises(ComputationError, match="positive definite"):
        calibration.patch_nll_per_pixel(mean, truth, covariance=-covariance)
    with pytest.raises(InputError, match="bins"):
        calibration.reliability(mean, std, truth, bins=0)
    with pytest.raises(InputError, match="strata"):
        calibration.size_stratified_coverage(mean, std, truth, strata=127)


CLAIMED = (calibration.coverage, calibration.crps, calibration.interval_score,
           calibration.nll_per_pixel, calibration.whitened_spectrum)  # fmt: skip


@pytest.mark.parametrize("score", CLAIMED, ids=lambda score: score.__name__)
def test_a_std_below_0_is_refused_by_every_score(score, correlated):
    mean, std, truth, *_ = correlated
    with pytest.raises(InputError, match="std"):
        score(mean, -std, truth)


@pytest.mark.parametrize("level", [95.0, 1.0, 0.0, -0.1, math.nan])
def test_a_level_that_is_no_probability_is_refused(level, correlated):
    for score in (calibration.coverage, calibration.interval_score, calibration.scale_to_coverage):
        with pytest.raises(InputError, match="level between 0 and 1"):
            score(*correlated[:3], level=level)
    with pytest.raises(InputError, match="level between 0 and 1"):
        calibration.bootstrap(
            lambda x: 0.0, correlated[0], level=level, generator=torch.Generator()
        )


def test_samples_of_another_grid_or_a_wrong_order_are_refused(correlated):
    _, _, truth, _, samples = correlated
    for score in (
        calibration.crps_of_samples, calibration.energy_score, calibration.variogram_score,
    ):  # fmt: skip
        with pytest.raises(InputError, match="at least 2 samples"):
            score(samples[:1], truth)
    with pytest.raises(InputError, match=r"samples \(samples, 9, 14\)"):
        checks.drawn_on(samples[:, :5], truth)
    with pytest.raises(InputError, match="of one shape"):
        checks.one_grid(truth, truth[:1], truth)
    with pytest.raises(InputError, match="positive order"):
        calibration.variogram_score(samples, truth, order=-1.0)
