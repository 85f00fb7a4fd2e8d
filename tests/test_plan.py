"""The plan says what will be done, and what is done costs what it said."""

import pytest
import torch
from cases import MODELS
from dense_model import build

from pdip import plan as plan_module
from pdip.errors import InputError
from pdip.evidence import TVPredCP, optimise_evidence
from pdip.linearised import features
from pdip.linearised.jacobian import Jacobian
from pdip.passes import predicted_passes
from pdip.plan import check_memory, plan
from pdip.posterior import Posterior, pooled_posterior, relinearise
from pdip.solvers import CG, Cholesky, Projected

SHAPES = {"forward": "domain_shape", "adjoint": "range_shape"}


def rays(scan):
    return scan.sinogram.numel() if scan.weights is None else int((scan.weights > 0).sum())


@pytest.fixture
def counted(monkeypatch):
    """Passes through any Jacobian from now on."""
    passes = {"forward": 0, "adjoint": 0}
    for name in passes:
        product = getattr(Jacobian, name)

        def counting(self, batch, name=name, product=product):
            passes[name] += batch.reshape(-1, *getattr(self, SHAPES[name])).shape[0]
            return product(self, batch)

        monkeypatch.setattr(Jacobian, name, counting)
    return passes


@pytest.mark.slow
@pytest.mark.parametrize("solver", [Cholesky(), Projected(rank=20)], ids=["exact", "projected"])
@pytest.mark.parametrize("stored", [True, False], ids=["pixels stored", "rows only"])
@pytest.mark.parametrize("name", ["through", "before"])
def test_predicted_passes_are_those_made(name, stored, solver, counted, monkeypatch):
    if not stored:
        monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)
        monkeypatch.setattr("pdip.posterior.posterior.STD_SAMPLES", 64)
        monkeypatch.setattr("pdip.passes.STD_SAMPLES", 64)
    model, scan, _ = build(MODELS[name])
    predicted = predicted_passes(model, rays(scan), solver)
    found = optimise_evidence(model, scan, hyperprior=TVPredCP(), solver=solver)
    again = relinearise(found.model, scan, solver)
    if again is not found.model:
        found = optimise_evidence(again, scan, hyperprior=TVPredCP(), solver=solver)
    posterior = Posterior(found.model, scan, solver)
    posterior.std()
    posterior.tensors()
    for product, count in (("forward", predicted.jvp), ("adjoint", predicted.vjp)):
        made = counted[product]
        assert made <= 1.02 * count + 4
        assert count <= 1.5 * made + 20


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [1, 2])
def test_the_posterior_tells_the_passes_it_makes(restarts, counted, monkeypatch):
    monkeypatch.setattr(features, "MAX_STORED_PIXELS", 0)
    monkeypatch.setattr("pdip.posterior.posterior.MAX_EXACT_PIXELS", 0)
    monkeypatch.setattr("pdip.posterior.posterior.STD_SAMPLES", 128)
    model, scan, _ = build(MODELS["before"])
    assert model.features.latent.params_image is not None
    counted["forward"], told = 0, []
    pooled_posterior([model] * restarts, scan, progress=lambda *words: told.append(words))
    assert told == sorted(told)
    assert told[0][0] < told[-1][0] == told[-1][1] == counted["forward"]
    assert {total for _, total, _ in told} == {counted["forward"]}


def test_solver_follows_rays_and_memory(monkeypatch):
    model, _, _ = build(MODELS["through"])
    assert plan(model, 900).solver == Cholesky()
    assert plan(model, 5000).solver == Projected()
    assert plan(model, 5000, solver=Cholesky()).solver == Cholesky()
    memory = plan(model, 5000).memory_bytes
    monkeypatch.setattr(plan_module, "machine_memory", lambda device: memory / 2)
    assert plan(model, 5000).solver == Projected(largest_rank=512)
    monkeypatch.setattr(plan_module, "machine_memory", lambda device: memory / 100)
    assert isinstance(plan(model, 5000).solver, CG)
    assert plan(model, 900).solver != Cholesky()


def test_few_rays_are_halved_until_memory_holds_them(monkeypatch):
    model, _, _ = build(MODELS["through"])
    open_limit = plan(model, 2160)
    assert open_limit.solver == Projected() and "combinations" not in open_limit.sentence
    tight = 0.9 * open_limit.memory_bytes / plan_module.MEMORY_SHARE
    monkeypatch.setattr(plan_module, "machine_memory", lambda device: tight / 2)
    assert plan(model, 2160).solver == Projected(largest_rank=1080)
    assert plan(model, 2160).memory_bytes < open_limit.memory_bytes / 2


def test_exact_algebra_beyond_memory_is_refused_before_the_fit():
    cpu = torch.device("cpu")
    with pytest.raises(InputError, match="got 900000 that need more than"):
        check_memory(Cholesky(), 900_000, 64**2, cpu)
    check_memory(Cholesky(), 500, 64**2, cpu)
    check_memory(Projected(), 900_000, 64**2, cpu)
    check_memory(None, 900_000, 64**2, cpu)


def test_images_beyond_memory_are_refused_or_get_fewer_combinations(monkeypatch):
    cpu, pixels = torch.device("cpu"), 1000**2
    monkeypatch.setattr(plan_module, "machine_memory", lambda device: 24e9)
    solver, why, memory = plan_module.foreseen(80_000, 32, 50_000, pixels, cpu)
    assert solver == Projected(largest_rank=512) and why == "what memory holds"
    assert 8e9 < memory < plan_module.MEMORY_SHARE * 24e9
    check_memory(None, 50_000, pixels, cpu)
    with pytest.raises(InputError, match="got 4000000 pixels and 50000 rays .* use --binning"):
        check_memory(None, 50_000, 4 * pixels, cpu)


def test_cost_grows_with_the_problem_and_is_said():
    model, _, _ = build(MODELS["through"])
    small, large = plan(model, 300), plan(model, 5000, restarts=2)
    assert large.passes.jvp > small.passes.jvp and large.memory_bytes > small.memory_bytes
    assert large.sentence.startswith("projected for 5000 rays, 1024 combinations at most (too")
    assert f"{large.passes.jvp + large.passes.vjp} network passes" in large.sentence
    assert plan(model, 5000, solver=CG()).passes.jvp > large.passes.jvp


def test_durations_are_said_as_people_say_them():
    said = [plan_module.in_words(s) for s in (0.2, 61, 130, 3000, 9000)]
    assert said == ["1 s", "61 s", "2 min", "50 min", "2.5 h"]
