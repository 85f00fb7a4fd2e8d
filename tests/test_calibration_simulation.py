"""Ranks, expected coverage, repeated noise and bands, on Gaussians whose answers are known."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from pdip import calibration
from pdip.calibration import bands
from pdip.calibration.bands import block_pixels
from pdip.errors import InputError

SIMULATIONS, SAMPLES, PIXELS = 500, 99, 6
RED = 6e-5  # what a standard normal leaves beyond 4 on both sides


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def conjugate(widen=1.0, shift=0.0):
    """Truths x ~ N(0, 1) measured once as x + N(0, 1/4), and samples of their posterior.

    Its variance is 1 / (1 + 4) and its mean 4/5 of the measurement; ``widen`` and ``shift`` spoil
    them.
    """
    truths = normal(SIMULATIONS, PIXELS)
    measured = truths + 0.5 * normal(SIMULATIONS, PIXELS, seed=1)
    draws = widen * 0.2**0.5 * normal(SAMPLES, SIMULATIONS, PIXELS, seed=2)
    return 0.8 * measured + shift + draws, truths


def credibilities(samples, truths, references):
    return torch.tensor([
        calibration.credibility(samples[:, i], truths[i], references[i])
        for i in range(len(truths))
    ])  # fmt: skip


def test_ranks_of_truths_from_the_prior_are_uniform():
    def p_of(samples, truths):
        rank = calibration.ranks(samples, truths)[:, 0]
        return calibration.uniformity((rank + 0.5) / (SAMPLES + 1)).chi_squared_p

    assert p_of(*conjugate()) > RED
    assert p_of(*conjugate(widen=0.7)) < RED
    assert p_of(*conjugate(widen=1.6)) < RED
    assert p_of(*conjugate(shift=0.2)) < RED


def test_credibilities_of_truths_from_the_prior_are_uniform():
    references = normal(SIMULATIONS, PIXELS, seed=3)
    for widen, right in ((1.0, True), (0.7, False), (1.6, False)):
        found = credibilities(*conjugate(widen), references)
        assert (calibration.uniformity(found).kolmogorov_p > RED) == right
        curve = calibration.expected_coverage(found)
        worst = ((curve.empirical - curve.levels) / curve.standard_error).abs().max()
        assert worst < 4 if right else worst > 10


def test_expected_coverage_agrees_with_tarp():
    tarp = pytest.importorskip("tarp")
    samples, truths = conjugate(widen=0.8)
    references = normal(SIMULATIONS, PIXELS, seed=3)
    other, levels = tarp.get_tarp_coverage(
        samples.numpy(), truths.numpy(), references.numpy(), norm=False, num_alpha_bins=17
    )
    own = calibration.expected_coverage(
        credibilities(samples, truths, references), tuple(levels[1:])
    )
    assert np.allclose(own.empirical, other[1:], atol=1e-12)


def test_uniformity_is_that_of_scipy():
    values = torch.rand(300, generator=torch.Generator().manual_seed(0))
    found = calibration.uniformity(values, bins=6)
    assert found.counts.sum() == 300
    assert found.chi_squared == pytest.approx(float(((found.counts - 50) ** 2 / 50).sum()))
    assert found.chi_squared_p == pytest.approx(scipy.stats.chi2(5).sf(found.chi_squared))
    with pytest.raises(InputError, match="between 0 and 1"):
        calibration.uniformity(values + 0.5)


def test_repeated_noise_splits_the_error_into_spread_and_bias():
    truth, spread, bias = normal(20, 21), 0.3, 0.4
    images = truth + bias + spread * normal(40, 20, 21, seed=1)
    found = calibration.repeated_noise(images, torch.full_like(images, 0.5), truth)
    error = spread / math.sqrt(2 * 40 * 420)
    assert abs(found.spread - spread) < 4 * error
    assert abs(found.bias - bias) < 4 * spread / math.sqrt(40 * 420)
    total = math.sqrt(found.spread**2 * 39 / 40 + (images.mean(0) - truth).square().mean())
    assert found.error == pytest.approx(total, rel=1e-12)
    assert found.claimed == pytest.approx(0.5) and found.ratio == pytest.approx(1, rel=0.02)
    assert found.spread_map.shape == truth.shape
    unbiased = calibration.repeated_noise(images - bias, torch.full_like(images, 0.5), truth)
    assert unbiased.bias < 0.02
    with pytest.raises(InputError, match="at least 2 draws"):
        calibration.repeated_noise(images[:1], images[:1], truth)


def mean_of(values):
    return float(values.mean())


def test_band_over_images_is_that_of_scipy():
    scores = normal(40).exp()
    found = calibration.bootstrap(
        mean_of, scores, resamples=4000, generator=torch.Generator().manual_seed(0)
    )
    other = scipy.stats.bootstrap(
        (scores.numpy(),), np.mean, method="percentile", n_resamples=4000, rng=0
    )
    assert found.value == pytest.approx(mean_of(scores))
    assert found.standard_error == pytest.approx(float(scores.std()) / math.sqrt(40), rel=0.05)
    assert found.standard_error == pytest.approx(other.standard_error, rel=0.05)
    for own, its in zip((found.low, found.high), other.confidence_interval, strict=True):
        assert own == pytest.approx(its, abs=0.15 * other.standard_error)


def test_band_over_blocks_knows_that_pixels_are_correlated():
    """Of squares of 4 x 4 equal pixels: the error of the mean is that of 1/16 as many pixels."""
    image = normal(24, 24).repeat_interleave(4, 0).repeat_interleave(4, 1)
    truth = float(image.std()) / 24

    def error(block):
        generator = torch.Generator().manual_seed(0)
        return calibration.bootstrap(
            mean_of, image, block=block, generator=generator
        ).standard_error

    assert error(1) == pytest.approx(truth / 4, rel=0.15)
    assert error(12) == pytest.approx(truth, rel=0.25)


def test_blocks_are_squares_wrapped_at_the_border():
    index = block_pixels(7, 5, 3, torch.Generator().manual_seed(0))
    assert len(index) == 35 and index.max() < 35
    for block in index.split(9)[:-1]:
        row, column = (block // 5).reshape(3, 3), (block % 5).reshape(3, 3)
        assert ((row[1:] - row[:-1]) % 7 == 1).all()
        assert ((column[:, 1:] - column[:, :-1]) % 5 == 1).all()
    tensors = normal(8, 9), normal(8, 9, seed=1)
    paired = calibration.bootstrap(
        lambda a, b: mean_of(a - b), tensors[0], tensors[0], block=4,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert paired.low == paired.high == 0


def test_what_cannot_be_resampled_is_refused():
    for tensors, block in (((), None), ((normal(3), normal(4)), None), ((normal(3),), 2),
                           ((normal(3, 4), normal(4, 3)), 2), ((normal(3, 4),), 0),
                           ((normal(6, 8),), 4)):  # fmt: skip
        with pytest.raises(InputError, match="expected"):
            bands.check(tensors, block)
