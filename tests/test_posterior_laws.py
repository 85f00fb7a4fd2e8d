"""Laws of the posterior against dense algebra, and of its samples against its closed form."""

import math
from dataclasses import replace

import pytest
import torch
from cases import MODELS, SMALL, ModelCase
from dense_model import build, normal, relative
from scipy.stats import chi2
from torch.distributions import MultivariateNormal, Normal

from pdip.calibration import uniformity
from pdip.errors import ComputationError, InputError
from pdip.linearised import features
from pdip.posterior import Mixture, Posterior, SavedPosterior, relinearise
from pdip.posterior.image_posterior import RESOLUTION
from pdip.scan import Scan
from pdip.solvers import Cholesky

EXACT = 1e-8
GRID = torch.linspace(-9, 9, 4001).double()


@pytest.fixture(params=["stored", "by passes"])
def storage(request, monkeypatch):
    """Both ways that the features keep J: Gram bases of all pixels, or network passes."""
    if request.param == "by passes":
        monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)


def posterior_and_truth(name):
    model, scan, dense = build(MODELS[name])
    posterior = Posterior(model, scan)
    mean, covariance = dense_posterior(posterior, dense)
    return posterior, mean, covariance


def dense_posterior(posterior, dense):
    """Mean and covariance, with the activation's moments by the trapezoidal rule."""
    model = posterior.model
    floor = (RESOLUTION * model.jacobian.network.image_scale) ** 2
    eye = torch.eye(len(dense.image)).double()
    if model.activation == "through":
        return dense.posterior_mean, dense.posterior_covariance + floor * eye
    gain = torch.linalg.solve(
        dense.sinogram_covariance, dense.ray @ (dense.slope[:, None] * dense.latent)
    ).T
    latent = dense.latent - gain @ dense.ray @ (dense.slope[:, None] * dense.latent)
    h = dense.pre_activation - dense.jacobian @ dense.params + gain @ dense.residual
    nugget_gain = dense.nugget * torch.linalg.solve(dense.sinogram_covariance, dense.ray).T
    mean = model.jacobian.network.image(h[None])[0] + nugget_gain @ dense.residual
    slope, unexplained = pushed(model.jacobian.network.image, dense, latent.diagonal())
    prior = torch.block_diag(dense.latent, dense.nugget * eye)
    to_image = torch.cat([torch.diag(slope), eye], dim=1)
    to_sinogram = dense.ray @ torch.cat([torch.diag(dense.slope), eye], dim=1)
    cross = to_sinogram @ prior
    joint = prior - cross.T @ torch.linalg.solve(dense.sinogram_covariance, cross)
    return mean, to_image @ joint @ to_image.T + torch.diag(unexplained) + floor * eye


def pushed(function, dense, variance):
    """Slope of the regression of s(h) on h, and the variance that it leaves."""
    h = dense.pre_activation[:, None] + variance.sqrt()[:, None] * GRID
    density = Normal(0, 1).log_prob(GRID).exp()
    value = function(h)
    expected = torch.trapezoid(density * value, GRID)
    covariance = torch.trapezoid(density * value * (h - dense.pre_activation[:, None]), GRID)
    total = torch.trapezoid(density * value.square(), GRID) - expected.square()
    slope = covariance / variance
    return slope, (total - slope * covariance).clamp(min=0)


@pytest.mark.parametrize("name", MODELS)
def test_mean_and_covariance_are_dense_algebra(name, storage):
    posterior, mean, covariance = posterior_and_truth(name)
    assert relative(posterior.mean.flatten(), mean) < EXACT
    assert relative(posterior.covariance(), covariance) < EXACT
    assert relative(posterior.std().flatten(), covariance.diagonal().sqrt()) < EXACT
    assert torch.equal(posterior.image, posterior.model.image)


