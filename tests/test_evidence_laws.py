"""Laws of the evidence: its values against dense algebra, its gradients against differences."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from cases import LINEAR, MODELS, NORMED, SMALL, ModelCase
from dense_model import DenseModel, build, network_fit, normal, relative
from torch.distributions import MultivariateNormal
from torch.func import functional_call

from pdip.dip import DIPFit, total_variation
from pdip.errors import ComputationError, InputError
from pdip.evidence import (
    HYPERPRIORS,
    OBJECTIVES,
    Conditional,
    LinearisedWeights,
    NetworkWeights,
    Profile,
    TVPredCP,
    log_evidence,
    optimise,
    optimise_evidence,
)
from pdip.evidence.optimise import minimise
from pdip.linearised import MaternFilterGroup, features, linearise, unet_prior
from pdip.posterior import Posterior
from pdip.ray import ray_transform

EXACT = 1e-8
WITHOUT_NUGGET = [name for name in MODELS if MODELS[name].nugget_std is None]


def held_out(scan, seed=4):
    return torch.rand(scan.sinogram.shape, generator=torch.Generator().manual_seed(seed)) < 0.3


def zero_mean_normal(covariance):
    return MultivariateNormal(torch.zeros(len(covariance)).double(), covariance)


@pytest.mark.parametrize("name", MODELS)
def test_profile_is_the_density_of_the_linear_model(name):
    model, scan, dense = build(MODELS[name])
    truth = zero_mean_normal(dense.sinogram_covariance).log_prob(dense.residual)
    assert relative(log_evidence(model, scan, objective=Profile()), truth) < EXACT


def laplace_evidence(dense, params, image):
    """The Laplace evidence at any weights and their image."""
    misfit = ((dense.sinogram - dense.ray @ image).square() / dense.noise).sum()
    complexity = params @ torch.linalg.solve(dense.covariance, params)
    log_det = torch.linalg.slogdet(dense.sinogram_covariance)[1]
    constant = len(dense.noise) * math.log(2 * math.pi)
    return -0.5 * (misfit + complexity + log_det + constant)


@pytest.mark.parametrize("name", WITHOUT_NUGGET)
def test_network_weights_is_the_laplace_evidence_at_them(name):
    model, scan, dense = build(MODELS[name])
    truth = laplace_evidence(dense, dense.params, dense.image)
    assert relative(log_evidence(model, scan, objective=NetworkWeights()), truth) < EXACT
    assert relative(log_evidence(model, scan), truth) < EXACT


def test_laplace_evidence_at_the_posterior_mean_is_the_profile():
    """The two formulas meet where the Gaussian's quadratic form is split at its own optimum."""
    model, scan, dense = build(MODELS["through"])
    cross = dense.covariance @ (dense.slope[:, None] * dense.jacobian).T @ dense.ray.T
    best = cross @ torch.linalg.solve(dense.sinogram_covariance, dense.residual)
    image = dense.prior_mean + dense.slope * (dense.jacobian @ best)
    truth = laplace_evidence(dense, best, image)
    assert relative(log_evidence(model, scan, objective=Profile()), truth) < EXACT


@pytest.mark.parametrize("name", ["through nugget", "before"])
def test_conditional_is_the_density_of_the_conditional_distribution(name):
    model, scan, dense = build(MODELS[name])
    used = torch.ones_like(scan.sinogram) if scan.weights is None else scan.weights
    withheld = held_out(scan).flatten()[used.flatten() > 0]
    covariance, residual = dense.sinogram_covariance, dense.residual
    cross = covariance[withheld][:, ~withheld]
    gain = torch.linalg.solve(covariance[~withheld][:, ~withheld], cross.T).T
    conditional = covariance[withheld][:, withheld] - gain @ cross.T
    truth = MultivariateNormal(gain @ residual[~withheld], conditional)
    value = log_evidence(model, scan, objective=Conditional(held_out(scan)))
    assert relative(value, truth.log_prob(residual[withheld])) < EXACT


def test_conditional_needs_rays_on_both_sides():
    model, scan, _ = build(MODELS["before"])
    for mask in (torch.zeros(4, 11).bool(), torch.ones(4, 11).bool(), scan.weights == 0):
        with pytest.raises(InputError, match="withheld"):
            log_evidence(model, scan, objective=Conditional(mask))


def test_evidence_at_given_weights_refuses_a_nugget():
    model, scan, _ = build(MODELS["through nugget"])
    with pytest.raises(InputError, match="nugget"):
        log_evidence(model, scan, objective=NetworkWeights())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["through", "before"])
