"""Laws of what withheld rays say: data drawn from the model itself pass, a wrong std is seen."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from cases import MODELS
from dense_model import build, normal
from scipy.stats import norm

from pdip.calibration.conformal import conformal, pixel_bounds
from pdip.calibration.held_out import WithheldRays, held_out_scores
from pdip.calibration.recalibration import RANGE, Scales, fitted_scales, scale_map
from pdip.calibration.verdict import (
    applied,
    are_too_narrow,
    grounds,
    is_right,
    pattern,
    verdict,
)
from pdip.calibration.view_bands import ViewBand, mean_bands
from pdip.calibration.whiteness import whiteness
from pdip.errors import InputError

SCANS = 240


@pytest.fixture(scope="module")
def drawn():
    """Rays of 40 scans drawn from a dense model, the withheld ones predicted from the others."""
    _, scan, dense = build(MODELS["through"])
    dense = dense.at(noise=dense.noise / 3000)
    covariance, noise = dense.sinogram_covariance, dense.noise
    view = torch.arange(len(noise)) // scan.geometry.num_detectors
    held = view % 3 == 1
    kept = ~held
    gain = torch.linalg.solve(covariance[kept][:, kept], covariance[kept][:, held]).T
    left = covariance[held][:, held] - gain @ covariance[kept][:, held]
    _, data = dense.draw(SCANS, seed=3)
    data = data - dense.ray @ dense.prior_mean
    error = data[:, held] - data[:, kept] @ gain.T
    number = torch.arange(SCANS)[:, None] * len(view) + view[held]
    signal = (left.diagonal() - noise[held]).expand(SCANS, -1)
    return WithheldRays(
        error.flatten(), signal.flatten(), noise[held].repeat(SCANS), number.flatten()
    )


def rays(scale=1.0, noise_factor=1.0, views=60, detectors=20, seed=0):
    """Independent rays whose signal variance runs from 0 to 9 noise variances."""
    count = views * detectors
    signal = 9 * torch.rand(count, generator=torch.Generator().manual_seed(seed + 1)).double()
    std = (scale**2 * signal + noise_factor**2).sqrt()
    view = torch.arange(count) // detectors
    return WithheldRays(std * normal(count, seed=seed), signal, torch.ones(count).double(), view)


def within(found, truth, times=4):
    return abs(found.value - truth) < times * found.standard_error


def test_rays_of_the_model_itself_have_standard_normal_scores(drawn):
    scores = held_out_scores(drawn).predicted
    assert within(scores.chi_squared, 1)
    for level, share in scores.coverage.items():
        assert within(share, level)


def test_a_std_of_half_the_size_is_seen(drawn):
    halved = held_out_scores(drawn.at(scale=0.5)).predicted
    assert halved.chi_squared.value - 1 > 10 * halved.chi_squared.standard_error
    assert halved.coverage[0.95].high < 0.95


def test_the_image_uncertainty_explains_what_the_noise_alone_does_not(drawn):
    scores = held_out_scores(drawn)
    assert scores.gain.low > 0
    assert scores.gain.value == pytest.approx(
        scores.noise_only.nll.value - scores.predicted.nll.value
    )


def test_negative_log_density_is_that_of_the_normal_distribution():
    found = rays(views=3)
    expected = -norm(scale=found.variance.sqrt()).logpdf(found.residual).mean()
    assert held_out_scores(found).predicted.nll.value == pytest.approx(float(expected))


def test_a_band_over_views_holds_the_truth_where_one_over_rays_would_not():
    generator, inside, inside_rays = torch.Generator().manual_seed(0), 0, 0
    view = torch.arange(12 * 40) // 40
    for _ in range(100):
        values = torch.randn(12, 1, generator=generator).expand(12, 40).reshape(-1).double()
        (found,) = mean_bands(values[None], view)
        inside += found.low < 0 < found.high
        inside_rays += abs(float(values.mean())) < 1.96 * float(values.std()) / math.sqrt(480)
    assert inside >= 88 and inside_rays < 50


def test_a_single_view_has_no_band():
    (found,) = mean_bands(torch.arange(10)[None], torch.zeros(10))
    assert math.isnan(found.low) and found.value == 4.5


@pytest.mark.slow
@pytest.mark.parametrize("views", [3, 6])
def test_bands_of_few_views_hold_right_variances_nearly_as_often_as_they_say(views):
    generator, draws = torch.Generator().manual_seed(views), 1600
    place = torch.linspace(0, 1, 60).double()
    bumps = torch.exp(-0.5 * ((place[:, None] - torch.linspace(0, 1, 6)) / 0.12) ** 2)
    bumps = bumps / bumps.square().sum(1, keepdim=True).sqrt()  # one variance along the view
    view, held = torch.arange(60 * views) // 60, Counter()
    for _ in range(draws):
        signal = 9 * torch.rand(60 * views, generator=generator).double()
        common = torch.randn(views, 6, generator=generator).double() @ bumps.mT
        noise = torch.randn(60 * views, generator=generator).double()
        data = WithheldRays(
            signal.sqrt() * common.flatten() + noise, signal, torch.ones_like(signal), view
        )
        scores, found = held_out_scores(data).predicted, fitted_scales(data)
        bands = {"coverage": scores.coverage[0.95], "chi": scores.chi_squared}
        bands |= {"factor": found.scales[0], "noise": found.noise}
        truths = {"coverage": 0.95, "chi": 1, "factor": 1, "noise": 1}
        held.update(k for k, one in bands.items() if one.low <= truths[k] <= one.high)
    shares = {kind: held[kind] / draws for kind in ("coverage", "chi", "factor", "noise")}
    assert min(shares.values()) >= 0.92, shares


def test_a_std_of_half_the_size_is_given_back_its_factor(drawn):
    found = fitted_scales(drawn.at(scale=0.5))
    assert found.determined and within(found.scales[0], 2)
    assert abs(found.scales[0].value - 1) > 4 * found.scales[0].standard_error


@pytest.mark.parametrize("noise", ["free", "given"])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_scale_and_noise_are_recovered(scale, noise):
    factor = 0.7 if noise == "free" else 1.0
    found = fitted_scales(rays(scale, factor), noise=noise)
    assert found.determined and within(found.scales[0], scale)
    assert noise == "given" or within(found.noise, factor)


def test_the_likelihood_is_at_its_greatest_at_the_fitted_scales():
    data = rays(1.6, 0.8)
    found = fitted_scales(data)

    def loss(scale, factor):
        return held_out_scores(data.at(scale, factor)).predicted.nll.value

    best = loss(found.scales[0].value, found.noise.value)
    for step in (0.98, 1.02):
        assert loss(step * found.scales[0].value, found.noise.value) > best
        assert loss(found.scales[0].value, step * found.noise.value) > best


def test_scales_do_not_depend_on_units():
    data = rays(1.6)
    small = WithheldRays(
        1e-4 * data.residual, 1e-8 * data.signal_variance, 1e-8 * data.noise_variance, data.view
    )
    one, other = fitted_scales(data), fitted_scales(small)
    assert one.scales[0].value == pytest.approx(other.scales[0].value, rel=1e-6)


@pytest.mark.parametrize("case", ["no signal", "signal as even as the noise", "three rays"])
def test_a_scale_that_rays_do_not_determine_is_called_so(case):
    data = rays(views=3, detectors=1) if case == "three rays" else rays(detectors=4)
    if case == "no signal":
        data = data.at(scale=1e-4)
    if case == "signal as even as the noise":
        data = WithheldRays(
            data.residual, torch.ones_like(data.residual), data.noise_variance, data.view
        )
    found = fitted_scales(data)
    assert not found.determined
    assert "cannot tell" in verdict(found)


def test_two_regions_get_their_own_scales():
    truth, count = torch.tensor([2.0, 0.6]).double(), 1200
    deviations = normal(2, 64, count, seed=4) * torch.rand(2, 1, count).double() * 3
    parts = torch.einsum("jnr,knr->jkr", deviations, deviations) / 64
    variance = torch.einsum("j,k,jkr->r", truth, truth, parts) + 1
    data = WithheldRays(
        variance.sqrt() * normal(count), parts.sum((0, 1)), torch.ones(count).double(),
        torch.arange(count) // 20,
    )  # fmt: skip
    found = fitted_scales(data, parts)
    assert found.determined
    for scale, expected in zip(found.scales, truth, strict=True):
        assert within(scale, float(expected))
    factors = scale_map(torch.tensor([[0, 1], [1, 0]]), found)
    assert factors[0, 1] == factors[1, 0] == found.scales[1].value


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy tails"])
def test_conformal_intervals_hold_their_share_whatever_the_distribution(heavy):
    values = normal(2000, 51, seed=1)
    values = values.sinh() if heavy else values
    covered = [float(abs(z[50]) <= conformal(z[:50], 0.9).quantile) for z in values]
    share, error = sum(covered) / 2000, math.sqrt(0.09 / 2000)
    assert abs(share - 46 / 51) < 4 * error


def test_too_few_rays_guarantee_nothing():
    found = conformal(normal(5), 0.95)
    assert math.isinf(found.quantile)
    with pytest.raises(InputError, match="between 0 and 1"):
        conformal(normal(5), 1.0)


def test_pixel_bounds_are_symmetric_and_as_wide_as_asked():
    low, high = pixel_bounds(torch.ones(2, 2), torch.full((2, 2), 0.5), 2.0)
    assert torch.equal(low, torch.zeros(2, 2)) and torch.equal(high, torch.full((2, 2), 2.0))


@pytest.mark.slow
def test_noise_passes_for_white_and_a_smooth_residual_does_not():
    draws, used = normal(300, 20, 30), torch.ones(20, 30, dtype=torch.bool)
    used[3] = False
    white = sum(whiteness(r, draws[:100], used)["detectors"].white for r in draws[100:])
    assert 170 <= white <= 199
    smooth = (draws[0] + draws[0].roll(1, -1)) / 2
    found = whiteness(smooth, draws[100:], used)
    assert not found["detectors"].white and found["views"].white
    assert float(found["detectors"].values[0]) == pytest.approx(0.5, abs=0.1)
    assert "single energy" in pattern(found) and "rings" not in pattern(found)


def test_the_band_is_that_of_the_simulated_residuals():
    used = torch.ones(20, 30, dtype=torch.bool)
    rough = normal(200, 20, 30)
    rough = rough - 0.5 * rough.roll(1, -1)
    assert whiteness(rough[0], rough[1:], used)["detectors"].white
    assert not whiteness(normal(20, 30, seed=9), rough, used)["detectors"].white


ONE = ViewBand(1.0, 1.0, 1.0, 0.0)
AIR_AND_OBJECT = ("air", "the object")


def factors(*bands, noise=ONE):
    return Scales(tuple(ViewBand(*band, 0.1) for band in bands), noise)


@pytest.mark.parametrize(
    ("scale", "low", "high", "words", "written"),
    [(1.1, 0.9, 1.3, "about right (factor 1.10, 0.9 to 1.3)", True),
     (1.2, 1.1, 1.3, "about right", True),
     (1.9, 0.95, 3.6, "right from error bars that are 1.9 times too narrow (they allow any", False),
     (0.7, 0.4, 1.1, "right from error bars that are 1.4 times too wide", False),
     (2.0, 1.7, 2.4, "too narrow by a factor of about 2.0 (1.7 to 2.4)", True),
     (0.5, 0.4, 0.6, "too wide by a factor of about 2.0 (1.7 to 2.5)", True),
     (4.0, 1.5, 20.0, "too narrow, but the withheld rays cannot tell by how much (any factor above "
      "1.5)", False),
     (1.5, 0.3, 9.0, "(they allow any factor from 0.3 to 9)", False),
     (1.5, 0.05, 20.0, "(they allow any factor)", False),
     (0.05, 0.05, 0.06, "too wide, but", False)],
)  # fmt: skip
def test_the_verdict_says_which_way_the_error_bars_err(scale, low, high, words, written):
    found = factors((scale, low, high))
    assert words in verdict(found)
    assert is_right(found) is ("about right" in words)
    narrow = verdict(found).startswith("the error bars are too narrow")
    assert are_too_narrow(found) is narrow
    sentence = grounds(held_out_scores(rays()), found)
    assert sentence.startswith("Of 1 200 withheld measurements ")
    held = f"std_recalibrated.npy holds std.npy times {scale:.2f}."
    missing = "std.npy is left as it is, without a std_recalibrated.npy."
    assert sentence.endswith(held if written else missing)
    assert (applied(found) is found) is written


@pytest.mark.parametrize(
    ("air", "inside", "words"),
    [((2.0, 1.6, 2.5), (0.5, 0.4, 0.6),
      ". std_recalibrated.npy holds std.npy times 2.00 in air (1.6 to 2.5) and 0.50 in the object "
      "(0.4 to 0.6)."),
     ((0.05, 0.05, 2.3), (0.5, 0.4, 0.6),
      ". A factor for each region is not determined (air any factor below 2.3 and the object any "
      "factor from 0.4 to 0.6). std_recalibrated.npy holds std.npy times 1.50."),
     ((1.9, 0.95, 3.6), (0.5, 0.4, 0.6), "A factor for each region is not determined")],
    ids=["determined", "no signal in air", "one that may be 1"],
)  # fmt: skip
def test_the_verdict_names_the_factors_of_regions(air, inside, words):
    whole, regions = factors((1.5, 1.3, 1.8)), factors(air, inside)
    sentence = grounds(held_out_scores(rays()), whole, regions, AIR_AND_OBJECT)
    assert words in sentence
    assert ("not determined" in sentence) is (applied(whole, regions) is whole)


def test_regions_are_recalibrated_where_the_whole_is_not():
    whole, regions = factors((1.5, 0.9, 2.8)), factors((2.0, 1.6, 2.5), (0.5, 0.4, 0.6))
    assert applied(whole, regions) is regions and applied(whole) is None
    sentence = grounds(held_out_scores(rays()), whole, regions, AIR_AND_OBJECT)
    assert "left as it is" not in sentence and "times 2.00 in air" in sentence


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [(0.75, 0.7, 0.8, "less noise than assumed (0.75 of its std, 0.7 to 0.8; what"),
     (1.4, 1.2, 1.7, "more noise than assumed (1.40 of its std, 1.2 to 1.7)"),
     (0.26, 0.06, 1.1, None), (0.3, 0.05, 0.8, None), (0.95, 0.93, 0.97, None)],
)  # fmt: skip
@pytest.mark.parametrize("scale", [(2.2, 1.9, 2.5), (1.1, 0.9, 1.3), (1.9, 0.95, 3.6)])
def test_noise_that_hid_a_misfit_is_named_where_the_rays_determine_it(
    scale, value, low, high, said
):
    found = factors(scale, noise=ViewBand(value, low, high, 0.1))
    sentence = grounds(held_out_scores(rays()), found)
    assert ("than assumed" in sentence) is (said is not None)
    assert said is None or said in sentence


def test_covered_rays_beside_error_bars_that_err_are_explained():
    right, hidden = held_out_scores(rays()), "which hold noise and image together"
    assert hidden in grounds(right, factors((2.2, 1.9, 2.5)))
    assert hidden not in grounds(right, factors((1.1, 0.9, 1.3)))
    assert hidden not in grounds(right, factors((1.9, 0.95, 3.6)))
    assert hidden not in grounds(held_out_scores(rays(2.2)), factors((2.2, 1.9, 2.5)))


@pytest.mark.parametrize("case", ["no signal", "one view"])
def test_an_interval_ends_where_the_search_does(case):
    data = rays(views=1) if case == "one view" else rays().at(scale=1e-4)
    found = fitted_scales(data)
    for one in (*found.scales, found.noise):
        assert RANGE[0] <= one.low <= one.value <= one.high <= RANGE[1]
    sentence = grounds(held_out_scores(data), found)
    assert "(they allow any factor)" in verdict(found) and "nan" not in sentence
    assert ("all of one view" in sentence) is (case == "one view")


def test_a_share_that_two_views_leave_open_has_no_numbers_of_its_chance():
    data = rays(views=2)
    inside = replace(data, residual=0.1 * data.residual)
    sentence = grounds(held_out_scores(inside), fitted_scales(inside))
    assert "100.0 % (of 2 views, which is too few" in sentence


def test_rays_that_cannot_be_scored_are_refused():
    one, held = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(InputError, match="at least one withheld ray"):
        WithheldRays.of(one, one, one, ~held)
    with pytest.raises(InputError, match="noise variance of each ray"):
        WithheldRays.of(one, one, 0 * one, held)
    assert WithheldRays.of(one, one, one, held).view.tolist() == [0, 0, 0, 1, 1, 1]
