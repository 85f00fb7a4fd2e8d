"""Every baseline answers as the main path does; what each claims is a law here."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch
from dense_model import dense_jacobian, dense_prior_covariance, relative
from torch.distributions import MultivariateNormal
from torch.func import functional_call, hessian

from pdip.baselines import (
    BASELINES,
    SGLD,
    Baseline,
    Ensemble,
    Homoscedastic,
    MCDropout,
    PixelGP,
    TVLaplace,
    gaussian,
    pixel_noise_variance,
)
from pdip.baselines.mc_dropout import ChannelDropout, DropoutUNet, dropout_samples
from pdip.baselines.refit import refit
from pdip.baselines.samples import gaussian_of_samples
from pdip.baselines.sgld import fitted_prior, langevin, largest_curvature
from pdip.baselines.tv_laplace import tv_precision
from pdip.dip import UNet, fit_dip
from pdip.dip.networks import StackedNetworks
from pdip.dip.noise import matern_images
from pdip.dip.start import DataTerm
from pdip.errors import ComputationError, InputError
from pdip.linearised import IIDGroup, Jacobian, ParameterPrior
from pdip.ray import ray_transform
from pdip.scan import ImageGrid, ParallelBeam, Scan, phantoms

FLOOR = 5e-3
NOISE_STD = 0.2

SHORT = {
    "ensemble": Ensemble(members=3, start="fbp", max_steps=25),
    "homoscedastic": Homoscedastic(),
    "mc_dropout": MCDropout(num_samples=40, start="fbp", max_steps=25),
    "pixel_gp": PixelGP(),
    "sgld": SGLD(num_steps=6, burn_in=2, thinning=2),
    "tv_laplace": TVLaplace(),
}


@pytest.fixture(scope="module")
def fitted():
    """A scan with unequal weights, its transform, and two restarts of a short fit."""
    ray = ray_transform(
        ParallelBeam([24.0 * i for i in range(7)], 14), ImageGrid((10, 9)), engine="matrix"
    )
    generator = torch.Generator().manual_seed(0)
    image = phantoms.rectangles(ray.grid, generator).float()
    weights = 0.5 + torch.rand(ray.range_shape, generator=generator)
    noise = torch.randn(ray.range_shape, generator=generator) / weights.sqrt()
    sinogram = ray.forward(image) + NOISE_STD * noise
    scan = Scan(sinogram, ray.geometry, ray.grid, weights)
    network = UNet(2, 4, skip_channels=2)
    fit = fit_dip(scan, ray, network, noise_std=NOISE_STD, start="fbp", max_steps=25, restarts=2)
    return scan, ray, fit


def floor(fit):
    return (FLOOR * fit.network.image_scale) ** 2


def dense_system(scan, ray):
    """``W^{1/2} A`` and ``W^{1/2} y`` in float64."""
    root = scan.weights.double().sqrt().reshape(-1)
    return root[:, None] * ray.dense().double(), root * scan.sinogram.double().reshape(-1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_baseline_answers_as_the_main_path_does_and_again_for_a_seed(fitted, name):
    first, again, other = (SHORT[name].posterior(*fitted, seed=seed) for seed in (3, 3, 4))
    assert first.image.shape == first.std().shape == (10, 9)
    assert bool((first.std() > 0).all() and torch.isfinite(first.std()).all())
    assert math.isfinite(first.log_prob(first.image))
    assert torch.equal(first.image, again.image) and torch.equal(first.std(), again.std())
    draws = name in {"ensemble", "mc_dropout", "sgld"}
    assert torch.equal(first.std(), other.std()) != draws


def test_every_baseline_is_listed_and_needs_no_settings():
    assert BASELINES.keys() >= SHORT.keys()
    assert all(isinstance(kind(), Baseline) for kind in BASELINES.values())


@pytest.mark.parametrize(
    "wrong",
    [
        Ensemble(members=1),
        MCDropout(probability=1.0),
        MCDropout(num_samples=1),
        SGLD(step_size=4.0),
        SGLD(num_steps=10, burn_in=10),
        TVLaplace(smoothing=0.0),
    ],
)
def test_settings_out_of_range_are_refused(fitted, wrong):
    with pytest.raises(InputError):
        wrong.posterior(*fitted)


def test_a_gaussian_adds_the_floor_of_the_main_path():
    image = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    root = torch.randn(12, 12, generator=torch.Generator().manual_seed(1)).double()
    found = gaussian(image, root @ root.mT, image_scale=2.0)
    floor = torch.eye(12, dtype=torch.float64) * 1e-4
    torch.testing.assert_close(found.covariance(), root @ root.mT + floor, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.std().double().reshape(-1) ** 2,
                               found.covariance().diagonal(), rtol=1e-6, atol=0)  # fmt: skip


def test_a_gaussian_of_variances_is_that_of_their_diagonal_matrix():
    image, variance = torch.zeros(2, 3), torch.arange(1.0, 7.0)
    assert torch.equal(
        gaussian(image, variance, 1.0).covariance(),
        gaussian(image, torch.diag(variance), 1.0).covariance(),
    )


@pytest.mark.parametrize("covariance", [torch.eye(5), torch.full((6,), torch.nan)])
def test_a_gaussian_refuses_what_is_no_covariance_of_the_image(covariance):
    with pytest.raises(InputError):
        gaussian(torch.zeros(2, 3), covariance, 1.0)


def test_pixel_noise_is_the_mean_variance_of_truncated_least_squares(fitted):
    scan, ray, _ = fitted
    matrix, _ = dense_system(scan, ray)
    values, vectors = torch.linalg.eigh(matrix.mT @ matrix)
    strongest = vectors[:, -12:]  # 100 of 784 are 11.5 of 90
    pseudo_inverse = strongest @ torch.diag(1 / values[-12:]) @ strongest.mT
    truth = 0.3 * float(pseudo_inverse.diagonal().mean())
    assert pixel_noise_variance(ray, 0.3, scan.weights) == pytest.approx(truth, rel=1e-8)
    single = torch.zeros(ray.range_shape)
    single[0, ray.range_shape[1] // 2] = 1
    length = float((ray.dense().double()[single.flatten() > 0]).square().sum())
    variance = pixel_noise_variance(ray, 0.3, single)
    assert variance == pytest.approx(0.3 / length / matrix.shape[1], rel=1e-6)


def test_homoscedastic_is_white_around_the_mean_of_the_restarts(fitted):
    scan, ray, fit = fitted
    found = Homoscedastic().posterior(scan, ray, fit)
    variance = pixel_noise_variance(ray, NOISE_STD**2, scan.weights) + floor(fit)
    torch.testing.assert_close(found.covariance(), variance * torch.eye(90).double())
    torch.testing.assert_close(found.image, (fit.image + fit.alternatives[0].image) / 2)


def matern_covariance(shape, lengthscale):
    """Pixel by pixel."""
    places = [(i, j) for i in range(shape[0]) for j in range(shape[1])]
    scaled = torch.tensor([[math.sqrt(3) * math.dist(p, q) for q in places] for p in places])
    scaled = scaled.double() / lengthscale
    return (1 + scaled) * torch.exp(-scaled)


def test_pixel_gp_is_the_posterior_of_the_information_form(fitted):
    scan, ray, fit = fitted
    matrix, sinogram = dense_system(scan, ray)
    model = matern_images(scan, ray, noise_std=NOISE_STD)
    prior = model.signal_variance * matern_covariance((10, 9), model.lengthscale_px)
    covariance = torch.linalg.inv(torch.linalg.inv(prior) + matrix.mT @ matrix / NOISE_STD**2)
    mean = covariance @ matrix.mT @ sinogram / NOISE_STD**2
    found = PixelGP().posterior(scan, ray, fit)
    expected = covariance + floor(fit) * torch.eye(90)
    assert relative(found.covariance(), expected) < 1e-6
    assert relative(found.image.double().reshape(-1), mean) < 1e-5


def test_matern_images_have_the_greatest_evidence_at_a_known_noise(fitted):
    scan, ray, _ = fitted
    matrix, sinogram = dense_system(scan, ray)
    found = matern_images(scan, ray, noise_std=NOISE_STD)
    assert found.noise_variance == pytest.approx(NOISE_STD**2)

    def evidence(signal_variance, lengthscale):
        prior = signal_variance * matern_covariance((10, 9), lengthscale)
        covariance = matrix @ prior @ matrix.mT + NOISE_STD**2 * torch.eye(len(matrix))
        return float(MultivariateNormal(0 * sinogram, covariance).log_prob(sinogram))

    v, ell = found.signal_variance, found.lengthscale_px
    best = evidence(v, ell)
    assert all(evidence(v * by, ell) < best for by in (0.95, 1.05))
    assert all(evidence(v, ell * by) < best for by in (0.5, 2.0))  # of a grid of 13


def test_tv_laplace_is_tikhonov_where_every_edge_is_smoothed_away(fitted):
    scan, ray, fit = fitted
    matrix, _ = dense_system(scan, ray)
    number = torch.arange(90).reshape(10, 9)
    pairs = [(number[1:], number[:-1]), (number[:, 1:], number[:, :-1])]
    laplacian = torch.zeros(90, 90, dtype=torch.float64)
    for here, there in ((a.reshape(-1), b.reshape(-1)) for a, b in pairs):
        for i, j in zip(here.tolist(), there.tolist(), strict=True):
            laplacian[i, i] += 1
            laplacian[j, j] += 1
            laplacian[i, j] -= 1
            laplacian[j, i] -= 1
    data = DataTerm.of(scan, ray, NOISE_STD)
    found = tv_precision(data, fit.image, 7e6, 1e6)
    truth = matrix.mT @ matrix / NOISE_STD**2 + 7 * laplacian
    assert relative(torch.linalg.inv(found), torch.linalg.inv(truth)) < 1e-6


def test_tv_laplace_claims_the_inverse_of_the_curvature_at_its_image(fitted):
    scan, ray, fit = fitted
    found = TVLaplace(rate=2.0, smoothing=0.1).posterior(scan, ray, fit)
    scale = fit.network.image_scale
    precision = tv_precision(DataTerm.of(scan, ray, NOISE_STD), found.image, 2 / scale, 0.1 * scale)
    claimed = found.covariance() - floor(fit) * torch.eye(90)
    assert relative(claimed @ precision, torch.eye(90).double()) < 1e-6


def test_tv_precision_is_the_second_derivative_of_the_smoothed_objective_in_a_flat_image(fitted):
    scan, ray, fit = fitted
    matrix, sinogram = dense_system(scan, ray)

    def objective(x):
        image = x.reshape(10, 9)
        edges = torch.cat([image.diff(dim=0).reshape(-1), image.diff(dim=1).reshape(-1)])
        misfit = (matrix @ x - sinogram).square().sum() / 2 / NOISE_STD**2
        return misfit + 3.0 * (edges.square() + 0.1**2).sqrt().sum()

    flat = torch.full((90,), 0.4, dtype=torch.float64)
    data = DataTerm.of(scan, ray, NOISE_STD)
    found = tv_precision(data, flat.reshape(10, 9).float(), 3.0, 0.1)
    assert relative(found, hessian(objective)(flat)) < 1e-6


def test_ensemble_of_one_fit_many_times_has_no_spread(fitted):
    scan, ray, fit = fitted
    alone = replace(fit, alternatives=())
    found = Ensemble(members=3).posterior(scan, ray, replace(fit, alternatives=(alone, alone)))
    noise = pixel_noise_variance(ray, NOISE_STD**2, scan.weights) + floor(fit)
    torch.testing.assert_close(found.covariance(), noise * torch.eye(90).double())


def test_ensemble_spreads_over_the_restarts_and_new_fits(fitted):
    scan, ray, fit = fitted
    new = refit(scan, ray, fit, fit.network, restarts=1, start="fbp", max_steps=25, seed=0)
    images = torch.stack([one.image for one in (*fit.restarts, *new)])
    found = SHORT["ensemble"].posterior(scan, ray, fit)
    torch.testing.assert_close(found.image, images.mean(0))
    noise = pixel_noise_variance(ray, NOISE_STD**2, scan.weights) + floor(fit)
    spread = images.double().var(0).reshape(-1) + noise
    torch.testing.assert_close(found.covariance().diagonal(), spread)
    assert new[0].noise_std == fit.noise_std and new[0].tv_weight == fit.tv_weight


def test_dropout_of_nothing_has_no_spread(fitted):
    scan, ray, fit = fitted
    alone = replace(fit, alternatives=())
    found = replace(SHORT["mc_dropout"], probability=0.0).posterior(scan, ray, alone)
    noise = pixel_noise_variance(ray, NOISE_STD**2, scan.weights) + floor(fit)
    torch.testing.assert_close(found.covariance(), noise * torch.eye(90).double())


def test_dropout_removes_whole_channels_and_keeps_their_mean():
    ones = torch.ones(200, 50, 2, 3)
    network = UNet(1, 4).train()
    out = ChannelDropout(0.2, seed=0)(network, (), ones)
    kept = out[..., 0, 0] > 0
    assert torch.equal(out, (kept / 0.8)[..., None, None].expand_as(out))
    assert abs(float(kept.double().mean()) - 0.8) < 4 * math.sqrt(0.16 / 10_000)


def test_dropout_is_off_where_a_fit_is_looked_at(fitted):
    scan, ray, fit = fitted
    network = DropoutUNet(probability=0.3, **fit.network.settings)
    (found,) = refit(scan, ray, fit, network, restarts=1, start="fbp", max_steps=25, seed=0)
    plain = functional_call(UNet(**fit.network.settings), found.params, (found.network_input,))
    torch.testing.assert_close(found.image, plain.detach())
    first, second = dropout_samples(found, 2)
    assert not torch.equal(first, second)


def test_networks_in_one_batch_drop_different_channels():
    network = DropoutUNet(probability=0.5, scales=1, channels=8)
    first, second = StackedNetworks([network, network]).bodies(torch.ones(6, 6)).detach()
    assert not torch.allclose(first, second)


def test_langevin_steps_draw_from_the_gaussian_posterior_of_a_linear_model():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 3, generator=generator).double()
    observed = torch.randn(5, generator=generator).double()
    prior = ParameterPrior((IIDGroup("all", ("w",)),), (3,), torch.tensor([math.log(0.5)]).double())
    precision = matrix.mT @ matrix / 0.3**2 + 2 * torch.eye(3)
    covariance = torch.linalg.inv(precision)
    mean = covariance @ matrix.mT @ observed / 0.3**2

    def energy(params):
        return (params @ matrix.mT - observed).square().sum(-1) / 2 / 0.3**2

    step = 0.04 / float(torch.linalg.eigvalsh(precision).max() * 0.5)
    start = MultivariateNormal(mean, covariance).sample((4000,))
    chain = langevin(energy, start, prior, step, generator)
    end = next(islice(chain, 300, None))
    white = torch.linalg.cholesky(precision).mT @ (end - mean).mT
    bias = 0.01  # step / 4 of the stiffest direction
    assert (white.square().mean(1) - 1).abs().max() < bias + 4 * math.sqrt(2 / 4000)
    assert white.mean(1).abs().max() < 4 / math.sqrt(4000)


def test_prior_of_the_chains_makes_the_fitted_weights_most_likely(fitted):
    _, _, fit = fitted
    prior = fitted_prior(fit)
    vector = torch.cat([fit.params[name].reshape(-1) for name in prior.parameters])
    for group, log_h, block in zip(
        prior.groups, prior.split(prior.log_hyperparameters), prior.blocks(vector), strict=True
    ):
        log_h = log_h.clone().requires_grad_()
        log_density = -(group.quadratic(log_h, block) + block.numel() * log_h[0]) / 2
        (slope,) = torch.autograd.grad(log_density, log_h)
        assert abs(float(slope[0])) < 1e-6 * block.numel()


def test_step_of_a_chain_is_bounded_by_the_largest_curvature(fitted):
    scan, ray, fit = fitted
    prior = fitted_prior(fit)
    jacobian = Jacobian(fit.network, fit.network_input, fit.params, prior.parameters)
    dense = dense_jacobian(fit.network, fit.network_input, fit.params, prior.parameters).double()
    matrix, _ = dense_system(scan, ray)
    rows = matrix @ (jacobian.slope.double().reshape(-1, 1) * dense)
    covariance = dense_prior_covariance(prior, fit.params)
    truth = 1 + float(torch.linalg.eigvalsh(rows @ covariance @ rows.mT).max()) / NOISE_STD**2
    found = largest_curvature(
        DataTerm.of(scan, ray, NOISE_STD), jacobian, prior, torch.Generator().manual_seed(0)
    )
    assert 0.95 * truth < found < 1.0001 * truth


@pytest.mark.parametrize("images", [torch.zeros(1, 10, 9), torch.full((5, 10, 9), torch.nan)])
def test_samples_that_are_too_few_or_have_blown_up_are_refused(fitted, images):
    with pytest.raises(ComputationError, match="smaller steps"):
        gaussian_of_samples(images, *fitted)