def test_linearised_weights_lower_the_linear_tv_objective(name):
    model, scan, dense = build(MODELS[name])
    objective = LinearisedWeights(tv_weight=0.05, steps=80, learning_rate=1e-2)
    data = optimise.Data.of(scan, model.ray)
    at = objective.prepare(model, data)
    image = dense.image + dense.slope * (dense.jacobian @ (at.params - dense.params))
    assert relative(at.image.flatten(), image) < EXACT

    def loss(flat):
        residual = dense.sinogram - dense.ray @ flat
        misfit = (residual.square() / dense.noise).sum() * float(model.noise_variance) / 2
        return float(misfit + 0.05 * total_variation(flat.reshape(8, 9)))

    assert loss(image) < 0.8 * loss(dense.image)
    value = log_evidence(model, scan, objective=objective)
    assert relative(value, laplace_evidence(dense, at.params, image)) < EXACT


def difference_quotients(function, point, step=1e-4):
    """Central differences of fourth order."""
    slopes = []
    for i in range(len(point)):
        shift = torch.zeros_like(point)
        shift[i] = step
        near = function(point + shift) - function(point - shift)
        far = function(point + 2 * shift) - function(point - 2 * shift)
        slopes.append((8 * near - far) / (12 * step))
    return torch.stack(slopes)


def gradient_of(function, point):
    point = point.clone().requires_grad_()
    return torch.autograd.grad(function(point), point)[0]


OBJECTIVE_CASES = [
    ("through nugget", lambda scan: Profile()),
    ("before norms", lambda scan: Profile()),
    ("before", lambda scan: NetworkWeights()),
    ("before nugget", lambda scan: Conditional(held_out(scan))),
    ("through", lambda scan: LinearisedWeights(0.05, steps=3)),
]


@pytest.mark.parametrize(("name", "objective"), OBJECTIVE_CASES)
def test_evidence_gradients_are_difference_quotients(name, objective):
    model, scan, _ = build(MODELS[name])
    value = objective(scan)

    def function(point):
        return log_evidence(model.at(point), scan, objective=value)

    gradient = gradient_of(function, model.log_hyperparameters)
    truth = difference_quotients(function, model.log_hyperparameters)
    assert torch.allclose(gradient, truth, rtol=1e-6, atol=1e-9)
    assert (truth.abs() > 1e-4).all()


@pytest.mark.parametrize("name", ["through", "before norms", "none"])
def test_tv_predcp_jacobian_is_the_derivative_of_the_expected_tv(name):
    model = build(MODELS[name])[0]
    which = [i for i, n in enumerate(model.names) if n.endswith("log_lengthscale")]
    prior = TVPredCP()
    slopes = torch.stack([slope for _, slope in prior.expected_tv(model)])

    def kappas(point):
        return torch.stack([kappa for kappa, _ in prior.expected_tv(model.at(point))])

    truth = difference_quotients(kappas, model.log_hyperparameters)[which].diagonal()
    assert relative(slopes, truth) < 1e-8
    assert (slopes.abs() > 1e-4).all()


@pytest.mark.parametrize(("name", "rate"), [("through", None), ("before norms", 2.0), ("none", 0)])
def test_tv_predcp_is_its_formula_and_its_gradient_is_right(name, rate):
    model = build(MODELS[name])[0]
    prior = TVPredCP(rate)
    edges = 7 * 9 + 8 * 8
    default = 180_000 * (40 / edges) ** 1.5 / edges / model.jacobian.network.image_scale
    used = default if rate is None else rate
    parts = prior.expected_tv(model)
    truth = sum(-used * kappa + slope.abs().log() for kappa, slope in parts)
    assert relative(prior.log_prob(model, 40), truth) < 1e-12
    assert len(parts) == sum(n.endswith("log_lengthscale") for n in model.names)

    def function(point):
        return prior.log_prob(model.at(point), 40)

    gradient = gradient_of(function, model.log_hyperparameters)
    truth = difference_quotients(function, model.log_hyperparameters)
    assert torch.allclose(gradient, truth, rtol=1e-6, atol=1e-9)


