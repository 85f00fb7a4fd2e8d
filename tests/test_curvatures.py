"""Laws of the baselines around the same linearised network, against dense algebra."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from cases import ANGLES
from dense_model import DenseModel, network_fit, normal, relative
from test_posterior_laws import dense_posterior
from torch import nn

from pdip.baselines import (
    BASELINES,
    KFAC,
    Diagonal,
    FactorisedPrior,
    GPrior,
    LastLayer,
    Subnetwork,
)
from pdip.baselines.g_prior import MacKay
from pdip.baselines.kfac import kronecker_factors
from pdip.baselines.laplace import LaplaceEvidence
from pdip.baselines.linearised import Linearised, ScaledGroup, ray_rows
from pdip.dip import UNet
from pdip.errors import ComputationError, InputError
from pdip.evidence import NetworkWeights, Profile, log_evidence
from pdip.evidence.data import Data
from pdip.posterior import Posterior
from pdip.ray import ray_transform
from pdip.scan import ImageGrid, ParallelBeam, Scan

EXACT = 1e-8
NETWORK = UNet(2, 2, skip_channels=1, image_scale=0.8)
TINY = UNet(1, 2)
NAMES = [name for name, baseline in BASELINES.items() if issubclass(baseline, Linearised)]


@cache
def fitted(networks=(NETWORK,), shape=(8, 9), angles=ANGLES):
    """A scan with unequal weights, its ray transform, and a fit of one restart a network."""
    ray = ray_transform(ParallelBeam(angles, 11), ImageGrid(shape), dtype=torch.float64)
    fits = [network_fit(network, shape) for network in networks]
    sinogram = ray.forward(fits[0].image) + 0.3 * normal(*ray.range_shape, seed=1)
    weights = 0.5 + normal(*ray.range_shape, seed=2).abs()
    weights[0, 3:5] = 0
    scan = Scan(sinogram, ray.geometry, ray.grid, weights)
    return scan, ray, replace(fits[0], alternatives=tuple(fits[1:]))


def dense_truth(model, scan):
    """The dense model at the model's slopes, with the scale of each weight in its covariance."""
    scale = torch.cat(
        [
            group.scale if isinstance(group, ScaledGroup) else torch.ones(size).double()
            for group, size in zip(model.prior.groups, model.prior.sizes, strict=True)
        ]
    )
    dense = DenseModel.of(model, scan)
    covariance = scale[:, None] * dense.covariance * scale
    return dense.at(covariance=covariance, slope=model.slope.flatten())


@cache
def laplace(baseline, **setting):
    """The model, its curvature, and what both are in dense algebra."""
    scan, ray, fit = fitted(**setting)
    model, curvature = baseline.laplace(scan, ray, fit)
    dense = dense_truth(model, scan)
    rows = (dense.ray * dense.slope) @ dense.jacobian
    ggn = rows.T @ (rows / dense.noise[:, None])
    return model, curvature, dense, ggn


def check_curvature(baseline, precision, **setting):
    """Its predictive and determinant are those of a dense GGN over the noise variance."""
    model, curvature, dense, _ = laplace(baseline, **setting)
    covariance = torch.linalg.inv(precision + torch.linalg.inv(dense.covariance))
    latent = dense.jacobian @ covariance @ dense.jacobian.T
    assert relative(curvature.latent_covariance(model), latent) < EXACT
    eye = torch.eye(len(precision)).double()
    volume = torch.logdet(eye + dense.covariance @ precision)
    assert relative(curvature.log_determinant(model), volume) < EXACT


@cache
def around(baseline):
    """The posterior of the only restart."""
    (found,) = baseline.posterior(*fitted()).posteriors
    return found


class Halves(nn.Module):
    """``h = z (a + b)`` on the two sides of an image: two weights, as one block each."""

    def __init__(self):
        super().__init__()
        self.left, self.out = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)

    def forward(self, z):
        side = torch.zeros_like(z)
        side[:, :2], side[:, -2:] = 1, -1
        left, right = (side > 0).to(z) * z, (side < 0).to(z) * z
        return self.left(left[None])[0] + self.out(right[None])[0]


def halves():
    """A network whose weights are seen by different rays of a single upright view."""
    network = UNet(1, 1)
    network.body = Halves()
    return {"networks": (network,), "angles": (0.0,)}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_baseline_is_a_reproducible_gaussian_around_the_images_of_the_fit(name):
    scan, ray, fit = fitted((TINY, TINY.like(seed=1)))
    once = BASELINES[name]().posterior(scan, ray, fit, seed=3)
    again = BASELINES[name]().posterior(scan, ray, replace(fit, alternatives=()), seed=3)
    assert once.std().shape == fit.image.shape
    assert bool((once.std() > 0).all() and torch.isfinite(once.std()).all())
    assert torch.equal(once.posteriors[0].std(), again.posteriors[0].std())
    centre = torch.stack([restart.image for restart in fit.restarts]).mean(0)
    assert relative(once.image, centre) < EXACT
    assert relative(once.covariance().diagonal().sqrt(), once.std().flatten()) < EXACT


