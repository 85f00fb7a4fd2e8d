"""Closed-form leave-one-out against the removal of rays and views by brute force."""

import pytest
import torch
from cases import MODELS
from dense_model import build, relative

from pdip.calibration.leave_one_out import Precision, leave_rays_out, leave_views_out
from pdip.evidence.data import Data
from pdip.solvers import Projected

EXACT = 1e-8


@pytest.fixture(scope="module", params=["before", "through nugget"])
def dense(request):
    """Whitened covariance, residual and views of a model with unequal weights, some 0."""
    model, scan, dense = build(MODELS[request.param])
    data = Data.of(scan, model.ray)
    root = data.weights.sqrt()
    view = data.index // scan.geometry.num_detectors
    covariance = root[:, None] * dense.sinogram_covariance * root
    return covariance, root * dense.residual, view, model, data


def without(covariance, residual, group):
    """Error and covariance of a group of rays predicted from all others."""
    kept = ~group
    gain = torch.linalg.solve(covariance[kept][:, kept], covariance[kept][:, group]).T
    error = residual[group] - gain @ residual[kept]
    return error, covariance[group][:, group] - gain @ covariance[kept][:, group]


def assert_as_by_removal(precision, covariance, residual, view):
    rays, views = leave_rays_out(precision, residual), leave_views_out(precision, residual, view)
    for number in range(0, len(residual), 7):
        group = torch.arange(len(residual)) == number
        error, variance = without(covariance, residual, group)
        assert relative(rays.error[group], error) < EXACT
        assert relative(rays.variance[group], variance.diagonal()) < EXACT
    for place, number in enumerate(view.unique()):
        group = view == number
        error, variance = without(covariance, residual, group)
        assert relative(views.error[group], error) < EXACT
        assert relative(views.variance[group], variance.diagonal()) < EXACT
        truth = torch.distributions.MultivariateNormal(torch.zeros_like(error), variance)
        assert float(views.log_density[place]) == pytest.approx(float(truth.log_prob(error)))


def test_exact_algebra_agrees_with_removal(dense):
    covariance, residual, view, _, _ = dense
    assert_as_by_removal(Precision.exact(covariance), covariance, residual, view)


def test_combinations_of_rays_agree_with_removal_under_their_own_covariance(dense):
    _, residual, view, model, data = dense
    model = data.observed(model, Projected(rank=9))
    basis, noise = data.basis(model), float(model.noise_variance)
    inner = data.covariance(model)
    outside = torch.eye(len(residual)).double() - basis @ basis.T
    covariance = basis @ inner @ basis.T + noise * outside
    precision = Precision.compressed(basis, inner, noise)
    assert_as_by_removal(precision, covariance, residual, view)


@pytest.mark.parametrize("compressed", [False, True])
def test_draws_have_the_precision_as_covariance(compressed):
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 3, generator=generator).double())[0]
    inner = torch.diag(torch.tensor([4.0, 2.0, 1.5]).double())
    precision = Precision.compressed(basis, inner, 0.5)
    truth = basis @ inner.inverse() @ basis.T + 2 * (torch.eye(6).double() - basis @ basis.T)
    if not compressed:
        precision = Precision.exact(truth.inverse())
    draws = precision.sample(200_000, generator)
    spread = (truth.diagonal()[:, None] * truth.diagonal() + truth.square()).sqrt()
    z = (draws.T @ draws / len(draws) - truth) / spread * len(draws) ** 0.5
    assert float(z.abs().max()) < 4
    assert relative(precision.diagonal(), truth.diagonal()) < EXACT
