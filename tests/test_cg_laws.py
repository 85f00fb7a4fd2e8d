"""Laws of conjugate gradients and of inference with them, against dense algebra."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from cases import MODELS
from dense_model import build, normal, relative

from pdip.errors import ComputationError, InputError
from pdip.evidence import Conditional, NetworkWeights, Profile, optimise_evidence
from pdip.evidence.data import Data
from pdip.evidence.marginal import marginal
from pdip.posterior import Posterior, relinearise
from pdip.solvers import CG, Cholesky, LowRankPlusNoise, Projected, log_quadrature
from pdip.solvers.conjugate_gradients import conjugate_gradients

RANK_5 = Projected(rank=5)
PROBED = CG(tolerance=1e-10, preconditioner=RANK_5)


def spectrum(size=30, condition=1e6):
    """A positive definite matrix with eigenvalues from 1 to ``condition``."""
    vectors = torch.linalg.qr(normal(size, size))[0]
    return (vectors * torch.logspace(0, math.log10(condition), size).double()) @ vectors.T


def near(matrix, rank=12):
    """The matrix's strongest part and noise of the size of its weakest eigenvalue."""
    values, vectors = torch.linalg.eigh(matrix)
    basis = vectors[:, -rank:]
    return LowRankPlusNoise.of(basis, basis.T @ matrix @ basis, values[0])


def solved(matrix, columns, preconditioner=None, **keywords):
    keywords = {"tolerance": 1e-9, "max_iterations": 300} | keywords
    precondition = preconditioner.solve if preconditioner else lambda columns: columns
    return conjugate_gradients(matrix.matmul, columns, precondition, **keywords)


# The recurrence.


@pytest.mark.parametrize("rank", [None, 4, 20])
def test_solution_is_the_dense_inverse_and_its_residuals_are_true(rank):
    matrix, columns = spectrum(), normal(30, 4) * torch.tensor([1, 1e3, 1e-3, 1]).double()
    found = solved(matrix, columns, near(matrix, rank) if rank else None)
    assert found.converged
    assert relative(found.value, torch.linalg.solve(matrix, columns)) < 1e-6
    truth = (matrix @ found.value - columns).norm(dim=0) / columns.norm(dim=0)
    assert torch.allclose(found.residuals, truth, rtol=1e-6)


def test_a_column_that_has_converged_takes_no_more_products():
    matrix, widths = spectrum(), []
    easy = torch.linalg.eigh(matrix)[1][:, :1]
    hard = normal(30, 1)

    def counted(columns):
        widths.append(columns.shape[1])
        return matrix @ columns

    found = conjugate_gradients(
        counted, torch.cat([easy, hard], 1), lambda c: c, tolerance=1e-8, max_iterations=300
    )
    assert found.converged and widths[0] == 2 and set(widths[1:-1]) == {1}


@pytest.mark.slow
def test_an_unreachable_tolerance_is_confessed():
    matrix = spectrum(condition=1e12)
    found = solved(matrix, normal(30, 2), tolerance=1e-15, max_iterations=10_000)
    assert not found.converged and float(found.residuals.max()) > 1e-15
    assert found.iterations < 10_000  # it ends where restarts no longer help
    assert solved(matrix, normal(30, 1), max_iterations=3).iterations == 3


def test_a_start_at_the_solution_costs_one_product():
    matrix, columns = spectrum(), normal(30, 2)
    truth = torch.linalg.solve(matrix, columns)
    assert solved(matrix, columns, start=truth).iterations == 0


def test_columns_of_zeros_are_solved_by_zeros():
    columns = torch.stack([torch.zeros(30).double(), normal(30)], 1)
    found = solved(spectrum(condition=10), columns)
    assert found.converged and torch.equal(found.value[:, 0], columns[:, 0])


def test_directions_are_conjugate_and_span_the_solution():
    matrix, columns = spectrum(condition=100), normal(30, 1)
    found = solved(matrix, columns, max_iterations=6)
    form = found.directions.T @ matrix @ found.directions
    assert relative(form, form.diagonal().diag()) < 1e-10
    basis = torch.linalg.qr(found.directions)[0]
    assert relative(basis @ basis.T @ found.value, found.value) < 1e-12


def test_lanczos_quadrature_is_the_logarithm_of_the_preconditioned_matrix():
    matrix = spectrum(condition=100)
    preconditioner = near(matrix)
    columns = normal(30, 3)
    found = solved(matrix, columns, preconditioner, tolerance=1e-12)
    dense = torch.linalg.inv(preconditioner.solve(torch.eye(30).double()))
    values, vectors = torch.linalg.eigh(dense)
    root = (vectors * values.rsqrt()) @ vectors.T
    values, vectors = torch.linalg.eigh(root @ matrix @ root)
    logarithm = (vectors * values.log()) @ vectors.T
    for column, tridiagonal in zip(columns.T, found.tridiagonals, strict=True):
        white = root @ column
        found = white.square().sum() * log_quadrature(tridiagonal)
        assert relative(found, white @ logarithm @ white) < 1e-6


