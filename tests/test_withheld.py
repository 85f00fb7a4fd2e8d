"""Laws of withheld rays: their variances are ``diag(A Cov Aᵀ) + σ² / w``, their z normal."""

import json

import pytest
import torch
from cases import MODELS
from dense_model import build, normal, relative

import pdip
from pdip import withheld
from pdip.calibration import held_out_scores
from pdip.calibration_check import region_numbers
from pdip.posterior import Posterior, SavedPosterior
from pdip.report import draw_held_out, held_out_record, stored_map
from pdip.scan import ImageGrid, ParallelBeam, Scan
from pdip.withheld import signal_covariances, withheld_rays

NOISE_STD = 0.7
SIDE, ANGLES = 8, (10.0, 55.0, 100.0, 145.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def known():
    """A Gaussian of 8 x 8 pixels by its covariance, a ray transform, and weights, one of them 0."""
    grid, beam = ImageGrid((SIDE, SIDE)), ParallelBeam(ANGLES, 12)
    ray = pdip.ray_transform(beam, grid, dtype=torch.float64)
    root = normal(SIDE**2, SIDE**2, seed=1) / SIDE
    covariance, image = root @ root.mT, normal(SIDE, SIDE, seed=2)
    std = covariance.diagonal().sqrt().reshape(SIDE, SIDE)
    weights = 0.5 + normal(*ray.range_shape, seed=3).abs()
    weights[1, 5] = 0
    tensors = {"image": image, "mean": image, "std": std, "covariance": covariance}
    return SavedPosterior(tensors), ray, root, weights


def measured(known, truth, seed):
    """What is said of a noisy scan of this truth."""
    posterior, ray, _, weights = known
    noise = NOISE_STD * normal(*ray.range_shape, seed=seed) / weights.sqrt()
    sinogram = torch.where(weights > 0, ray.forward(truth) + noise, 0)
    scan = Scan(sinogram, ray.geometry, ray.grid, weights)
    return scan, withheld_rays(posterior, scan, ray, NOISE_STD, generator=seeded())


def test_residual_and_variances_are_those_of_dense_algebra(known):
    posterior, ray, root, weights = known
    scan, rays = measured(known, posterior.image + 1, seed=4)
    used, dense = weights.flatten() > 0, ray.dense()
    residual = scan.sinogram.flatten() - dense @ posterior.image.flatten()
    assert rays.num_rays == int(used.sum()) == weights.numel() - 1
    assert relative(rays.residual, residual[used]) < 1e-8
    assert relative(rays.signal_variance, (dense @ root).square().sum(1)[used]) < 1e-8
    assert relative(rays.noise_variance, NOISE_STD**2 / weights.flatten()[used]) < 1e-8
    assert rays.view.tolist() == (used.nonzero()[:, 0] // 12).tolist()


@pytest.mark.slow
def test_z_is_standard_normal_where_the_truth_is_drawn_from_the_posterior(known):
    posterior, _, root, _ = known
    chi_squared, shares = [], []
    for seed in range(100):
        truth = posterior.image + (root @ normal(SIDE**2, seed=1000 + seed)).reshape(SIDE, SIDE)
        scores = held_out_scores(measured(known, truth, seed=5000 + seed)[1]).predicted
        chi_squared.append(scores.chi_squared.value)
        shares.append(scores.coverage[0.95].value)
    for found, expected, wrong in ((chi_squared, 1, 1.5), (shares, 0.95, 0.8)):
        found = torch.tensor(found)
        error = float(found.std()) / len(found) ** 0.5
        assert abs(float(found.mean()) - expected) < 4 * error
        assert abs(wrong - expected) > 10 * error


def test_samples_say_what_the_covariance_says_where_it_is_not_kept():
    """41 x 41 pixels are too many to keep their covariance: ``DᵀD / 6`` of six deviations."""
    grid, beam = ImageGrid((41, 41)), ParallelBeam(ANGLES, 39)
    ray = pdip.ray_transform(beam, grid, dtype=torch.float64)
    deviations, image = normal(6, 41, 41, seed=1).float(), normal(41, 41, seed=2).float()
    std = deviations.square().mean(0).sqrt()
    tensors = {"image": image, "mean": image, "std": std, "deviations": deviations}
    scan, count = Scan(ray.forward(image.double()) + 1, beam, grid), 4096
    arguments = SavedPosterior(tensors), scan, ray, NOISE_STD
    rays = withheld_rays(*arguments, samples=count, generator=seeded())
    truth = ray.forward(deviations.double()).square().mean(0).flatten()
    error = (2 / count) ** 0.5 * truth
    assert float(((rays.signal_variance - truth) / error).abs().max()) < 4
    assert float((0.75 * truth / error).min()) > 10  # a std of half the size is seen
    assert relative(rays.residual, torch.ones_like(truth)) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("most", [10_000, 0], ids=["exact", "samples"])
def test_variances_of_regions_are_those_of_the_covariance(most, monkeypatch):
    monkeypatch.setattr(withheld, "MAX_DENSE_PIXELS", most)
    model, scan, _ = build(MODELS["before"])
    posterior = Posterior(model, scan)
    number = region_numbers("object", model.image, posterior.std())
    parts = signal_covariances(posterior, model.ray, number, samples=2048, generator=seeded())
    dense, covariance = model.ray.dense(), posterior.covariance()
    tolerance = 1e-8 if most else 0.2
    total = (dense @ covariance * dense).sum(1)
    assert relative(parts.sum((0, 1)).flatten(), total) < tolerance
    first = dense * (number == 0).flatten()
    assert relative(parts[0, 0].flatten(), (first @ covariance * first).sum(1)) < tolerance


def test_the_figure_shows_the_scores_and_quantiles_of_its_record(known):
    posterior = known[0]
    rays = measured(known, posterior.image + 0.2, seed=4)[1]
    record = json.loads(json.dumps(held_out_record(rays), allow_nan=False))
    chi_squared = float(rays.z.square().mean())
    assert record["predicted"]["chi_squared"]["value"] == pytest.approx(chi_squared)
    observed = record["z_quantiles"]["observed"]
    assert observed == pytest.approx(
        [float(rays.z.quantile(k / 100)) for k in range(1, 100)], rel=1e-9
    )
    maps = {"image": stored_map(posterior.image), "std": stored_map(posterior.std())}
    row = {"name": "known", "half_mm": 4.0, "held_out": record, **maps}
    *_, histogram, quantiles = (a for a in draw_held_out([row]).axes if a.get_title())
    assert histogram.get_title() == f"reduced χ² {chi_squared:.2f}"
    inside = float((rays.z.abs() < 1.959964).double().mean())
    assert quantiles.get_title() == f"coverage of 95 %: {inside:.3f}"
    assert quantiles.lines[0].get_ydata() == pytest.approx(observed)