def test_covariance_of_rounded_gram_bases_is_positive_definite():
    model, scan, _ = build(MODELS["through nugget"])
    latent, floor = model.features.latent, Posterior(model, scan)._floor
    lost = 10 * floor / float(model.slope.square().max() * model.prior.coefficients().sum())
    rounded = latent.pixel_gram - lost * torch.ones_like(latent.pixel_gram)
    features = replace(model.features, latent=replace(latent, pixel_gram=rounded))
    model = replace(model, features=features, log_nugget_variance=None)
    posterior = Posterior(model, scan)
    values = torch.linalg.eigvalsh(posterior.covariance())
    assert values[0] > floor * (1 - 1e-9)
    assert math.isfinite(posterior.log_prob(posterior.image))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_functional_and_mask_are_parts_of_the_covariance(name, storage):
    posterior, _, covariance = posterior_and_truth(name)
    weights = normal(*posterior.image.shape, seed=4)
    mean, std = posterior.functional(weights)
    flat = weights.flatten()
    assert mean == pytest.approx(float(flat @ posterior.image.flatten()), rel=EXACT)
    assert std == pytest.approx(math.sqrt(float(flat @ covariance @ flat)), rel=EXACT)
    mask = normal(*posterior.image.shape, seed=5) > 0.3
    chosen = covariance[mask.flatten()][:, mask.flatten()]
    assert relative(posterior.covariance(mask), chosen) < EXACT


