"""Laws of the Jacobian, the priors and the linear Gaussian model, against dense algebra."""

import math
from itertools import pairwise
from operator import attrgetter

import numpy as np
import pytest
import torch
from cases import MODELS, PRIORS
from dense_model import build, dense_jacobian, dense_prior_covariance, network_fit, normal, relative
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from torch.func import functional_call

from pdip.dip import UNet
from pdip.dip.total_variation import total_variation
from pdip.errors import ComputationError, InputError
from pdip.evidence.data import Data
from pdip.linearised import (
    Jacobian,
    MaternFilterGroup,
    PriorGroup,
    features,
    gram_bases,
    linearise,
    measurement,
    statistical_linearisation,
    unet_prior,
    variance_bases,
)
from pdip.linearised.jacobian import halving

EXACT = 1e-8


def jacobian_of(name, **settings):
    network, prior = PRIORS[name]
    fit = network_fit(network, (7, 9))
    return Jacobian(fit.network, fit.network_input, fit.params, prior.parameters, **settings)


def moved(prior, seed=3):
    """The prior at other hyperparameters, different in every block."""
    return prior.at(prior.log_hyperparameters + 0.5 * normal(len(prior.names), seed=seed))


@pytest.mark.parametrize("name", PRIORS)
def test_jacobian_is_the_dense_one(name):
    jacobian = jacobian_of(name)
    dense = dense_jacobian(
        jacobian.network, jacobian.network_input, jacobian.params, jacobian.names
    )
    vectors, images = normal(2, 3, dense.shape[1]), normal(4, 7, 9)
    forward = (vectors @ dense.T).reshape(2, 3, 7, 9)
    assert relative(jacobian.forward(vectors), forward) < 1e-12
    assert relative(jacobian.adjoint(images), images.flatten(1) @ dense) < 1e-12
    assert jacobian.domain_shape == (dense.shape[1],)
    assert jacobian.forward(vectors[:, :0]).shape == (2, 0, 7, 9)


@pytest.mark.parametrize("name", PRIORS)
def test_jacobian_dot_test(name):
    jacobian = jacobian_of(name)
    vector, image = normal(*jacobian.domain_shape), normal(7, 9, seed=1)
    left = (jacobian.forward(vector) * image).sum()
    right = vector @ jacobian.adjoint(image)
    assert abs(left - right) <= 1e-12 * abs(left)


@pytest.mark.parametrize("name", ["filters and 1x1", "biases and norms"])
def test_slope_times_jacobian_is_the_difference_quotient_of_the_network(name):
    jacobian = jacobian_of(name)
    direction, step = normal(*jacobian.domain_shape, seed=2), 1e-6

    def image(sign):
        point = jacobian.unflatten(jacobian.vector + sign * step * direction)
        values = {**jacobian.params, **point}
        return functional_call(jacobian.network, values, (jacobian.network_input,))

    quotient = (image(1) - image(-1)).detach() / (2 * step)
    assert relative(jacobian.slope * jacobian.forward(direction), quotient) < 1e-6


def test_chunks_of_the_jacobian_give_the_same_numbers():
    whole, small = jacobian_of("biases"), jacobian_of("biases", memory_budget_bytes=300_000)
    assert small.chunk_size < 7 < whole.chunk_size
    vectors, images = normal(7, *whole.domain_shape), normal(7, 7, 9)
    assert relative(small.forward(vectors), whole.forward(vectors)) < 1e-13
    assert relative(small.adjoint(images), whole.adjoint(images)) < 1e-13


def test_jacobian_flattens_what_it_unflattens():
    jacobian = jacobian_of("biases and norms")
    named = jacobian.unflatten(jacobian.vector)
    assert list(named) == list(jacobian.names)
    assert all(torch.equal(named[name], jacobian.params[name]) for name in named)