def test_expected_tv_of_each_block_is_that_of_samples():
    model, _, dense = build(MODELS["before norms"])
    count, start = 20_000, 0
    kappas = iter(TVPredCP().expected_tv(model))
    for group, size in zip(model.prior.groups, model.prior.sizes, strict=True):
        part = slice(start, start + size)
        start += size
        if "log_lengthscale" not in group.hyperparameters:
            continue
        root = torch.linalg.cholesky(dense.covariance[part, part])
        weights = normal(count, size, seed=start) @ root.T
        images = dense.image + dense.slope * (weights @ dense.jacobian[:, part].T)
        samples = total_variation(images.reshape(count, 8, 9))
        kappa, error = next(kappas)[0], samples.std() / math.sqrt(count)
        assert abs(samples.mean() - kappa) < 4 * error
        assert kappa - total_variation(model.image) > 10 * error


def test_expected_tv_of_some_edges_stands_for_that_of_all(monkeypatch):
    exact = TVPredCP().expected_tv(build(MODELS["through"])[0])
    monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)
    monkeypatch.setattr(features, "MAX_EDGES", 100)
    few = TVPredCP().expected_tv(build(MODELS["through"])[0])
    for (kappa, slope), (truth, slope_truth) in zip(few, exact, strict=True):
        assert kappa == pytest.approx(float(truth), rel=0.2)
        assert slope == pytest.approx(float(slope_truth), rel=0.2)


def test_tv_predcp_acts_on_any_group_with_a_lengthscale():
    @dataclass(frozen=True)
    class Smooth(MaternFilterGroup):
        """Squared exponential: other coefficients of the same patterns, and another name."""

        hyperparameters = ("log_variance", "filter.log_lengthscale")

        def coefficients(self, log_h):
            return torch.exp(log_h[0] - self.distances.to(log_h).square() / 2 / log_h[1].exp() ** 2)

    model = build(MODELS["through"])[0]
    groups = [
        Smooth(group.name, group.parameters) if isinstance(group, MaternFilterGroup) else group
        for group in model.prior.groups
    ]
    prior = replace(model.prior, groups=tuple(groups))
    model = replace(model, prior=prior)
    which = [i for i, n in enumerate(model.names) if n.endswith("log_lengthscale")]

    def kappas(point):
        return torch.stack([kappa for kappa, _ in TVPredCP(1.0).expected_tv(model.at(point))])

    slopes = torch.stack([slope for _, slope in TVPredCP(1.0).expected_tv(model)])
    truth = difference_quotients(kappas, model.log_hyperparameters)[which].diagonal()
    assert len(slopes) == len(which) > 1 and relative(slopes, truth) < 1e-8


def test_tv_predcp_where_the_expected_tv_does_not_move_is_finite():
    model = build(MODELS["through"])[0]
    point = model.log_hyperparameters.clone()
    point[[n.endswith("log_lengthscale") for n in model.names]] = -60.0
    assert torch.isfinite(TVPredCP().log_prob(model.at(point), 44))


def test_tv_predcp_refuses_a_negative_rate():
    for rate in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="rate"):
            TVPredCP(rate)


def test_tables_name_every_objective_and_hyperprior():
    assert set(OBJECTIVES) == {"network_weights", "linearised_weights", "profile", "conditional"}
    assert HYPERPRIORS["none"]() is None
    assert isinstance(HYPERPRIORS["tv_predcp"](), TVPredCP)


