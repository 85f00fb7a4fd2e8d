"""Where all solvers fit, they agree: the same evidence, hyperparameters and std, from one fit."""

import math
from dataclasses import replace

import pytest
import torch
from dense_model import relative

from pdip.dip import UNet, fit_dip
from pdip.evidence import NetworkWeights, Profile, optimise_evidence
from pdip.evidence.data import Data
from pdip.linearised import linearise, unet_prior
from pdip.posterior import Posterior
from pdip.ray import ray_transform
from pdip.scan import ImageGrid, ParallelBeam, shepp_logan, simulate
from pdip.solvers import CG, Cholesky, Projected

pytestmark = pytest.mark.slow
SOLVERS = {"projected": Projected(), "cg": CG()}


@pytest.fixture(scope="module")
def problem():
    """A model around a short fit of a small network to 820 rays, and its scan."""
    angles = [9.0 * view for view in range(20)]
    ray = ray_transform(ParallelBeam(angles, 41, 0.97), ImageGrid((28, 28)))
    generator = torch.Generator().manual_seed(0)
    scan = simulate(shepp_logan(ray.grid), ray, noise_fraction=0.05, generator=generator)
    network = UNet(3, 8, skip_channels=2, activation="none", image_scale=0.05)
    fit = fit_dip(scan, ray, network, start="tv", max_steps=100, restarts=1)
    model = linearise(fit, ray, unet_prior(fit.network))
    return model, scan


@pytest.fixture(scope="module")
def exact(problem):
    model, scan = problem
    found = optimise_evidence(model, scan, solver=Cholesky())
    return found, Posterior(found.model, scan, Cholesky()).std()


def gradient(objective, model, data, solver):
    point = model.log_hyperparameters.detach().requires_grad_()
    found = objective.estimate(model.at(point), data, solver)
    return found, torch.autograd.grad(found.value, point)[0]


@pytest.mark.parametrize("name", SOLVERS)
def test_search_ends_at_the_same_evidence_and_std(name, problem, exact):
    model, scan = problem
    found = optimise_evidence(model, scan, solver=SOLVERS[name])
    assert found.converged and found.worst_residual < 1e-3
    assert abs(found.log_evidence - exact[0].log_evidence) < 1e-3 * abs(exact[0].log_evidence)
    posterior = Posterior(found.model, scan, SOLVERS[name])
    assert relative(posterior.std(), exact[1]) < 0.03
    assert posterior.solution.converged
    assert posterior.model.measurement.num_rows < scan.sinogram.numel()


@pytest.mark.parametrize("objective", [NetworkWeights(), Profile()], ids=["weights", "profile"])
def test_gradients_of_conjugate_gradients_are_unbiased(objective, problem, exact):
    """At a low rank, where the probes have something to say."""
    found, scan = exact[0], problem[1]
    data, solver = Data.of(scan, found.model.ray), CG(preconditioner=Projected(rank=96))
    _, truth = gradient(objective, found.model.compressed(None), data, Cholesky())
    _, crude = gradient(objective, data.observed(found.model, solver), data, Projected())
    model, draws = data.observed(found.model, solver), []
    for seed in range(6):
        draws.append(gradient(objective, model, data, replace(solver, seed=seed))[1])
    draws = torch.stack(draws)
    error = draws.std(0) / math.sqrt(len(draws))
    chosen = (crude - truth).abs().argmax()  # where compressed data are most wrong
    assert abs(draws[:, chosen].mean() - truth[chosen]) < 4 * error[chosen]
    assert abs(crude[chosen] - truth[chosen]) > 10 * error[chosen]
    assert ((draws.mean(0) - truth).abs() / (error + 1e-3)).max() < 4 * 2.5  # of six draws