@pytest.mark.parametrize("name", PRIORS)
def test_prior_products_are_the_dense_covariance(name):
    network, prior = PRIORS[name]
    prior = moved(prior)
    dense = dense_prior_covariance(prior, dict(network.named_parameters()))
    eye = torch.eye(len(dense)).double()
    assert relative(prior.covariance_apply(eye), dense) < EXACT
    covariance = prior.covariance()
    assert covariance.shape == dense.shape and relative(covariance.to_dense(), dense) < EXACT
    vector = normal(len(dense), seed=7)
    assert relative(covariance @ vector, dense @ vector) < EXACT
    assert relative((covariance @ vector[:, None])[:, 0], dense @ vector) < EXACT
    root = prior.root_apply(eye).T
    assert relative(root @ root.T, dense) < EXACT
    vector = normal(len(dense))
    truth = vector @ torch.linalg.solve(dense, vector)
    assert relative(prior.quadratic(vector), truth) < EXACT


@pytest.mark.parametrize("name", PRIORS)
def test_prior_covariance_is_the_sum_of_its_patterns(name):
    _, prior = PRIORS[name]
    prior = moved(prior)
    vector = normal(2, sum(prior.sizes))
    parts = []
    log_h = prior.split(prior.log_hyperparameters)
    for group, block, part in zip(prior.groups, prior.blocks(vector), log_h, strict=True):
        k = group.coefficients(part)
        assert len(k) == group.num_patterns
        parts.append(sum(k[c] * group.apply_pattern(c, block) for c in range(len(k))))
        assert relative(PriorGroup.apply(group, part, block), group.apply(part, block)) < 1e-12
    assert relative(torch.cat(parts, -1), prior.covariance_apply(vector)) < 1e-12


@pytest.mark.parametrize("name", PRIORS)
def test_gram_bases_by_symmetry_are_those_pattern_by_pattern(name):
    _, prior = PRIORS[name]
    rows = normal(6, sum(prior.sizes))
    bases = gram_bases(rows, prior)
    one_by_one = torch.cat(
        [
            PriorGroup.gram_bases(group, block)
            for group, block in zip(prior.groups, prior.blocks(rows), strict=True)
        ]
    )
    assert bases.shape == (sum(g.num_patterns for g in prior.groups), 6, 6)
    assert relative(bases, one_by_one) < 1e-12
    assert relative(variance_bases(rows, prior), bases.diagonal(dim1=-2, dim2=-1)) < 1e-12


@pytest.mark.parametrize("name", PRIORS)
def test_gram_bases_recombine_to_the_dense_quadratic_form(name):
    network, prior = PRIORS[name]
    prior = moved(prior)
    rows = normal(6, sum(prior.sizes))
    gram = torch.tensordot(prior.coefficients(), gram_bases(rows, prior), 1)
    dense = dense_prior_covariance(prior, dict(network.named_parameters()))
    assert relative(gram, rows @ dense @ rows.T) < EXACT


def test_filters_have_the_six_distances_of_the_stencil():
    distances = MaternFilterGroup("block", ("weight",)).distances
    truth = torch.tensor([0, 1, math.sqrt(2), 2, math.sqrt(5), 2 * math.sqrt(2)]).double()
    assert relative(distances, truth) < 1e-7


def test_kmnist_network_has_76608_weights_in_8_blocks_and_33_patterns():
    prior = unet_prior(UNet(3, 32, skip_channels=4))
    assert sum(prior.sizes) == 76_608
    assert len(prior.groups) == 8
    assert sum(group.num_patterns for group in prior.groups) == 33
    assert len(set(prior.names)) == len(prior.names) == 13


def test_biases_and_norms_are_groups_of_their_own():
    network, prior = PRIORS["biases and norms"]
    by_name = {group.name: group.parameters for group in prior.groups}
    tensors = dict(network.named_parameters())
    assert sorted(prior.parameters) == sorted(tensors)
    assert len(by_name["biases"]) == 7
    norms = {n for n in tensors if n.split(".")[-2] in "14" and tensors[n].ndim == 1}
    assert set(by_name["norms"]) == norms
    assert not set(unet_prior(network).parameters) & {*by_name["biases"], *norms}


def test_normalisation_of_any_kind_is_a_group_and_biases_that_are_not_there_are_none():
    body = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.InstanceNorm2d(4, affine=True)
    )
    network = torch.nn.Module()
    network.body = body
    prior = unet_prior(network, biases=True, norms=True)
    assert [group.name for group in prior.groups] == ["0", "norms"]
    assert prior.groups[1].parameters == ("body.1.weight", "body.1.bias")


