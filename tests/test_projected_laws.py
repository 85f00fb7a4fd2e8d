"""Laws of inference on compressed data: exact at full rank, never more certain below it."""

import math
from dataclasses import replace

import pytest
import torch
from cases import MODELS, SMALL, ModelCase
from dense_model import build, normal, relative
from torch.distributions import MultivariateNormal

from benchmarks.passes import counted_passes
from pdip.errors import InputError
from pdip.evidence import Conditional, NetworkWeights, Profile, log_evidence, optimise_evidence
from pdip.evidence import data as data_module
from pdip.evidence.data import Data
from pdip.linearised import features, measurement
from pdip.passes import Passes
from pdip.posterior import Posterior, relinearise
from pdip.posterior.image_posterior import RESOLUTION
from pdip.scan import ImageGrid, ParallelBeam
from pdip.solvers import CG, Cholesky, Projected
from pdip.solvers.projected import PROBES

EXACT = 1e-8
FULL = Projected(rank=100)


@pytest.fixture(params=["pixels stored", "rows only"])
def storage(request, monkeypatch):
    if request.param == "rows only":
        monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)


def withheld(scan):
    return torch.rand(scan.sinogram.shape, generator=torch.Generator().manual_seed(4)) < 0.3


def decaying(size=40, seed=0):
    """A covariance whose eigenvalues fall by a factor of two each."""
    vectors = torch.linalg.qr(normal(size, size, seed=seed))[0]
    return (vectors * 2.0 ** -torch.arange(size).double()) @ vectors.T


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_all_combinations_together_are_all_data(name, storage):
    model, scan, _ = build(MODELS[name])
    objectives = [Profile(), Conditional(withheld(scan))]
    if MODELS[name].nugget_std is None:
        objectives.append(NetworkWeights())
    for objective in objectives:
        exact = log_evidence(model, scan, objective=objective)
        projected = log_evidence(model, scan, objective=objective, solver=FULL)
        assert relative(projected, exact) < EXACT
    exact, projected = Posterior(model, scan), Posterior(model, scan, FULL)
    assert relative(projected.mean, exact.mean) < EXACT
    assert relative(projected.covariance(), exact.covariance()) < EXACT
    weights = normal(*model.image.shape)
    assert projected.functional(weights) == pytest.approx(exact.functional(weights), rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["through nugget", "before", "none"])
@pytest.mark.parametrize("rank", [1, 5, 20])
def test_fewer_data_never_mean_more_certainty(name, rank, storage):
    """Pixel by pixel, and for every functional: the difference is positive semidefinite."""
    model, scan, _ = build(MODELS[name])
    exact = Posterior(model, scan)
    projected = Posterior(model, scan, Projected(rank=rank))
    assert projected.model.measurement.num_rows == rank
    gap = projected.pre_activation_variance - exact.pre_activation_variance
    assert gap.min() > -1e-12 and gap.max() > 1e-6
    if model.activation == "through":
        eigenvalues = torch.linalg.eigvalsh(projected.covariance() - exact.covariance())
        assert eigenvalues.min() > -1e-10 * eigenvalues.max()


@pytest.mark.parametrize("name", ["through", "through nugget", "before"])
def test_evidence_is_that_of_the_kept_combinations_and_of_noise_elsewhere(name):
    model, scan, dense = build(MODELS[name])
    data = Data.of(scan, model.ray)
    model = data.observed(model, Projected(rank=7))
    basis = model.measurement.compression.basis
    assert relative(basis.T @ basis, torch.eye(7).double()) < 1e-12
    noise = float(model.noise_variance)
    whitening = torch.diag((noise / dense.noise).sqrt())
    signal = dense.sinogram_covariance - torch.diag(dense.noise)
    projector = basis @ basis.T
    inside = projector @ whitening @ signal @ whitening @ projector
    covariance = torch.linalg.inv(whitening) @ inside @ torch.linalg.inv(whitening)
    covariance = (covariance + covariance.T) / 2 + torch.diag(dense.noise)
    zero = torch.zeros(len(covariance)).double()
    truth = MultivariateNormal(zero, covariance).log_prob(dense.residual)
    assert relative(log_evidence(model, scan, objective=Profile()), truth) < EXACT


