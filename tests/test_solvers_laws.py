"""Laws of the solvers of cases.py, against dense inverses and determinants."""

import pytest
import torch
from cases import MODELS, SOLVERS
from dense_model import build, normal, relative

from pdip.errors import ComputationError
from pdip.solvers import Cholesky

CASES = pytest.mark.parametrize(("solver", "tolerance"), SOLVERS.values(), ids=SOLVERS)


def covariance():
    """K of a model, with its spread of eigenvalues."""
    return build(MODELS["through nugget"])[2].sinogram_covariance


@CASES
def test_solve_is_the_dense_inverse(solver, tolerance):
    matrix = covariance()
    columns = normal(len(matrix), 3)
    solution = solver.factorise(matrix).solve(columns)
    assert relative(solution.value, torch.linalg.inv(matrix) @ columns) < tolerance
    assert solution.converged


@CASES
def test_worst_residual_is_the_true_one(solver, tolerance):
    matrix = covariance()
    columns = normal(len(matrix), 3) * torch.tensor([1.0, 1e3, 1e-3]).double()
    solution = solver.factorise(matrix).solve(columns)
    residuals = (matrix @ solution.value - columns).norm(dim=0) / columns.norm(dim=0)
    assert solution.worst_residual == pytest.approx(float(residuals.max()), rel=0.5, abs=1e-16)


@CASES
def test_whitening_gives_the_quadratic_form(solver, tolerance):
    matrix = covariance()
    columns = normal(len(matrix), 3)
    white = solver.factorise(matrix).whiten(columns)
    truth = columns.T @ torch.linalg.inv(matrix) @ columns
    assert relative(white.T @ white, truth) < tolerance


@CASES
def test_log_determinant_is_that_of_the_eigenvalues(solver, tolerance):
    matrix = covariance()
    truth = torch.linalg.eigvalsh(matrix).log().sum()
    assert relative(solver.factorise(matrix).log_determinant(), truth) < tolerance


@CASES
def test_answers_are_differentiable_in_the_matrix(solver, tolerance):
    matrix = covariance()[:6, :6].requires_grad_()
    columns, direction = normal(6, 1), normal(6, 6, seed=1)
    direction = direction + direction.T
    factor = solver.factorise(matrix)
    value = factor.log_determinant() + factor.whiten(columns).square().sum()
    (gradient,) = torch.autograd.grad(value, matrix)
    inverse = torch.linalg.inv(matrix.detach())
    pulled = inverse @ columns
    truth = (inverse @ direction).trace() - (pulled.T @ direction @ pulled)[0, 0]
    assert relative((gradient * direction).sum(), truth) < tolerance


@CASES
def test_column_of_zeros_is_solved_by_zeros(solver, tolerance):
    matrix = covariance()
    columns = torch.stack([torch.zeros(len(matrix)).double(), normal(len(matrix))], dim=1)
    solution = solver.factorise(matrix).solve(columns)
    assert torch.equal(solution.value[:, 0], columns[:, 0])
    assert solution.converged


@CASES
@pytest.mark.parametrize("spoil", ["negative", "nan", "singular"])
def test_matrix_that_is_not_positive_definite_is_an_error(solver, tolerance, spoil):
    matrix = covariance().clone()
    if spoil == "singular":
        matrix = torch.zeros_like(matrix)
    matrix[2, 2] = {"negative": -1.0, "nan": float("nan"), "singular": 0.0}[spoil]
    with pytest.raises(ComputationError, match="positive definite"):
        solver.factorise(matrix)


def test_cholesky_confesses_a_residual_above_its_tolerance():
    matrix = covariance()
    solution = Cholesky(tolerance=1e-18).factorise(matrix).solve(normal(len(matrix), 2))
    assert 1e-18 < solution.worst_residual < 1e-12
    assert not solution.converged