def test_prior_refuses_other_kernels_and_empty_networks():
    network = UNet(1, 4)
    network.body.out = torch.nn.Conv2d(4, 1, 5, padding=2)
    with pytest.raises(InputError, match="3x3 or 1x1"):
        unet_prior(network)
    network.body.out = torch.nn.ConvTranspose2d(4, 1, 3, padding=1)
    with pytest.raises(InputError, match=r"3x3 or 1x1 .* body\.out\.weight of a ConvTranspose2d"):
        unet_prior(network)
    empty = torch.nn.Module()
    empty.body = torch.nn.Sequential(torch.nn.LeakyReLU())
    with pytest.raises(InputError, match="convolutions"):
        unet_prior(empty)


@pytest.mark.parametrize("name", MODELS)
def test_signal_covariance_is_dense_algebra_and_matrix_free(name):
    model, scan, dense = build(MODELS[name])
    covariance = Data.of(scan, model.ray).covariance(model)
    assert relative(covariance, dense.sinogram_covariance) < EXACT
    weights = torch.ones_like(scan.sinogram) if scan.weights is None else scan.weights
    used = weights.flatten() > 0
    operator = model.sinogram_covariance(torch.where(weights > 0, weights, 1))
    products = operator @ torch.eye(len(used)).double()
    assert relative(products[used][:, used], dense.sinogram_covariance) < EXACT
    image = model.image_covariance()
    assert image.shape == dense.prior_image.shape
    assert relative(image @ torch.eye(len(dense.image)).double(), dense.prior_image) < EXACT
    vector = normal(len(dense.image))
    assert relative(image @ vector, dense.prior_image @ vector) < EXACT


def test_rays_of_weight_zero_are_left_out():
    model, scan, dense = build(MODELS["before"])
    data = Data.of(scan, model.ray)
    assert data.num_rays == len(dense.sinogram) == scan.sinogram.numel() - 3
    assert torch.equal(data.select(scan.sinogram), dense.sinogram)
    loud = scan.sinogram.clone()
    loud[1, 3:6] = 1e6
    other = type(scan)(loud, scan.geometry, scan.grid, scan.weights)
    residual = Data.of(other, model.ray).residual_of_zero_weights(model)
    assert torch.equal(residual, data.residual_of_zero_weights(model))


def test_matrix_free_covariance_refuses_rays_of_weight_zero():
    model, scan, _ = build(MODELS["before"])
    with pytest.raises(InputError, match="positive"):
        model.sinogram_covariance(scan.weights)


@pytest.mark.parametrize("name", MODELS)
def test_residual_of_zero_weights_is_the_dense_one(name):
    model, scan, dense = build(MODELS[name])
    data = Data.of(scan, model.ray)
    assert relative(data.residual_of_zero_weights(model), dense.residual) < EXACT
    misfit = ((dense.sinogram - dense.ray @ dense.image).square() / dense.noise).sum()
    noise_variance = float(model.noise_variance)
    assert relative(data.squared_residual(model.image), noise_variance * misfit) < EXACT


@pytest.mark.parametrize("name", ["through nugget", "before norms", "none"])
@pytest.mark.parametrize("quantity", ["gram", "pixel_variance", "edge_variance", "edge_mean"])
def test_features_stored_or_not_are_the_same(name, quantity, monkeypatch):
    stored = build(MODELS[name])[0]
    monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)
    passed = build(MODELS[name])[0]
    assert stored.features.latent.pixel_gram is not None
    assert passed.features.latent.pixel_gram is None
    rooms = {"gram": "measurement", "pixel_variance": "features.latent"}
    quantity = attrgetter(f"{rooms.get(quantity, 'features')}.{quantity}")
    assert relative(quantity(passed), quantity(stored)) < EXACT


def test_a_new_slope_takes_over_what_is_known_of_h(monkeypatch):
    monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)
    model, _, _ = build(MODELS["before norms"])
    known = model.features.latent.pixel_variance
    steeper = model.with_slope(2 * model.slope).features
    assert steeper.latent.pixel_variance is known
    assert relative(steeper.edge_variance, 4 * model.features.edge_variance) < EXACT