def parts_of(name, kind):
    """One posterior, a mixture of two, or what is read back of one."""
    model, scan, _ = build(MODELS[name])
    one = Posterior(model, scan)
    if kind == "one":
        return one
    if kind == "saved":
        return SavedPosterior(one.tensors())
    return Mixture([one, Posterior(model.at(model.log_hyperparameters - 0.5), scan)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one", "mixture", "saved"])
@pytest.mark.parametrize("name", ["through nugget", "before"])
def test_modes_are_the_eigenvectors_of_the_covariance(name, kind, storage):
    posterior = parts_of(name, kind)
    mask = normal(*posterior.image.shape) > -0.5
    for region in (None, mask):
        covariance = (
            torch.stack([posterior.covariance_product(e) for e in units(posterior.image)])
            if kind == "saved"
            else posterior.covariance()
        )
        covariance = covariance.reshape(posterior.image.numel(), -1).double()
        inside = torch.ones_like(mask) if region is None else region
        covariance = covariance * inside.reshape(-1) * inside.reshape(-1, 1)
        values, vectors = torch.linalg.eigh(covariance)
        modes = posterior.modes(3, region)
        assert relative(modes.std.square(), values[-3:].flip(0)) < 1e-3
        flat = modes.images.flatten(1)
        assert relative(flat @ flat.T, torch.eye(3).double()) < 1e-8
        assert abs(flat[0] @ vectors[:, -1]) > 1 - 1e-3
        assert not modes.images[:, ~inside].any()
        total = posterior.std()[inside].double().square().sum()
        assert relative(modes.share, modes.std.square() / total) < 1e-12
    with pytest.raises(InputError, match="expected a count from 1 to"):
        posterior.modes(posterior.image.numel())


def units(image):
    return torch.eye(image.numel()).double().reshape(-1, *image.shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_covariance_product_is_the_covariance_times_an_image(name, storage):
    posterior, _, truth = posterior_and_truth(name)
    image = normal(*posterior.image.shape)
    product = posterior.covariance_product(image).reshape(-1)
    assert relative(product, truth @ image.reshape(-1)) < 1e-6


@pytest.mark.slow
def test_std_confesses_its_monte_carlo_error(monkeypatch):
    exact = parts_of("before", "one")
    assert exact.std_samples is None and not exact.std_error().any()
    monkeypatch.setattr("pdip.posterior.posterior.MAX_EXACT_PIXELS", 0)
    monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)
    drawn = parts_of("before", "one")
    z = (drawn.std() - exact.std()) / drawn.std_error()
    assert drawn.std_samples == 1024
    assert 0.5 < z.square().mean().sqrt() < 1.5 and z.abs().max() < 4.5


@pytest.mark.parametrize("name", ["through nugget", "before"])
def test_log_prob_is_that_of_a_multivariate_normal(name, storage):
    posterior = posterior_and_truth(name)[0]
    covariance = posterior.covariance()
    image = posterior.image + 0.1 * normal(8, 9, seed=6)
    centre = posterior.image.flatten()
    joint = MultivariateNormal(centre, covariance).log_prob(image.flatten())
    assert posterior.log_prob(image) == pytest.approx(float(joint), rel=EXACT)
    assert posterior.log_prob(image, patch=9) == pytest.approx(float(joint), rel=EXACT)
    marginals = Normal(centre, covariance.diagonal().sqrt()).log_prob(image.flatten()).sum()
    assert posterior.log_prob(image, patch=1) == pytest.approx(float(marginals), rel=EXACT)
    index, total = torch.arange(72).reshape(8, 9), 0.0
    for rows in index.split(4):
        for block in rows.split(4, dim=1):
            part = block.flatten()
            density = MultivariateNormal(centre[part], covariance[part][:, part])
            total += float(density.log_prob(image.flatten()[part]))
    assert posterior.log_prob(image, patch=4) == pytest.approx(total, rel=EXACT)


@pytest.mark.parametrize("name", MODELS)
def test_posterior_std_never_exceeds_prior_std(name):
    model, scan, dense = build(MODELS[name])
    posterior = Posterior(model, scan)
    prior = dense.prior_image.diagonal()
    if model.activation == "before":
        variance = dense.latent.diagonal()
        slope, unexplained = pushed(model.jacobian.network.image, dense, variance)
        prior = slope.square() * variance + unexplained + dense.nugget
    ratio = posterior.std().flatten() / (prior + posterior._floor).sqrt()
    assert ratio.max() <= 1 + 1e-12
    assert ratio.mean() < 0.95


def test_more_noise_never_means_more_certainty():
    model, scan, _ = build(MODELS["through nugget"])
    quiet = Posterior(model, scan).covariance()
    shift = torch.zeros(len(model.names)).double()
    shift[-1] = 1.0
    loud = Posterior(model.at(model.log_hyperparameters + shift), scan).covariance()
    assert torch.linalg.eigvalsh(loud - quiet).min() > -1e-12
    assert (loud - quiet).trace() > 0.01 * quiet.trace()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_samples_have_the_covariance_of_the_closed_form(name, storage):
    model, scan, dense = build(MODELS[name])
    posterior = Posterior(model, scan)
    count = 4000
    samples = posterior.sample(count, generator=torch.Generator().manual_seed(1))
    deviations = (samples - posterior.image).flatten(1)
    covariance = posterior.covariance()
    assert abs(whitened_surprise(deviations, covariance)) < 4
    mean = deviations.mean(0)
    squares = count * (mean @ torch.linalg.solve(covariance, mean))
    pixels = len(mean)
    assert abs(squares - pixels) < 4 * math.sqrt(2 * pixels)
    assert whitened_surprise(deviations, 1.3 * covariance) > 10
    # Without the correction by the data the draws would be those of the prior.
    assert whitened_surprise(deviations, dense.prior_image + 1e-6 * torch.eye(pixels)) > 10


def whitened_surprise(deviations, covariance):
    """z-score of the summed squares of all second moments of whitened samples."""
    count, pixels = deviations.shape
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, deviations.T, upper=False)
    excess = (white @ white.T / count - torch.eye(pixels)) * math.sqrt(count)
    excess = excess / (1 + (math.sqrt(2) - 1) * torch.eye(pixels))
    squares = excess[torch.ones(pixels, pixels).tril().bool()].square()
    # The square of a sample covariance has heavier tails than chi-square by O(1 / count).
    return float((squares.sum() - len(squares)) / math.sqrt(2 * len(squares)))


def test_samples_of_one_seed_are_the_same():
    posterior, _, _ = posterior_and_truth("before nugget")
    draws = [posterior.sample(3, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["through", "through nugget", "none"])
def test_truths_from_the_models_own_prior_have_uniform_ranks(name):
    """Simulation-based calibration: of every pixel mean, of a functional, and of all pixels."""
    model, scan, dense = build(MODELS[name])
    count = 400
    images, sinograms = dense.draw(count)
    full = scan.sinogram.clone()
    used = torch.ones_like(full) if scan.weights is None else scan.weights
    means = []
    for sinogram in sinograms:
        full[used > 0] = sinogram
        own = Scan(full.clone(), scan.geometry, scan.grid, scan.weights)
        posterior = Posterior(model, own)
        means.append(posterior.mean.flatten())
    errors = images - torch.stack(means)
    covariance = posterior.covariance()
    weights = normal(dense.image.numel(), seed=8)
    std = posterior.functional(weights.reshape(8, 9))[1]
    ranks = {"functional": Normal(0, 1).cdf(errors @ weights / std)}
    ranks["pixel"] = Normal(0, 1).cdf(errors[:, 40] / posterior.std().flatten()[40])
    # The floor is no part of the generating model.
    exact = covariance - posterior._floor * torch.eye(len(covariance))
    values, vectors = torch.linalg.eigh(exact)
    kept = values > 1e-9 * values.max()
    squares = ((errors @ vectors)[:, kept].square() / values[kept]).sum(1)
    ranks["all pixels"] = torch.from_numpy(chi2(int(kept.sum())).cdf(squares.numpy()))
    for rank in ranks.values():
        assert uniformity(rank).chi_squared < chi2(9).ppf(1 - 6e-5)
    wider = Normal(0, 1).cdf(errors @ weights / (1.5 * std))
    assert uniformity(wider).chi_squared > chi2(9).ppf(1 - 6e-5)
    doubled = torch.from_numpy(chi2(int(kept.sum())).cdf((squares / 1.2).numpy()))
    assert uniformity(doubled).chi_squared > chi2(9).ppf(1 - 6e-5)


@pytest.mark.parametrize("centre, weight", [("network", 0.0), ("midpoint", 0.5), ("linear", 1.0)])
def test_mixture_has_the_moments_of_its_parts_about_its_centre(centre, weight):
    parts = [posterior_and_truth(name)[0] for name in ("through nugget", "before", "none")]
    mixture = Mixture(parts, centre=centre)
    images, means = (sum(getattr(p, key) for p in parts) / 3 for key in ("image", "mean"))
    shown = (1 - weight) * images + weight * means
    away = torch.stack([(part.mean - shown).flatten() for part in parts])
    covariance = sum(part.covariance() for part in parts) / 3 + away.T @ away / 3
    assert relative(mixture.image, shown) < EXACT
    assert relative(mixture.mean, means) < EXACT
    assert relative(mixture.covariance(), covariance) < EXACT
    assert relative(mixture.std().flatten(), covariance.diagonal().sqrt()) < EXACT
    weights = normal(8, 9, seed=4)
    mean, std = mixture.functional(weights)
    assert mean == pytest.approx(float((weights * mixture.image).sum()), rel=EXACT)
    truth = math.sqrt(float(weights.flatten() @ covariance @ weights.flatten()))
    assert std == pytest.approx(truth, rel=EXACT)
    mask = weights > 0.5
    chosen = covariance[mask.flatten()][:, mask.flatten()]
    assert relative(mixture.covariance(mask), chosen) < EXACT
    image = mixture.image + 0.1 * normal(8, 9, seed=6)
    joint = MultivariateNormal(mixture.image.flatten(), covariance).log_prob(image.flatten())
    assert mixture.log_prob(image) == pytest.approx(float(joint), rel=EXACT)
    assert mixture.solution.converged
    with pytest.raises(InputError, match="at least one"):
        Mixture([])
    with pytest.raises(InputError, match="midpoint"):
        Mixture(parts, centre="middle")


def test_a_fit_that_its_linear_model_contradicts_is_less_certain():
    part = posterior_and_truth("none")[0]
    own, shown = Mixture([part], centre="linear"), Mixture([part])
    assert relative(own.covariance(), part.covariance()) < EXACT
    gap = part.mean - part.image
    assert gap.abs().max() > 0
    assert relative(shown.std() ** 2 - own.std() ** 2, gap**2) < 1e-6


@pytest.mark.slow
def test_mixture_samples_have_its_mean_and_variance():
    mixture = Mixture([posterior_and_truth(name)[0] for name in ("through nugget", "none")])
    count = 6000
    samples = mixture.sample(count, generator=torch.Generator().manual_seed(0))
    variance = mixture.std().square()
    z = (samples.mean(0) - mixture.image) / (variance / count).sqrt()
    assert z.abs().max() < 4
    squares = (samples - mixture.image).square()
    error = squares.std(0) / math.sqrt(count)
    assert ((squares.mean(0) - variance) / error).abs().max() < 4
    within = sum(part.std().square() for part in mixture.posteriors) / 2
    assert ((variance - within) / error).max() > 10


@pytest.mark.parametrize("mixed", [False, True])
def test_saved_posterior_answers_as_the_one_it_was(mixed):
    parts = [posterior_and_truth(name)[0] for name in ("before nugget", "none")]
    posterior = Mixture(parts) if mixed else parts[0]
    saved = SavedPosterior(posterior.tensors())
    single = 1e-6  # kept in float32 where the digits are not needed
    assert relative(saved.image, posterior.image) < single
    assert relative(saved.mean, posterior.mean) < single
    assert relative(saved.std(), posterior.std()) < single
    assert torch.equal(saved.covariance(), posterior.covariance())
    mask = normal(8, 9) > 0.5
    assert torch.equal(saved.covariance(mask), posterior.covariance(mask))
    weights = normal(8, 9, seed=4)
    assert saved.functional(weights) == pytest.approx(posterior.functional(weights), rel=1e-5)
    image = posterior.image + 0.1 * normal(8, 9, seed=6)
    for patch in (None, 1, 3):
        density = posterior.log_prob(image, patch)
        assert saved.log_prob(image, patch) == pytest.approx(density, rel=1e-4)
    assert saved.solution.worst_residual == pytest.approx(posterior.solution.worst_residual)
    assert 0 < saved.solution.worst_residual < 1e-8 and saved.solution.converged
    again = SavedPosterior(saved.tensors())
    assert again.solution.worst_residual == saved.solution.worst_residual
    assert torch.equal(again.covariance(), saved.covariance())
    samples = saved.sample(4000, generator=torch.Generator().manual_seed(0))
    deviations = (samples - saved.image).double().flatten(1)
    assert abs(whitened_surprise(deviations, posterior.covariance())) < 4


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
def test_saved_samples_answer_within_their_error(mixed, monkeypatch):
    monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)
    parts = [posterior_and_truth(name)[0] for name in ("before nugget", "through")]
    posterior = Mixture(parts) if mixed else parts[0]
    tensors = posterior.tensors()
    assert tensors["deviations"].shape == (1024, 8, 9)
    saved = SavedPosterior(tensors)
    weights = torch.full((8, 9), 1 / 72).double()
    mean, std = posterior.functional(weights)
    assert saved.functional(weights)[0] == pytest.approx(mean, rel=1e-6)
    assert abs(saved.functional(weights)[1] / std - 1) < 4 / math.sqrt(2 * 1024)
    ratio = saved.covariance().diagonal() / posterior.covariance().diagonal()
    assert (ratio - 1).abs().max() < 4 * math.sqrt(2 / 1024)
    samples = saved.sample(4096, generator=torch.Generator().manual_seed(0))
    ratio = (samples - saved.image).double().square().mean(0).flatten()
    ratio = ratio / saved.covariance().diagonal()
    assert (ratio - 1).abs().max() < 4 * math.sqrt(2 / 4096)


def test_saved_posterior_draws_in_the_precision_of_its_image_and_refuses_what_has_no_root():
    image, generator = torch.zeros(2, 3).double(), torch.Generator()
    known = {"image": image, "mean": image, "std": image + 1}
    for kept in ({"deviations": torch.ones(4, 2, 3)}, {"covariance": torch.eye(6)}):
        draws = SavedPosterior(known | kept).sample(5, generator=generator.manual_seed(0))
        assert draws.dtype == torch.float64 and draws.shape == (5, 2, 3)
    singular = SavedPosterior(known | {"covariance": torch.ones(6, 6)})
    with pytest.raises(ComputationError, match="leading minor 2 of 6 is not; add a floor"):
        singular.sample(1, generator=generator)


def test_saved_posterior_without_certificate_does_not_invent_one():
    tensors = posterior_and_truth("through")[0].tensors()
    kept = {name: tensors[name] for name in ("image", "mean", "std", "covariance")}
    solution = SavedPosterior(kept).solution
    assert math.isnan(solution.worst_residual) and not solution.converged


def test_saved_posterior_refuses_missing_tensors():
    tensors = posterior_and_truth("through")[0].tensors()
    for gone in ("image", "std", "covariance"):
        rest = {name: value for name, value in tensors.items() if name != gone}
        with pytest.raises(InputError, match="saved posterior"):
            SavedPosterior(rest)


def test_bad_questions_are_refused(monkeypatch):
    posterior = posterior_and_truth("through")[0]
    for weights in (torch.ones(9, 8).double(), torch.full((8, 9), float("nan")).double()):
        with pytest.raises(InputError, match="weights"):
            posterior.functional(weights)
    with pytest.raises(InputError, match="shape"):
        posterior.log_prob(torch.zeros(9, 8).double())
    with pytest.raises(InputError, match="patch"):
        posterior.log_prob(posterior.image, patch=0)


def test_solve_that_did_not_converge_is_an_error():
    model, scan, _ = build(MODELS["through"])
    with pytest.raises(ComputationError, match="residual"):
        Posterior(model, scan, Cholesky(tolerance=1e-20))


def test_linear_output_makes_before_and_through_the_same():
    posteriors = []
    for activation in ("before", "through"):
        case = ModelCase(MODELS["none"].network, activation, nugget_std=0.2, weighted=True)
        model, scan, _ = build(case)
        posteriors.append(Posterior(model, scan))
    assert relative(posteriors[0].mean, posteriors[1].mean) < EXACT
    assert relative(posteriors[0].covariance(), posteriors[1].covariance()) < EXACT


def test_saturated_pixel_is_less_certain_before_the_activation_than_through_it():
    model, scan, _ = build(ModelCase(SMALL, "before"))
    shift = torch.zeros(len(model.names)).double()
    shift[[name.endswith("log_variance") for name in model.names]] = 5.0
    wide = model.at(model.log_hyperparameters + shift)
    before = Posterior(wide, scan)
    after = relinearise(wide, scan)
    assert relative(after.slope, before._pushed[1]) < 1e-12
    assert after.activation == "before"
    assert relative(after.slope, wide.slope) > 0.05
    through = build(ModelCase(SMALL, "through"))[0]
    assert relinearise(through, scan) is through
    mean, _ = dense_posterior(Posterior(after, scan), dense_of(after, scan))
    assert relative(Posterior(after, scan).mean.flatten(), mean) < EXACT


def dense_of(model, scan):
    from dense_model import DenseModel

    return DenseModel.of(model, scan).at(slope=model.slope.flatten())


@pytest.mark.slow
def test_pushed_mean_is_the_mean_of_pushed_samples():
    posterior, _, _ = posterior_and_truth("before")
    count = 4000
    h, _ = posterior._sample_parts(count, torch.Generator().manual_seed(0))
    jacobian = posterior.model.jacobian
    values = jacobian.network.image(jacobian.pre_activation + h)
    z = (values.mean(0) - posterior._pushed[0]) / (values.std(0) / math.sqrt(count))
    assert z.abs().max() < 4
