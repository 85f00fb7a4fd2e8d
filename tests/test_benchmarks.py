"""The benchmark's table holds what it promises, and its numbers follow from each other."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from cases import MODELS
from dense_model import build, relative

import pdip
from benchmarks import standard
from benchmarks.__main__ import record
from benchmarks.measure import INFERENCE, compare
from benchmarks.problems import GROWTH, PROBLEMS, QUICK, Problem
from benchmarks.standard import PROBES, PRODUCTS, STEPS, covariance_step, hutchinson_step
from benchmarks.tables import report
from pdip.evidence.data import Data
from pdip.passes import Passes

TINY = Problem(
    "tiny",
    pdip.ParallelBeam(np.arange(4) * 45.0, 12),
    pdip.ImageGrid((10, 9)),
    channels=4,
    fit_steps=2,
)


@cache
def measured():
    return compare(TINY)


@pytest.mark.slow
def test_passes_of_every_stage_are_counted():
    one = measured()
    assert [stage.name for stage in one.stages] == [
        "ray",
        "fit",
        "linearise",
        "plan",
        *INFERENCE[1:],
    ]
    assert one.stage("linearise").passes == Passes(0, one.pixels)
    assert one.stage("fit").passes == Passes()
    made, said = one.inference_passes, one.predicted.passes
    assert said.vjp == made.vjp and said.jvp <= made.jvp <= said.jvp + 4


@pytest.mark.slow
def test_a_step_of_the_standard_algorithm_makes_the_passes_it_is_named_after():
    covariance, hutchinson = measured().standard
    columns = 1 + PROBES
    assert covariance.step_passes == Passes()
    assert hutchinson.step_passes == Passes(PRODUCTS * columns, (PRODUCTS + 2) * columns)


@pytest.mark.slow
def test_totals_and_ratios_follow_from_one_step_and_the_whole_search():
    one = measured()
    plain = json.loads(json.dumps(record(one)))
    search = sum(s["seconds"] for s in plain["stages"] if s["name"] in ("linearise", "evidence"))
    assert plain["search_seconds"] == pytest.approx(search)
    for cost in plain["standard"]:
        for steps in STEPS:
            total = cost["total_seconds"][str(steps)]
            assert total == pytest.approx(steps * cost["step_seconds"]) and total > 0
            assert cost["standard_over_ours"][str(steps)] == pytest.approx(total / search)
    ratios = [cost["standard_over_ours"][str(min(STEPS))] for cost in plain["standard"]]
    assert one.least_ratio == pytest.approx(min(ratios))


@pytest.mark.slow
def test_the_report_shows_every_number_it_is_about():
    one = measured()
    text = report({"threads": 2}, [one], [one])
    for cost in one.standard:
        assert cost.name in text and f"{one.standard_over_ours(cost, STEPS[0]):.0f} - " in text
    assert f"at least {one.least_ratio:.0f} times" in text
    for word in ("Stages", "Plan", "standard / ours", "Growth", "fit, 2 steps", "cholesky"):
        assert word in text
    for stage in one.stages:
        assert f"{stage.seconds:.2f}" in text


@pytest.mark.slow
def test_more_rays_than_a_step_is_measured_on_are_multiplied_up(monkeypatch):
    monkeypatch.setattr(standard, "ROWS", 24)
    covariance, _ = compare(TINY).standard
    assert "measured on 24 of 48 rays, x 4.0" in covariance.how


@pytest.mark.slow
def test_both_steps_are_the_gradient_of_the_profile_evidence(monkeypatch):
    monkeypatch.setattr(standard, "PRODUCTS", 48)
    monkeypatch.setattr(standard, "PROBES", 50)
    model, scan, _ = build(MODELS["through"])
    point = model.log_hyperparameters.requires_grad_()
    value = -2 * pdip.log_evidence(model.at(point), scan, objective=pdip.Profile())
    (truth,) = torch.autograd.grad(value, point)
    data = Data.of(scan, model.ray)
    rows = standard.rows_of(model, data.num_rays)
    assert relative(covariance_step(model, data, rows), truth) < 1e-8
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([hutchinson_step(model, data, generator) for _ in range(6)])
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - truth).abs() < 4 * error).all()
    assert (truth.abs() > 10 * error).sum() > len(truth) / 2


def test_problems_are_those_of_the_table_and_each_growth_changes_one_thing():
    assert [p.name for p in PROBLEMS] == ["28x28", "64x64", "128x128"]
    assert [p.name for p in QUICK] == ["28x28"] and QUICK[0].fit_steps < PROBLEMS[0].fit_steps
    base, *others = GROWTH
    for other in others:
        same = [getattr(other, f) == getattr(base, f) for f in ("geometry", "grid", "channels")]
        assert sum(same) == 2