def test_edge_variance_is_that_of_the_dense_differences():
    model, _, dense = build(MODELS["before norms"])
    height, width = model.image.shape
    index = torch.arange(height * width).reshape(height, width)
    pairs = [(index[1:], index[:-1]), (index[:, 1:], index[:, :-1])]
    plus, minus = (torch.cat([pair[i].flatten() for pair in pairs]) for i in (0, 1))
    prior = dense.prior_image
    truth = prior[plus, plus] + prior[minus, minus] - 2 * prior[plus, minus]
    assert relative(model.prior.coefficients() @ model.features.edge_variance, truth) < EXACT
    assert relative(model.features.edge_mean, dense.image[plus] - dense.image[minus]) < 1e-12
    assert model.features.edge_weight == 1


def test_edges_that_stand_for_all_of_them_have_their_total_variation(monkeypatch):
    monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)
    monkeypatch.setattr(features, "MAX_EDGES", 25)
    model = build(MODELS["through"])[0]
    few = model.features
    assert len(few.edge_mean) == 25
    assert few.edge_weight == (7 * 9 + 8 * 8) / 25
    total = few.edge_weight * few.edge_mean.abs().sum()
    assert total == pytest.approx(float(total_variation(model.image)), rel=0.02)


@pytest.mark.parametrize("limit", [0, 1600])
def test_another_slope_makes_the_features_anew(limit, monkeypatch):
    monkeypatch.setattr(features, "MAX_STORED_PIXELS", limit)
    model, scan, dense = build(MODELS["through nugget"])
    model.measurement.gram, model.features.params_sinogram  # noqa: B018
    model.features.edge_variance  # noqa: B018
    slope = 0.1 + normal(*model.image.shape, seed=7).abs()
    data, model = Data.of(scan, model.ray), model.with_slope(slope)
    dense = dense.at(slope=slope.flatten())
    assert relative(data.covariance(model), dense.sinogram_covariance) < EXACT
    assert relative(data.residual_of_zero_weights(model), dense.residual) < EXACT


def test_hyperparameters_go_round_trip():
    for name in ("through", "before nugget"):
        model, _, _ = build(MODELS[name])
        assert len(model.names) == len(model.log_hyperparameters)
        shifted = model.at(model.log_hyperparameters + 1)
        assert torch.equal(shifted.log_hyperparameters, model.log_hyperparameters + 1)
        assert torch.isclose(shifted.noise_variance, math.e * model.noise_variance)
        assert torch.isclose(shifted.nugget_variance, math.e * model.nugget_variance)


def test_linearise_starts_at_the_noise_level_of_the_fit_and_refuses_nonsense():
    model, _, _ = build(MODELS["through"])
    assert float(model.noise_variance) == pytest.approx(0.09)
    fit = network_fit(MODELS["through"].network, (8, 9))
    wrong = [{"nugget_std": value} for value in (0.0, math.nan, math.inf)]
    for bad in ({"activation": "after"}, *wrong):
        with pytest.raises(InputError):
            linearise(fit, model.ray, model.prior, **bad)


def test_problem_too_large_for_exact_algebra_is_refused(monkeypatch):
    monkeypatch.setattr(measurement, "MAX_BYTES", 1000)
    model = build(MODELS["through"])[0]
    with pytest.raises(ComputationError, match="projected"):
        model.signal_covariance()