def test_a_search_learns_how_far_each_hyperparameter_reaches_and_the_next_one_needs_fewer_steps():
    reach = np.geomspace(0.02, 4.0, 12)
    hessian = np.diag(1 / reach) @ (0.7 * np.eye(12) + 0.3) @ np.diag(1 / reach)
    points = []

    def evaluate(point):
        points.append(point)
        return float(point @ hessian @ point) / 2, hessian @ point

    bounds, tolerance = [(-30.0, 15.0)] * 12, 1e-3
    start = reach * normal(12, seed=2).numpy()
    _, end = minimise(evaluate, start, bounds, np.ones(12), tolerance, 300)
    first = len(points)
    assert end.converged and end.gradient_norm <= tolerance
    learned = end.scale.numpy() / np.sqrt(np.diag(np.linalg.inv(hessian)))
    assert learned.max() < 4 * learned.min()
    best, again = minimise(evaluate, start, bounds, end.scale.numpy(), tolerance, 300)
    assert again.converged and np.abs(hessian @ best).max() <= tolerance
    assert len(points) - first < first / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "objective", "hyperprior"),
    [
        ("through", NetworkWeights(), TVPredCP()),
        ("before", Profile(), None),
        ("none", Profile(), TVPredCP(0.5)),
    ],
)
def test_optimum_is_stationary_and_better_than_the_start(name, objective, hyperprior):
    model, scan, _ = build(MODELS[name])
    before = model.log_hyperparameters.clone()
    found = optimise_evidence(
        model, scan, objective=objective, hyperprior=hyperprior, gradient_tolerance=1e-4
    )
    assert torch.equal(model.log_hyperparameters, before)
    assert found.converged
    assert found.gradient_norm <= 1e-3

    def function(point):
        value = log_evidence(model.at(point), scan, objective=objective)
        if hyperprior is None:
            return value
        rays = 44 if scan.weights is None else int((scan.weights > 0).sum())
        return value + hyperprior.log_prob(model.at(point), rays)

    best = found.model.log_hyperparameters
    start, end = float(function(before)), float(function(best))
    assert found.history["objective"][0] == pytest.approx(start)
    assert end > start + 1
    assert max(found.history["objective"]) <= end + 1e-6
    evidence = float(log_evidence(found.model, scan, objective=objective))
    assert found.log_evidence == pytest.approx(evidence)
    assert found.num_evaluations == len(found.history["objective"])
    bounds = [optimise.BOUNDS.get(n.rsplit(".")[-1], optimise.OTHER_BOUNDS) for n in model.names]
    lower, upper = torch.tensor(bounds).double().T
    assert ((best >= lower) & (best <= upper)).all()
    gradient = gradient_of(function, best)
    inside = (best > lower + 1e-9) & (best < upper - 1e-9)
    assert gradient[inside].abs().max() <= 1e-3
    assert inside.sum() >= 2


def test_start_outside_the_bounds_is_brought_inside():
    model, scan, _ = build(MODELS["through"])
    point = model.log_hyperparameters.clone()
    point[1] = 7.0
    found = optimise_evidence(model.at(point), scan, hyperprior=None, max_evaluations=3)
    assert found.model.log_hyperparameters[1] <= 4.0


@pytest.mark.parametrize("name", ["through", "none"])
def test_noise_stays_where_it_is_when_not_learned(name):
    model, scan, _ = build(MODELS[name])
    kept = optimise_evidence(model, scan, objective=Profile(), hyperprior=None, learn_noise=False)
    learned = optimise_evidence(model, scan, objective=Profile(), hyperprior=None)
    assert torch.equal(kept.model.log_noise_variance, model.log_noise_variance)
    assert learned.model.log_noise_variance != model.log_noise_variance
    assert learned.log_evidence > kept.log_evidence
    same = kept.model.log_hyperparameters == model.log_hyperparameters
    assert not same[:-1].any()


def test_views_of_weight_zero_are_as_if_never_taken():
    model, scan, _ = build(MODELS["through"])
    weights = torch.ones(scan.sinogram.shape)
    weights[1::2] = 0
    part = scan.select(range(0, len(weights), 2))
    ray = ray_transform(part.geometry, part.grid, engine="matrix", dtype=torch.float64)
    fit = network_fit(MODELS["through"].network, scan.grid.shape)
    fewer = linearise(fit, ray, model.prior, activation="through")
    found = optimise_evidence(model, replace(scan, weights=weights))
    other = optimise_evidence(fewer, part)
    assert found.converged and other.converged
    assert found.log_evidence == pytest.approx(other.log_evidence, rel=1e-6)
    gap = found.model.log_hyperparameters - other.model.log_hyperparameters
    assert gap.abs().max() < 1e-2


def test_search_that_starts_far_away_is_not_called_converged_on_the_slope():
    """Long steps from remembered curvature once ended it 1.2 nats of gradient from the optimum."""
    model, scan = normalised_model(1.0)
    found = optimise_evidence(
        model,
        scan,
        objective=Profile(),
        hyperprior=TVPredCP(),
        gradient_tolerance=1e-4,
        max_evaluations=2000,
    )
    assert found.converged
    assert found.gradient_norm < 1e-3


def test_too_few_evaluations_are_not_called_converged():
    model, scan, _ = build(MODELS["through"])
    found = optimise_evidence(model, scan, max_evaluations=2)
    assert not found.converged


def test_progress_is_told_every_evaluation():
    model, scan, _ = build(MODELS["through"])
    calls = []
    found = optimise_evidence(
        model, scan, max_evaluations=5, progress=lambda *told: calls.append(told)
    )
    assert [step for step, _, _ in calls] == list(range(1, found.num_evaluations + 1))
    assert all(most == 5 and "objective" in text for _, most, text in calls)


