"""The recipes of the docs hold the laws of the things that they add."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_model import normal, relative
from dense_ray import dense_ray

import pdip
from pdip.baselines import BASELINES
from pdip.errors import ComputationError, InputError
from pdip.evidence import HYPERPRIORS
from pdip.linearised import gram_bases
from pdip.ray import adjoint_mismatch
from pdip.ray.engine import ENGINES
from pdip.scan import shepp_logan
from pdip.scan.formats import FORMATS
from pdip.solvers import SOLVERS, Cholesky

FOLDER = Path(__file__).parents[1] / "docs" / "recipes"
BEAM = pdip.ParallelBeam(tuple(range(0, 180, 30)), 13)
GRID = pdip.ImageGrid((9, 9))
BRIEF = {"network": {"scales": 2, "channels": 4}, "dip": {"max_steps": 20, "restarts": 1}}


@pytest.fixture
def recipe(monkeypatch):
    """A recipe as the module that it would be."""
    monkeypatch.syspath_prepend(FOLDER.parent)
    return lambda name: importlib.import_module(f"recipes.{name}")


@pytest.fixture(scope="module")
def scan():
    ray = pdip.ray_transform(BEAM, GRID)
    generator = torch.Generator().manual_seed(0)
    return pdip.simulate(shepp_logan(GRID), ray, noise_fraction=0.05, generator=generator)


@pytest.fixture(scope="module")
def fit(scan):
    ray = pdip.ray_transform(BEAM, GRID)
    network = pdip.UNet(2, 4)
    return pdip.fit_dip(scan, ray, network, noise_std=0.3, max_steps=20, restarts=1)


def test_every_recipe_is_tested():
    text = Path(__file__).read_text()
    untested = [path.stem for path in FOLDER.glob("*.py") if f'recipe("{path.stem}")' not in text]
    assert not untested


def test_prior_is_its_dense_covariance(recipe):
    network = pdip.UNet(2, 4, skip_channels=2)
    prior = recipe("prior").filter_sum_prior(network)
    prior = prior.at(prior.log_hyperparameters + 0.5 * normal(len(prior.names)))
    average = torch.full((9, 9), 1 / 9, dtype=torch.float64)
    blocks = []
    split = prior.split(prior.log_hyperparameters)
    for size, log_h in zip(prior.sizes, split, strict=True):
        if len(log_h) == 1:
            blocks.append(log_h.exp() * torch.eye(size))
        else:
            v, u = log_h.exp()
            blocks += [v * (torch.eye(9) - average) + u * average] * (size // 9)
    dense = torch.block_diag(*blocks)
    vector, rows = normal(len(dense)), normal(5, len(dense), seed=1)
    root = prior.root_apply(torch.eye(len(dense)).double())
    assert relative(prior.covariance_apply(vector), dense @ vector) < 1e-12
    assert relative(root.mT @ root, dense) < 1e-12
    assert relative(prior.quadratic(vector), vector @ torch.linalg.solve(dense, vector)) < 1e-10
    assembled = torch.tensordot(prior.coefficients(), gram_bases(rows, prior), 1)
    assert relative(assembled, rows @ dense @ rows.mT) < 1e-12


@pytest.mark.slow
def test_prior_goes_through_evidence_and_posterior(recipe, scan, fit):
    ray = pdip.ray_transform(BEAM, GRID)
    model = pdip.linearise(fit, ray, recipe("prior").filter_sum_prior(fit.network))
    found = pdip.optimise_evidence(model, scan)
    assert float(found.log_evidence) > float(pdip.log_evidence(model, scan))
    assert bool((pdip.Posterior(found.model, scan).std() > 0).all())


@pytest.mark.slow
def test_hyperprior_is_named_in_settings_and_pulls(recipe, scan, monkeypatch):
    monkeypatch.setitem(HYPERPRIORS, "log_normal", recipe("hyperprior").LogNormal)
    tight = {"name": "log_normal", "centre": -2.0, "width": 1e-3}
    result = pdip.reconstruct(scan, {**BRIEF, "evidence": {"hyperprior": tight}})
    chosen = result.evidence[0].model.prior.log_hyperparameters
    assert chosen.numpy() == pytest.approx(-2.0, abs=1e-2)


@pytest.mark.slow
def test_solver_is_named_in_settings_and_agrees_with_cholesky(recipe, scan, monkeypatch):
    monkeypatch.setitem(SOLVERS, "eigen", recipe("solver").Eigen)
    std = [
        pdip.reconstruct(scan, {**BRIEF, "evidence": {"solver": name, "max_evaluations": 5}}).std
        for name in ("eigen", "cholesky")
    ]
    assert relative(*std) < 1e-6


def test_solver_is_that_of_the_dense_inverse(recipe):
    root = normal(7, 7)
    matrix, columns = root @ root.mT + torch.eye(7), normal(7, 3, seed=1)
    factor = recipe("solver").Eigen().factorise(matrix)
    exact = Cholesky().factorise(matrix)
    assert relative(factor.solve(columns).value, exact.solve(columns).value) < 1e-10
    assert factor.solve(columns).converged
    assert relative(factor.whiten(columns).norm(), exact.whiten(columns).norm()) < 1e-10
    assert relative(factor.log_determinant(), exact.log_determinant()) < 1e-10
    with pytest.raises(ComputationError, match="eigenvalues within a factor"):
        recipe("solver").Eigen().factorise(matrix * 0 + 1)


@pytest.mark.parametrize(
    "geometry",
    [BEAM, pdip.FanBeam((0.0, 50.0, 200.0), 13, 1.5, 30.0, 12.0, detector_shift_mm=0.6)],
    ids=["parallel", "fan"],
)
def test_engine_is_the_ray_transform(recipe, geometry, monkeypatch):
    monkeypatch.setitem(ENGINES, "sampled", "recipes.engine:SampledEngine")
    recipe("engine")
    ray = pdip.ray_transform(geometry, GRID, engine="sampled", dtype=torch.float64)
    assert adjoint_mismatch(ray, generator=torch.manual_seed(0)) < 1e-12
    # A nearest pixel in place of a line through it: right where neighbours are alike.
    smooth = torch.ones(GRID.shape).double()
    truth = dense_ray(geometry, GRID, "line") @ smooth.flatten().numpy()
    error = ray.forward(smooth).flatten().numpy() - truth
    assert np.abs(error).max() < GRID.pixel_mm
    assert np.abs(error).mean() < 0.03 * np.abs(truth).mean()


def test_file_format_is_read_with_its_sidecar(recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, ".csv", recipe("file_format").read_csv)
    sinogram = normal(3, 5).abs().numpy()
    np.savetxt(tmp_path / "scan.csv", sinogram, delimiter=",")
    (tmp_path / "scan.yaml").write_text(
        "geometry: parallel\nangles_deg: [0, 60, 120]\ndet_pixel_mm: 2\n"
    )
    read = pdip.read_scan(tmp_path / "scan.csv")
    assert read.sinogram.numpy() == pytest.approx(sinogram)
    assert read.geometry.detector_pitch_mm == 2
    (tmp_path / "scan.csv").write_text("1,2\n3,x\n")
    with pytest.raises(InputError, match="numbers separated by commas"):
        pdip.read_scan(tmp_path / "scan.csv")


def test_metric_is_zero_inside_and_that_of_a_gaussian(recipe):
    excess = recipe("metric").mean_excess
    mean, std = torch.zeros(2), torch.ones(2)
    assert excess(mean, std, torch.tensor([1.9, -1.9])) == 0
    assert excess(mean, std, torch.tensor([2.96, 0.0])) == pytest.approx(0.5)
    errors = normal(400_000)
    found = excess(torch.zeros_like(errors), torch.ones_like(errors), errors)
    assert found == pytest.approx(0.0189, abs=4e-4)


def test_baseline_is_the_spread_of_repeated_noise(recipe, scan, fit, monkeypatch):
    monkeypatch.setitem(BASELINES, "noise_through_fbp", recipe("baseline").NoiseThroughFBP)
    ray = pdip.ray_transform(BEAM, GRID)
    posterior = BASELINES["noise_through_fbp"]().posterior(scan, ray, fit)
    noise = fit.noise_std * torch.randn(4000, *BEAM.shape, generator=torch.manual_seed(0))
    spread = pdip.fbp(ray, scan.sinogram + noise).double().std(0)
    assert relative(posterior.std(), spread) < 0.03


def test_network_is_fitted_and_linearised(recipe, scan):
    ray = pdip.ray_transform(BEAM, GRID)
    network = recipe("network").DilatedNet(2, 4)
    fit = pdip.fit_dip(scan, ray, network, noise_std=0.3, max_steps=20, restarts=2)
    assert all(type(one.network) is type(network) for one in fit.restarts)
    model = pdip.linearise(fit, ray, pdip.unet_prior(fit.network))
    assert model.prior.names[0] == "block0.log_variance"
    assert bool((pdip.Posterior(model, scan).std() > 0).all())