def test_statistical_linearisation_is_the_regression_on_samples():
    mean = torch.tensor([-6.0, -1.0, 0.0, 0.5, 4.0], dtype=torch.float64)
    variance = torch.tensor([9.0, 0.3, 4.0, 16.0, 1e-4], dtype=torch.float64)
    count = 1_000_000
    h = mean + variance.sqrt() * normal(count, 5)
    value = torch.sigmoid(h)
    derivative = value * (1 - value)
    expected, slope, unexplained = statistical_linearisation(torch.sigmoid, mean, variance)
    residual = (value - expected - slope * (h - mean)).square()
    for samples, closed in ((value, expected), (derivative, slope), (residual, unexplained)):
        error = samples.std(0) / math.sqrt(count)
        z = (samples.mean(0) - closed) / error
        assert z.abs().max() < 4
        assert (closed[:4] / error[:4]).min() > 10
    derivative_at_mean = torch.sigmoid(mean) * torch.sigmoid(-mean)
    assert slope[0] > 10 * derivative_at_mean[0]


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "none"])
def test_statistical_linearisation_is_the_integral_however_wide_h_is(name):
    image_scale = 0.3
    cases = [(0, 400), (-8, 100), (5, 0), (0, 4), (0, 9.01), (-30, 25), (60, 1e4), (3, 1e6)]
    mean, variance = torch.tensor(cases, dtype=torch.float64).T

    network = UNet(scales=1, channels=1, activation=name, image_scale=image_scale)

    def slope_of(h):
        known = {"sigmoid": expit(h) * expit(-h), "softplus": expit(h), "none": 1.0}
        return image_scale * known[name]

    def value_of(h):
        known = {"sigmoid": expit(h), "softplus": np.logaddexp(0, h), "none": h}
        return image_scale * known[name]

    def integral(g, m, v):
        if v == 0:
            return g(m)
        ends = sorted({*np.clip([-40, -5, 0, 5, 40], m - 12 * v**0.5, m + 12 * v**0.5)}
                      | {m - 12 * v**0.5, m, m + 12 * v**0.5})  # fmt: skip
        density = norm(m, v**0.5).pdf
        parts = (
            quad(lambda h: g(h) * density(h), *pair, epsabs=1e-13, epsrel=1e-12, limit=200)[0]
            for pair in pairwise(ends)
        )
        return math.fsum(parts)

    found = statistical_linearisation(network.image, *(x[None] for x in (mean, variance)))
    for (m, v), expected, slope, unexplained in zip(cases, *(x[0] for x in found), strict=True):
        accuracy = 1e-9 if v > 9 else 1e-5  # of Gauss-Hermite nodes, see WIDE
        true = integral(value_of, m, v)
        assert float(expected) == pytest.approx(true, rel=accuracy)
        true_slope = integral(slope_of, m, v)
        assert float(slope) == pytest.approx(true_slope, rel=accuracy)
        total = integral(lambda h, true=true: (value_of(h) - true) ** 2, m, v)
        left = total - true_slope**2 * v
        assert float(unexplained) == pytest.approx(left, abs=max(accuracy * total, 1e-15))


def test_statistical_linearisation_is_exact_for_a_linear_function():
    mean, variance = normal(6), normal(6, seed=1).square() + 1
    variance[3:] *= 100
    expected, slope, unexplained = statistical_linearisation(lambda h: 3 * h - 1, mean, variance)
    assert relative(expected, 3 * mean - 1) < 1e-12
    assert relative(slope, torch.full_like(mean, 3)) < 1e-12
    assert (unexplained / variance).max() < 1e-11


def test_statistical_linearisation_without_variance_is_the_derivative():
    mean = normal(6)
    expected, slope, unexplained = statistical_linearisation(
        torch.sigmoid, mean, torch.zeros_like(mean)
    )
    value = torch.sigmoid(mean)
    assert relative(expected, value) < 1e-12
    assert relative(slope, value * (1 - value)) < 1e-12
    assert unexplained.max() < 1e-15


@pytest.mark.parametrize(
    "fault", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_chunk_without_memory_is_halved_until_it_fits(fault):
    sizes = []

    def hungry(chunk):
        sizes.append(len(chunk))
        if len(chunk) > 2:
            raise fault
        return 2 * chunk

    chunk = torch.arange(7.0)[:, None]
    assert torch.equal(halving(hungry)(chunk), 2 * chunk)
    assert max(sizes) == 7 and sum(size for size in sizes if size <= 2) == 7


def test_no_memory_for_one_vector_and_other_faults_are_errors():
    def failing(error):
        def function(chunk):
            raise error

        return halving(function)

    with pytest.raises(ComputationError, match="no memory for a pass of one vector"):
        failing(torch.OutOfMemoryError())(torch.zeros(4, 2))
    with pytest.raises(RuntimeError, match="shapes"):
        failing(RuntimeError("shapes differ"))(torch.zeros(4, 2))