# The preconditioner.


def test_preconditioner_is_its_definition():
    matrix = spectrum()
    preconditioner = near(matrix)
    basis, noise = preconditioner.basis, preconditioner.noise_variance
    projector = basis @ basis.T
    dense = projector @ matrix @ projector + noise * (torch.eye(30) - projector)
    left, right = normal(30, 2), normal(30, 2, seed=1)
    assert relative(preconditioner.solve(left), torch.linalg.solve(dense, left)) < 1e-8
    assert relative(preconditioner.log_determinant(), torch.logdet(dense)) < 1e-10
    assert relative(preconditioner.form(left, right), (left * (dense @ right)).sum(0)) < 1e-8


def test_probes_have_the_covariance_of_the_preconditioner():
    matrix = spectrum(size=6, condition=50)
    preconditioner = near(matrix, rank=2)
    draws = preconditioner.sample(40_000, torch.Generator().manual_seed(0))
    dense = torch.linalg.inv(preconditioner.solve(torch.eye(6).double()))
    error = (dense.square() + dense.diagonal()[:, None] * dense.diagonal()).sqrt() / 200
    assert ((draws @ draws.T / 40_000 - dense).abs() < 4 * error).all()
    assert (dense.diagonal() > 10 * error.diagonal()).all()


# The evidence.


def evidence_and_gradient(objective, model, data, solver):
    point = model.log_hyperparameters.detach().requires_grad_()
    found = objective.estimate(model.at(point), data, solver)
    return found, torch.autograd.grad(found.value, point)[0]


def objectives(scan, nugget):
    held_out = torch.rand(scan.sinogram.shape, generator=torch.Generator().manual_seed(4)) < 0.3
    given = [Profile(), Conditional(held_out)]
    return given if nugget else [*given, NetworkWeights()]


@dataclass(frozen=True)
class AllProbes(CG):
    """The columns of a root of P for probes, so that their mean is the expectation itself."""

    def probes(self, preconditioner):
        basis, factor = preconditioner.basis, preconditioner.factor
        inside = basis @ factor.root
        outside = torch.eye(len(basis)).double() - basis @ basis.T
        columns = torch.cat([inside, preconditioner.noise_variance.sqrt() * outside], 1)
        return columns.shape[1] ** 0.5 * columns


@pytest.mark.slow
@pytest.mark.parametrize("name", ["through", "through nugget", "before", "none"])
def test_expected_value_and_gradient_over_probes_are_the_exact_ones(name):
    model, scan, _ = build(MODELS[name])
    data, solver = Data.of(scan, model.ray), AllProbes(tolerance=1e-11, preconditioner=RANK_5)
    for objective in objectives(scan, MODELS[name].nugget_std):
        compressed = data.observed(model, solver, *objective.groups(data))
        exact, slope = evidence_and_gradient(objective, model, data, Cholesky())
        found, gradient = evidence_and_gradient(objective, compressed, data, solver)
        crude, other = evidence_and_gradient(objective, compressed, data, RANK_5)
        assert relative(found.value.detach(), exact.value.detach()) < 1e-8
        assert relative(gradient, slope) < 1e-7
        assert relative(crude.value.detach(), exact.value.detach()) > 1e-4
        assert relative(other, slope) > 1e-4
        assert found.worst_residual < 1e-11


@pytest.mark.slow
def test_standard_error_is_the_spread_over_probes():
    model, scan, _ = build(MODELS["before"])
    data = Data.of(scan, model.ray)
    compressed = data.observed(model, PROBED)
    exact, slope = evidence_and_gradient(Profile(), model, data, Cholesky())
    values, gradients, errors = [], [], []
    for seed in range(20):
        solver = replace(PROBED, num_probes=10, seed=seed)
        found, gradient = evidence_and_gradient(Profile(), compressed, data, solver)
        values.append(found.value.detach())
        gradients.append(gradient)
        errors.append(found.standard_error)
    values, gradients = torch.stack(values), torch.stack(gradients)
    assert 0.6 < values.std() / torch.tensor(errors).mean() < 1.6
    assert abs(values.mean() - exact.value) < 4 * values.std() / math.sqrt(20)
    error = gradients.std(0) / math.sqrt(20)
    assert ((gradients.mean(0) - slope).abs() < 4 * error + 1e-8 * slope.abs().max()).all()
    assert slope.abs().max() > 10 * error.max()