def test_posterior_is_that_given_the_kept_combinations_alone():
    model, scan, dense = build(MODELS["through nugget"])
    posterior = Posterior(model, scan, Projected(rank=6))
    basis = posterior.model.measurement.compression.basis
    whitening = (float(model.noise_variance) / dense.noise).sqrt()
    kept = dense.at(
        ray=basis.T @ (whitening[:, None] * dense.ray),
        sinogram=basis.T @ (whitening * dense.sinogram),
        noise=torch.full((6,), float(model.noise_variance)).double(),
    )
    floor = (RESOLUTION * model.jacobian.network.image_scale) ** 2
    truth = kept.posterior_covariance + floor * torch.eye(model.image.numel()).double()
    assert relative(posterior.mean.flatten(), kept.posterior_mean) < EXACT
    assert relative(posterior.covariance(), truth) < EXACT


@pytest.mark.slow
def test_samples_on_compressed_data_have_its_covariance():
    model, scan, _ = build(MODELS["through nugget"])
    posterior = Posterior(model, scan, Projected(rank=6))
    count = 10_000
    draws = posterior.sample(count, generator=torch.Generator().manual_seed(0)) - posterior.image
    weights = normal(*model.image.shape, seed=9)
    values = (draws * weights).sum((-2, -1)).square()
    truth, error = posterior.functional_variance(weights), values.std() / math.sqrt(count)
    assert abs(values.mean() - truth) < 4 * error
    exact = Posterior(model, scan).functional_variance(weights)
    assert abs(truth - exact) > 10 * error


def test_basis_holds_the_dominant_part_of_the_signal():
    matrix = decaying()
    basis, left = Projected(rank=12).compress(matrix.matmul, 40, 1e-3)
    outside = matrix.trace() - (basis.T @ matrix @ basis).trace()
    best = 2.0 ** -torch.arange(12, 40).double()
    assert basis.shape == (40, 12)
    assert best.sum() <= outside < 4 * best.sum()
    assert 0 <= left < 0.5 / 1e-3
    again, left = Projected(rank=12).compress(matrix.matmul, 40, 1e-3, guess=matrix @ basis)
    closer = matrix.trace() - (again.T @ matrix @ again).trace()
    assert best.sum() * (1 - 1e-9) <= closer < outside
    assert left == pytest.approx(float(outside) / 1e-3, rel=1)


def test_probes_of_what_is_left_begin_the_next_block():
    """Every product with the signal is a combination of the basis, but those of the last look."""
    values, columns = torch.logspace(0, -6, 400).double(), []

    def signal(vectors):
        columns.append(vectors.shape[1])
        return values[:, None] * vectors

    basis, _ = Projected(rank=300).compress(signal, 400, 1.0)
    assert basis.shape[1] == 300 and sum(columns) == 300 + PROBES
    assert columns == [128, PROBES, 112, PROBES, 28, PROBES]


def test_rank_grows_until_little_is_left(monkeypatch):
    monkeypatch.setattr("pdip.solvers.projected.BLOCK", 4)
    matrix = decaying()
    ranks = []
    for outside in (0.1, 1e-4, 1e-9):
        basis, left = Projected(outside=outside).compress(matrix.matmul, 40, 1.0)
        ranks.append(basis.shape[1])
        assert left <= outside * 40
        truth = float(matrix.trace() - (basis.T @ matrix @ basis).trace())
        assert truth < 2 * outside * 40
    assert ranks == sorted(ranks) and ranks[0] < ranks[-1]
    assert Projected(outside=1e-9, largest_rank=8).compress(matrix.matmul, 40, 1.0)[0].shape[1] == 8


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["network weights", "conditional"])
def test_search_on_compressed_data_ends_where_the_exact_one_does(objective):
    model, scan, _ = build(MODELS["before"])
    chosen = NetworkWeights() if objective == "network weights" else Conditional(withheld(scan))
    exact = optimise_evidence(model, scan, objective=chosen, hyperprior=None)
    found = optimise_evidence(model, scan, objective=chosen, hyperprior=None, solver=FULL)
    assert found.log_evidence == pytest.approx(exact.log_evidence, abs=0.05)
    assert found.model.measurement.compression is not None
    few = optimise_evidence(
        model, scan, objective=chosen, hyperprior=None, solver=Projected(rank=4)
    )
    assert abs(few.log_evidence - exact.log_evidence) > 0.1