@pytest.mark.parametrize("name", ["diagonal", "kfac", "g_prior"])
def test_a_dense_jacobian_of_many_pixels_is_refused(name, monkeypatch):
    monkeypatch.setattr("pdip.baselines.linearised.MAX_STORED_PIXELS", 71)
    with pytest.raises(InputError, match="72"):
        BASELINES[name]().posterior(*fitted())


def test_diagonal_is_the_diagonal_of_the_dense_ggn():
    *_, ggn = laplace(Diagonal())
    check_curvature(Diagonal(), torch.diag(ggn.diagonal()))


@pytest.mark.parametrize("baseline", [Diagonal(), KFAC()], ids=repr)
def test_the_covariance_is_pushed_through_the_activation_as_by_the_main_path(baseline):
    scan, _, fit = fitted()
    model, curvature, *_ = laplace(baseline)
    found = around(baseline)
    latent = curvature.latent_covariance(model)
    exact = Posterior(model, scan)
    exact.pre_activation_variance = latent.diagonal().reshape(8, 9)
    _, slope, unexplained = (part.flatten() for part in exact._pushed)
    covariance = slope[:, None] * latent * slope + torch.diag(unexplained)
    floor = (5e-3 * fit.network.image_scale) ** 2 * torch.eye(72)
    assert relative(found.covariance(), covariance + floor) < EXACT


def test_diagonal_is_exact_where_different_rays_see_different_weights():
    setting = halves()
    scan, ray, fit = fitted(**setting)
    model, curvature, _, ggn = laplace(Diagonal(), **setting)
    assert abs(float(ggn[0, 1])) < 1e-12 < float(ggn.diagonal().min())
    exact = Posterior(model, scan).covariance()
    assert relative(Diagonal().posterior(scan, ray, fit).covariance(), exact) < EXACT
    truth = log_evidence(model, scan, objective=NetworkWeights())
    assert relative(log_evidence(model, scan, objective=LaplaceEvidence(curvature)), truth) < EXACT


def dense_kronecker(model, data):
    """Block-diagonal Γ ⊗ Ω in the order of the weights."""
    factors = kronecker_factors(model.jacobian, ray_rows(model, data))
    return torch.block_diag(*(torch.kron(factors[n][1], factors[n][0]) for n in factors))


def test_kfac_is_its_kronecker_factors_in_dense_algebra():
    scan, ray, _ = fitted()
    model, *_ = laplace(KFAC())
    ggn = dense_kronecker(model, Data.of(scan, ray)) / float(model.noise_variance)
    check_curvature(KFAC(), ggn)


def test_kfac_is_the_ggn_of_each_convolution_at_a_single_position():
    setting = {"networks": (UNet(2, 3, skip_channels=2),), "shape": (1, 1)}
    scan, ray, _ = fitted(**setting)
    model, _, _, ggn = laplace(KFAC(), **setting)
    kronecker = dense_kronecker(model, Data.of(scan, ray)) / float(model.noise_variance)
    start = 0
    for shape in model.jacobian.shapes:
        block = slice(start, start + shape.numel())
        start = block.stop
        assert relative(kronecker[block, block], ggn[block, block]) < EXACT


def test_kronecker_factors_are_those_of_curvlinops():
    curvlinops = pytest.importorskip("curvlinops")
    scan, ray, fit = fitted()
    model, *_ = laplace(KFAC())
    rows = ray_rows(model, Data.of(scan, ray))

    class Rays(nn.Module):
        """The whitened rays of h, linear in h as the GGN sees them."""

        def __init__(self):
            super().__init__()
            self.body = fit.network.body

        def forward(self, z):
            return self.body(z).flatten(1) @ rows.T

    network = Rays()
    network.load_state_dict(fit.params)
    weights = dict(network.named_parameters())
    truth = curvlinops.KFACLinearOperator(
        network,
        nn.MSELoss(reduction="sum"),
        [weights[name] for name in model.jacobian.names],
        [(fit.network_input[None], torch.zeros(1, len(rows)).double())],
        fisher_type="type-2",
        check_deterministic=False,
    )
    found = dense_kronecker(model, Data.of(scan, ray))
    # The Hessian of a sum of squares is 2 I.
    assert relative(2 * found, truth @ torch.eye(len(found)).double()) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("baseline", [LastLayer(), FactorisedPrior(), Subnetwork(40), GPrior()],
                         ids=repr)  # fmt: skip
def test_exact_baselines_are_dense_algebra(baseline):
    scan, ray, _ = fitted()
    found = around(baseline)
    dense = dense_truth(found.model, scan)
    covariance = Data.of(scan, ray).covariance(found.model)
    assert relative(covariance, dense.sinogram_covariance) < EXACT
    mean, covariance = dense_posterior(found, dense)
    assert relative(found.mean.flatten(), mean) < EXACT
    assert relative(found.covariance(), covariance) < EXACT