def test_quadratic_form_of_the_evidence_is_exact_and_so_is_its_gradient():
    model, scan, _ = build(MODELS["through nugget"])
    data = Data.of(scan, model.ray)
    compressed, values = data.observed(model, PROBED), []
    for start, solver in ((model, Cholesky()), (compressed, PROBED)):
        point = model.log_hyperparameters.detach().requires_grad_()
        residual = data.residual_of_zero_weights(model)
        value = marginal(start.at(point), data, solver).misfit(residual).value
        values.append(torch.cat([value.detach()[None], torch.autograd.grad(value, point)[0]]))
    assert relative(values[1], values[0]) < 1e-8


def test_a_solve_that_does_not_converge_is_an_error():
    model, scan, _ = build(MODELS["through"])
    solver = replace(PROBED, max_iterations=1)
    data = Data.of(scan, model.ray)
    with pytest.raises(ComputationError, match="relative residual .* raise its max_iterations"):
        Profile().estimate(data.observed(model, solver), data, solver)


@pytest.mark.slow
def test_search_with_conjugate_gradients_finds_the_exact_hyperparameters():
    model, scan, _ = build(MODELS["through"])
    exact = optimise_evidence(model, scan, solver=Cholesky())
    found = optimise_evidence(model, scan, solver=replace(PROBED, num_probes=50))
    assert found.converged and found.worst_residual < 1e-10 and found.standard_error > 0
    assert abs(found.log_evidence - exact.log_evidence) < 1e-3 * abs(exact.log_evidence)
    std = Posterior(found.model, scan, Cholesky()).std()
    assert relative(std, Posterior(exact.model, scan).std()) < 0.03


def test_a_search_starts_each_solve_from_the_last_one():
    matrix, columns, used = spectrum(), normal(30, 1), []
    preconditioner = near(matrix)
    solver = replace(PROBED, tolerance=1e-6).warm()
    for changed in (matrix, matrix * (1 + 1e-5), matrix):
        used.append(solver.solve_near(changed.matmul, columns, preconditioner).iterations)
    assert used[0] > used[1] > 0


# The posterior.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["through nugget", "before", "none"])
@pytest.mark.parametrize("iterations", [1, 3, 100])
def test_what_was_not_computed_stays_in_the_variance(name, iterations):
    model, scan, _ = build(MODELS[name])
    solver = replace(PROBED, max_iterations=iterations, preconditioner=Projected(rank=3))
    exact, found = Posterior(model, scan), Posterior(model, scan, solver)
    only = Posterior(model, scan, solver.preconditioner)
    gap = found.pre_activation_variance - exact.pre_activation_variance
    assert gap.min() > -1e-12 and gap.max() > 1e-9
    assert (only.pre_activation_variance - found.pre_activation_variance).min() > -1e-12
    if iterations == 100:
        assert found.solution.converged
        assert relative(found.mean, exact.mean) < 1e-8
    else:
        assert not found.solution.converged and found.solution.worst_residual > 1e-10


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_certificate_is_the_true_residual_of_the_solution_that_is_used(shift):
    model, scan, dense = build(MODELS["through"])
    model = model.at(model.log_hyperparameters + shift)
    solver = replace(PROBED, tolerance=1e-3, preconditioner=Projected(rank=3))
    posterior = Posterior(model, scan, solver)
    basis = posterior.model.measurement.compression.basis
    used = basis @ posterior.solution.value
    residual = posterior.data.residual_of_zero_weights(model)[:, None]
    covariance = posterior.data.covariance(model.compressed(None))
    truth = float((covariance @ used - residual).norm() / residual.norm())
    assert posterior.solution.worst_residual == pytest.approx(truth, rel=1e-6)
    assert posterior.solution.converged == (truth <= 1e-3)


def test_slopes_are_renewed_from_the_rays_that_were_not_withheld():
    model, scan, _ = build(MODELS["before"])
    held_out = torch.rand(scan.sinogram.shape, generator=torch.Generator().manual_seed(4)) < 0.3
    seen = replace(scan, weights=torch.where(held_out, 0.0, scan.weights))
    data, solver = Data.of(scan, model.ray), replace(PROBED, preconditioner=Projected(rank=40))
    model = data.observed(model, solver, *Conditional(held_out).groups(data))
    exact = relinearise(model.compressed(None), seen, Cholesky())
    assert relative(relinearise(model, seen, solver).slope, exact.slope) < 1e-6


def test_settings_out_of_range_are_refused():
    for wrong in ({"tolerance": 0}, {"tolerance": 1.0}, {"max_iterations": 0}, {"num_probes": 1}):
        with pytest.raises(InputError, match="expected a tolerance between 0 and 1"):
            CG(**wrong)