def test_later_rounds_and_new_slopes_keep_the_compression():
    model, scan, _ = build(MODELS["before"])
    solver = Projected(rank=4)
    first = optimise_evidence(model, scan, solver=solver)
    again = relinearise(first.model, scan, solver)
    assert torch.equal(
        again.measurement.compression.basis, first.model.measurement.compression.basis
    )
    assert Posterior(again, scan).model.measurement.num_rows == 4
    assert Posterior(again, scan, solver).model.measurement.num_rows == 4
    assert Posterior(again, scan, Cholesky()).model.measurement.num_rows == 44


def test_compression_that_mixes_withheld_rays_is_refused():
    model, scan, _ = build(MODELS["before"])
    model = Data.of(scan, model.ray).observed(model, Projected(rank=4))
    with pytest.raises(InputError, match="mixes"):
        log_evidence(model, scan, objective=Conditional(withheld(scan)))


def test_few_rays_are_limited_by_the_tolerance_alone_and_many_by_their_cost():
    assert Projected().limit(2160) == 2160 and Projected().limit(8400) == 1024
    assert Projected(largest_rank=50).limit(2160) == 50 and Projected(rank=5).limit(3) == 3
    matrix = torch.diag(torch.cat([torch.full((1100,), 9.0), torch.full((100,), 1e-4)]).double())
    basis, left = Projected().compress(matrix.matmul, 1200, 1.0)
    assert 1100 < basis.shape[1] < 1200 and left <= 0.002 * 1200


def test_searches_before_the_last_have_a_quarter_of_the_combinations(monkeypatch):
    for solver, most in ((Projected(), 256), (Projected(largest_rank=50), 13), (FULL, 25)):
        assert solver.coarse().limit(60) == min(60, most)
        assert solver.coarse().limit(8400) == most
    assert CG(preconditioner=FULL).coarse().preconditioner == FULL.coarse()
    model, scan, _ = build(MODELS["before"])
    sizes, compress = [], Projected.compress

    def recorded(self, *arguments, **keywords):
        basis, left = compress(self, *arguments, **keywords)
        sizes.append(basis.shape[1])
        return basis, left

    monkeypatch.setattr(Projected, "compress", recorded)
    optimise_evidence(model, scan, solver=Projected(rank=20, rounds=3), max_evaluations=2)
    assert sizes == [5, 5, 20]


@pytest.mark.parametrize("name", ["through nugget", "before"])
def test_more_combinations_keep_those_before_and_what_is_known_of_them(name, monkeypatch):
    monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)
    for room in (data_module, measurement):
        monkeypatch.setattr(room, "PIECE", 2)
    model, scan, _ = build(MODELS[name])
    data = Data.of(scan, model.ray)
    few = data.observed(model, Projected(rank=5))
    known = few.measurement.in_weights
    more = data.observed(few, Projected(rank=9))
    assert more.measurement.num_rows == 9
    for before, after in zip(few.measurement.compression.basis.T,
                             more.measurement.compression.basis.T, strict=False):  # fmt: skip
        assert torch.equal(before, after)
    with counted_passes() as count:
        found = more.measurement.in_weights
    assert count.passes == Passes(vjp=5) and torch.equal(found[:4], known[:4])  # two whole pieces
    assert torch.equal(found, replace(more.measurement, known=None).in_weights)
    other = few.with_slope(2 * few.slope).measurement.in_weights
    assert relative(other, 2 * known) < EXACT