def test_covariance_that_is_never_positive_definite_is_an_error():
    model, scan, _ = build(MODELS["through"])
    broken = replace(model, log_noise_variance=torch.tensor(float("nan")).double())
    with pytest.raises(ComputationError):
        optimise_evidence(broken, scan)


def normalised_model(factor):
    """A model whose block ``up1`` has its convolutions scaled by ``factor``, all else the same."""
    case = ModelCase(NORMED, "through")
    model, scan, _ = build(case)
    network = model.jacobian.network
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.eps = 0.0
    params = {name: value.clone() for name, value in model.jacobian.params.items()}
    for name in params:
        if name.startswith("body.up1") and name.split(".")[-2] in ("0", "3"):
            params[name] *= factor
    image = functional_call(network, params, (model.jacobian.network_input,)).detach()
    fit = DIPFit(image, network, model.jacobian.network_input, params, 0.3, 0.1, "given", {})
    model = linearise(fit, model.ray, unet_prior(network, variance=0.01), activation="through")
    # Data of the model itself with a strong block, so that its optimum is not at a bound.
    point = model.log_hyperparameters.clone()
    point[model.names.index("up1.log_variance")] += 3 - 2 * math.log(factor)
    sinogram = DenseModel.of(model.at(point), scan).draw(1)[1].reshape(scan.sinogram.shape)
    return model, replace(scan, sinogram=sinogram)


def test_scale_of_a_normalised_block_is_undone_by_its_variance():
    """Antorán et al. 2022b, proposition 3, at fixed hyperparameters: exact."""
    one, scan = normalised_model(1.0)
    three, _ = normalised_model(3.0)
    assert relative(three.image, one.image) < 1e-10
    assert relative(three.jacobian.vector, one.jacobian.vector) > 0.1
    shift = torch.zeros(len(one.names)).double()
    shift[one.names.index("up1.log_variance")] = 2 * math.log(3)
    moved = three.at(three.log_hyperparameters + shift)
    first, second = (log_evidence(m, scan, objective=Profile()) for m in (one, moved))
    assert relative(second, first) < EXACT
    truth = Posterior(one, scan)
    assert relative(Posterior(moved, scan).covariance(), truth.covariance()) < EXACT
    assert relative(Posterior(moved, scan).mean, truth.mean) < EXACT
    assert relative(Posterior(three, scan).covariance(), truth.covariance()) > 1e-3


@pytest.mark.slow
def test_scale_of_a_normalised_block_does_not_move_the_optimised_posterior():
    """Antorán et al. 2022b, proposition 3, with the hyperparameters optimised anew."""
    results, (_, scan) = [], normalised_model(1.0)
    for factor in (1.0, 2.0):
        model, _ = normalised_model(factor)
        found = optimise_evidence(
            model,
            scan,
            objective=Profile(),
            hyperprior=None,
            gradient_tolerance=1e-7,
            max_evaluations=2000,
        )
        variance = found.model.log_hyperparameters[model.names.index("up1.log_variance")]
        assert -12 < variance < 5
        results.append((found.log_evidence, Posterior(found.model, scan)))
    (first, one), (second, two) = results
    assert second == pytest.approx(first, abs=1e-6)
    assert relative(two.covariance(), one.covariance()) < 1e-4
    assert relative(two.mean, one.mean) < 1e-4


def test_evidence_prefers_the_hyperparameters_that_made_the_data():
    """Averaged over sinograms drawn from the model, no other hyperparameters do better."""
    model, scan, dense = build(ModelCase(SMALL, "through"))
    _, sinograms = dense.draw(300)
    residuals = sinograms - dense.ray @ dense.prior_mean
    truth = zero_mean_normal(dense.sinogram_covariance).log_prob(residuals)
    variances = [name.endswith("log_variance") for name in model.names[:-1]] + [False]
    for which in (variances, -1):
        for sign in (-1, 1):
            point = model.log_hyperparameters.clone()
            point[which] += sign
            other = DenseModel.of(model.at(point), scan)
            values = zero_mean_normal(other.sinogram_covariance).log_prob(residuals)
            gap = truth - values
            assert gap.mean() > 4 * gap.std() / math.sqrt(len(gap))


def test_linear_network_makes_the_conditional_blind_to_the_linearisation():
    model, scan, _ = build(ModelCase(LINEAR, "before"))
    through, _, _ = build(ModelCase(LINEAR, "through"))
    objective = Conditional(held_out(scan))
    values = [log_evidence(m, scan, objective=objective) for m in (model, through)]
    assert relative(values[1], values[0]) < 1e-12