def test_last_layer_is_uncertain_in_the_output_convolution_alone():
    model = around(LastLayer()).model
    assert model.prior.parameters == ("body.out.weight",)
    assert model.names == ("out.log_variance", "log_noise_variance")


def test_a_subnetwork_of_all_weights_is_the_factorised_prior():
    whole = around(Subnetwork(10**6)).covariance()
    assert relative(whole, around(FactorisedPrior()).covariance()) < EXACT


def test_a_subnetwork_is_the_posterior_of_the_weights_that_move_the_image_most():
    scan, *_ = fitted()
    found = around(Subnetwork(40)).model
    chosen = torch.cat([group.scale for group in found.prior.groups]) > 0
    _, _, diagonal, ggn = laplace(Diagonal())
    variances = 1 / (ggn.diagonal() + 1 / diagonal.covariance.diagonal())
    shares = variances * (diagonal.slope[:, None] * diagonal.jacobian).square().sum(0)
    assert int(chosen.sum()) == 40
    assert float(shares[chosen].min()) >= float(shares[~chosen].max())
    dense = dense_truth(found, scan)
    rows = ((dense.ray * dense.slope) @ dense.jacobian)[:, chosen]
    precision = rows.T @ (rows / dense.noise[:, None])
    precision += torch.diag(1 / dense.covariance.diagonal()[chosen])
    jacobian = dense.jacobian[:, chosen]
    latent = jacobian @ torch.linalg.solve(precision, jacobian.T)
    variance = Posterior(found, scan).pre_activation_variance
    assert relative(variance.flatten(), latent.diagonal()) < EXACT


def test_a_scaled_group_is_its_dense_covariance():
    scale = normal(7).abs()
    scale[2] = 0
    group, log_h = ScaledGroup("block", ("weight",), scale), torch.tensor([0.4]).double()
    dense = log_h.exp() * torch.diag(scale.square())
    eye, rows, vector = torch.eye(7).double(), normal(5, 7, seed=1), normal(7, seed=2)
    assert relative(group.apply(log_h, eye), dense) < EXACT
    root = group.apply_root(log_h, eye)
    assert relative(root @ root.T, dense) < EXACT
    assert relative(group.coefficients(log_h) * group.gram_bases(rows)[0],
                    rows @ dense @ rows.T) < EXACT  # fmt: skip
    free = scale > 0
    truth = (vector.square() / dense.diagonal())[free].sum()
    assert relative(group.quadratic(log_h, vector), truth) < EXACT


def test_the_g_prior_maximises_the_evidence_of_the_linear_model():
    scan, *_ = fitted()
    model = around(GPrior(gradient_tolerance=1e-6)).model

    def value(step):
        point = model.log_hyperparameters + torch.tensor([step, 0.0]).double()
        return float(log_evidence(model.at(point), scan, objective=Profile()))

    assert abs(value(1e-4) - value(-1e-4)) / 2e-4 < 1e-5
    assert value(0.0) > max(value(-0.1), value(0.1)) + 1e-3


def test_the_g_prior_scales_weights_so_that_the_rays_see_each_of_them_alike():
    scan, ray, _ = fitted()
    model = around(GPrior()).model
    dense = dense_truth(model, scan)
    rows = (dense.ray * dense.slope) @ dense.jacobian * model.prior.groups[0].scale
    whitened = rows / (dense.noise / float(model.noise_variance)).sqrt()[:, None]
    square = whitened.square().mean(0)
    assert relative(square, torch.ones_like(square)) < EXACT


def test_samples_estimate_the_effective_dimension():
    values, residual = normal(30).square(), normal(30, seed=1)
    draws = normal(2, 2000, 30, seed=2)
    exact = MacKay(values, residual, 0.3, None).dimension(0.7)
    each = [MacKay(values, residual, 0.3, d[:, None]).dimension(0.7) for d in draws.unbind(1)]
    each = torch.tensor(each)
    error = float(each.std() / len(each) ** 0.5)
    assert abs(float(each.mean()) - exact) < 4 * error < 0.1 * exact
    together = MacKay(values, residual, 0.3, draws).dimension(0.7)
    assert together == pytest.approx(float(each.mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("residual", "settings"),
    [(torch.zeros(30), (1e-3, 100)), (3 * normal(30, seed=1), (1e-12, 2))],
    ids=["no signal", "no time"],
)
def test_a_g_that_does_not_converge_is_an_error(residual, settings):
    search = MacKay(normal(30).square(), residual.double(), 0.3, None)
    with pytest.raises(ComputationError, match="converge"):
        search.run(*settings)


def test_settings_out_of_range_are_refused():
    for wrong in ({"num_samples": 0}, {"gradient_tolerance": 0.0}, {"max_steps": 0}):
        with pytest.raises(InputError):
            GPrior(**wrong)
    with pytest.raises(InputError):
        Subnetwork(num_weights=0)