def test_of_parts_that_are_not_mixed_each_keeps_its_own_combinations(monkeypatch):
    model, scan, _ = build(MODELS["before"])
    data = Data.of(scan, model.ray)
    groups = Conditional(withheld(scan)).prepare(model, data).groups(data)
    few = data.observed(model, Projected(rank=3), *groups)
    more = data.observed(few, Projected(rank=7), *groups)
    before, after = few.measurement.compression.basis, more.measurement.compression.basis
    assert torch.equal(after[:, [0, 1, 2, 7, 8, 9]], before)
    alone = data.observed(model, Projected(rank=7), *groups)
    assert more.measurement.in_weights.shape == alone.measurement.in_weights.shape


def test_a_later_round_without_more_combinations_is_one_of_subspace_iteration(monkeypatch):
    model, scan, _ = build(MODELS["before"])
    data, solver = Data.of(scan, model.ray), Projected(rank=6)
    first = data.observed(model, solver)
    again = data.observed(first, solver)
    basis = again.measurement.compression.basis
    image = data.signal(first, first.measurement.compression.basis)
    assert relative(basis @ (basis.T @ image), image) < EXACT
    assert again.measurement.compression.left_outside < first.measurement.compression.left_outside


@pytest.mark.parametrize("bad", [{"rank": 0}, {"rounds": 0}, {"largest_rank": 0}, {"outside": 0.0}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match="expected a positive"):
        Projected(**bad)


def test_two_limits_of_one_rank_are_refused():
    with pytest.raises(InputError, match="got rank=4 and largest_rank=2; leave out one"):
        Projected(rank=4, largest_rank=2)


@pytest.mark.parametrize(
    "vectors", [torch.linalg.qr(normal(60, 10))[0], torch.eye(60, 10).double()]
)
def test_signal_of_low_rank_is_held_by_an_orthonormal_basis(monkeypatch, vectors):
    """More combinations than the signal has dimensions, found in several blocks."""
    monkeypatch.setattr("pdip.solvers.projected.BLOCK", 8)
    signal = (vectors * torch.logspace(6, -3, 10).double()) @ vectors.T
    for solver in (Projected(rank=40), Projected(outside=1e-9)):
        basis, left = solver.compress(signal.matmul, 60, 1.0)
        identity = torch.eye(basis.shape[1]).double()
        assert (basis.T @ basis - identity).abs().max() < 1e-12
        assert relative(basis @ (basis.T @ signal), signal) < 1e-9
        assert left < 1e-6


def test_more_rays_than_pixels_do_not_make_the_posterior_more_certain(monkeypatch):
    monkeypatch.setattr("pdip.solvers.projected.BLOCK", 16)
    many = ParallelBeam([7.5 * view for view in range(24)], 9)
    case = ModelCase(SMALL, "through", geometry=many, grid=ImageGrid((8, 8)))
    model, scan, _ = build(case)
    exact = Posterior(model, scan).covariance()
    for rank in (40, 200):
        gap = Posterior(model, scan, Projected(rank=rank)).covariance() - exact
        assert torch.linalg.eigvalsh(gap).min() > -1e-9 * exact.diagonal().max()


def test_compression_of_other_rays_or_weights_is_refused():
    model, scan, _ = build(MODELS["before"])
    model = Data.of(scan, model.ray).observed(model, Projected(rank=6))
    for weights in (2 * scan.weights, torch.ones_like(scan.weights)):
        other = replace(scan, weights=weights)
        with pytest.raises(InputError, match="compressed for"):
            Posterior(model, other)
        with pytest.raises(InputError, match="compressed for"):
            log_evidence(model, other, objective=Profile())
        assert torch.isfinite(Posterior(model.compressed(None), other).std()).all()


def test_objective_without_withheld_rays_is_refused_before_compressing():
    model, scan, _ = build(MODELS["before"])
    nothing = torch.zeros_like(scan.sinogram).bool()
    with pytest.raises(InputError, match="withheld"):
        optimise_evidence(model, scan, objective=Conditional(nothing), solver=Projected(rank=4))


def test_model_compressed_as_a_whole_is_compressed_anew_for_withheld_rays():
    model, scan, _ = build(MODELS["before"])
    model = Data.of(scan, model.ray).observed(model, Projected(rank=4))
    objective = Conditional(withheld(scan))
    found = optimise_evidence(model, scan, objective=objective, solver=Projected(rank=4))
    assert found.model.measurement.num_rows == 8
