"""The choice of the next view against dense algebra."""

import pytest
import torch
from cases import MODELS
from dense_model import build, relative

from pdip.errors import InputError
from pdip.posterior import Posterior
from pdip.posterior.design import CRITERIA, CandidateViews, next_views
from pdip.ray import ray_transform
from pdip.scan import ParallelBeam

EXACT = 1e-8
NOISE = 0.3
BEAM = ParallelBeam((5.0, 30.0, 62.0, 100.0, 121.0, 160.0), 11)


@pytest.fixture(scope="module")
def known():
    """The dense posterior covariance of a model, candidate views, and their exact Gaussian."""
    model, _, dense = build(MODELS["through"])
    covariance = dense.posterior_covariance
    ray = ray_transform(BEAM, model.ray.grid, engine="matrix", dtype=torch.float64)
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    root = vectors * values.clamp(min=0).sqrt()
    candidates = CandidateViews.of(ray, root.T.reshape(-1, *model.image.shape), NOISE)
    return dense, covariance, ray.dense().unflatten(0, ray.range_shape), candidates


def conditioned(covariance, rows):
    """The covariance once the rays ``rows`` are measured, dense."""
    cross = covariance @ rows.T
    inner = rows @ cross + NOISE * torch.eye(len(rows)).double()
    return covariance - cross @ torch.linalg.solve(inner, cross.T)


def gain(covariance, rows):
    """Difference of the log determinants of the data's covariance with and without the image."""
    signal = rows @ covariance @ rows.T
    noise = NOISE * torch.eye(len(rows)).double()
    return float(torch.logdet(signal + noise) - torch.logdet(noise)) / 2


def test_information_gain_is_the_difference_of_log_determinants(known):
    _, covariance, views, candidates = known
    truth = torch.tensor([gain(covariance, rows) for rows in views], dtype=torch.float64)
    assert relative(candidates.information_gain(), truth) < EXACT


def test_information_gain_is_what_the_images_entropy_falls_by(known):
    _, covariance, views, _ = known
    covariance = covariance + 1e-4 * torch.eye(len(covariance)).double()
    gains = CandidateViews(views @ torch.linalg.cholesky(covariance), NOISE).information_gain()
    for rows, found in zip(views, gains, strict=True):
        fall = torch.logdet(covariance) - torch.logdet(conditioned(covariance, rows))
        assert float(found) == pytest.approx(float(fall) / 2, rel=EXACT)


def test_predictive_variance_is_the_mean_variance_of_a_views_rays(known):
    _, covariance, views, candidates = known
    truth = torch.stack([(rows @ covariance @ rows.T).diagonal().mean() for rows in views])
    assert relative(candidates.predictive_variance(), truth + NOISE) < EXACT


def test_measured_views_condition_the_covariance_as_augmented_data_do(known):
    dense, _, views, candidates = known
    after = candidates.measured(3).measured(1)
    more = torch.cat([views[3], views[1]])
    augmented = dense.at(
        ray=torch.cat([dense.ray, more]),
        noise=torch.cat([dense.noise, torch.full((len(more),), NOISE).double()]),
    )
    flat = views.flatten(0, 1)
    truth = flat @ augmented.posterior_covariance @ flat.T
    root = after.root.flatten(0, 1)
    assert relative(root @ root.T, truth) < EXACT
    assert relative(root @ root.T, flat @ dense.posterior_covariance @ flat.T) > 0.1


@pytest.mark.parametrize("criterion", CRITERIA)
def test_greedy_choice_is_the_best_by_brute_force_at_every_step(known, criterion):
    _, covariance, views, candidates = known
    expected = []
    for _ in range(3):
        if criterion == "information_gain":
            worth = [gain(covariance, rows) for rows in views]
        else:
            worth = [float((rows @ covariance @ rows.T).trace()) for rows in views]
        for view in expected:
            worth[view] = -torch.inf
        expected.append(max(range(len(views)), key=worth.__getitem__))
        covariance = conditioned(covariance, views[expected[-1]])
    assert next_views(candidates, 3, criterion=criterion) == tuple(expected)


def test_the_order_in_which_views_are_measured_does_not_matter(known):
    candidates = known[3]
    one, other = candidates.measured(0).measured(4), candidates.measured(4).measured(0)
    assert relative(one.information_gain(), other.information_gain()) < EXACT


@pytest.mark.slow
def test_gain_of_samples_approaches_that_of_their_covariance(known):
    posterior = Posterior(*build(MODELS["through"])[:2])
    ray = ray_transform(BEAM, posterior.model.ray.grid, engine="matrix", dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    sampled = CandidateViews.sampled(
        posterior, ray, NOISE, num_samples=4000, generator=generator
    ).information_gain()
    rows, eye = known[2], posterior._floor * torch.eye(known[1].shape[0]).double()
    truth = torch.tensor([gain(known[1] + eye, view) for view in rows], dtype=torch.float64)
    assert relative(sampled, truth) < 0.02


def test_taken_views_are_not_chosen_again(known):
    candidates = known[3]
    chosen = next_views(candidates, 4, criterion="information_gain", taken=(2, 5))
    assert set(chosen) == {0, 1, 3, 4}
    with pytest.raises(InputError, match="1 to 4 views, got 5"):
        next_views(candidates, 5, criterion="information_gain", taken=(2, 5))
    with pytest.raises(InputError, match="criterion among"):
        next_views(candidates, 1, criterion="entropy")
    with pytest.raises(InputError, match="positive noise"):
        CandidateViews.of(None, candidates.root, 0.0)
