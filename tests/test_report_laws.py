"""What figures and tables of a report say is what their records say."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dense_model import normal

from pdip.calibration.conformal import conformal
from pdip.calibration.held_out import WithheldRays, held_out_scores
from pdip.calibration.recalibration import Scales
from pdip.calibration.view_bands import ViewBand
from pdip.calibration.whiteness import whiteness
from pdip.check_design import CheckDesign
from pdip.posterior import SavedPosterior
from pdip.report import (
    check_summary,
    check_warnings,
    draw_arcs,
    draw_check,
    draw_design,
    draw_factors,
    draw_selection,
    draw_volume,
    edge_scores,
    factors_table,
    picks_table,
    scores,
    stored_map,
    volume_summary,
)
from pdip.report.volume import MEANS
from pdip.scan import ImageGrid


def test_a_stored_map_has_four_digits_of_its_image():
    image = normal(5, 4) * 1e-3
    stored = json.loads(json.dumps(stored_map(image)))
    assert stored == [[float(f"{v:.4g}") for v in row] for row in stored]
    assert np.allclose(stored, image, rtol=5e-4, atol=0)


@pytest.mark.parametrize(("side", "kind"), [(6, "joint"), (41, "marginal")])
def test_the_log_likelihood_is_that_of_the_normal_distribution(side, kind):
    """Joint up to 1 600 pixels, beyond them the mean of the marginals."""
    image, deviations = normal(side, side), normal(50, side, side, seed=1).float()
    truth, std = image + 0.1 * normal(side, side, seed=2), deviations.square().mean(0).sqrt()
    flat = deviations.double().flatten(1)
    tensors = {"image": image.float(), "mean": image.float(), "std": std}
    if kind == "joint":
        covariance = flat.mT @ flat / 50
        known = torch.distributions.MultivariateNormal(image.flatten(), covariance)
        expected = known.log_prob(truth.flatten()) / side**2
        posterior = SavedPosterior({**tensors, "covariance": covariance})
    else:
        expected = torch.distributions.Normal(image, std.double()).log_prob(truth).mean()
        posterior = SavedPosterior({**tensors, "deviations": deviations})
    result = SimpleNamespace(image=image.float(), std=std, posterior=posterior)
    found = scores(result, truth.float())
    assert found["log_likelihood_kind"] == kind
    assert found["log_likelihood_per_pixel"] == pytest.approx(float(expected), rel=1e-4)
    unknown = scores(result, None)
    assert unknown.keys() == found.keys() and unknown.pop("log_likelihood_kind") == kind
    assert set(unknown.values()) == {None}


@pytest.fixture
def edges():
    """A 10 x 10 image whose first two rows are edges, seen ones and unseen ones; |error| = 2 std
    where an edge is seen, and half a std elsewhere."""
    strength, unseen_deg = torch.zeros(10, 10), torch.full((10, 10), 45.0)
    strength[:2], unseen_deg[0] = torch.linspace(0.4, 1, 10), torch.linspace(0, 4, 10)
    std = 0.01 + 0.01 * torch.rand(10, 10, generator=torch.Generator().manual_seed(0))
    error = 0.5 * std
    error[0] = 2 * std[0]
    return std, error, strength, unseen_deg


def test_edges_are_scored_by_what_the_arc_sees_of_them(edges):
    std, error, strength, unseen_deg = edges
    image = torch.rand(10, 10, generator=torch.Generator().manual_seed(1))
    found = edge_scores(image, std, image - error, strength, unseen_deg)
    for name, row, covered in (("seen", 0, 0.0), ("unseen", 1, 1.0)):
        assert found[name]["pixels"] == 10 and found[name]["coverage_95"] == covered
        assert found[name]["mean_std"] == pytest.approx(float(std[row].mean()))
        assert found[name]["mean_error"] == pytest.approx(float(error[row].mean()), rel=1e-4)
    assert found["flat_std"] == pytest.approx(float(std[2:].mean()))
    assert [part["pixels"] for part in found["edges"]] == [10, 10]  # 45 degrees count once
    rank = {name: values.flatten().argsort().argsort().double() for name, values in
            (("std", std), ("error", error))}  # fmt: skip
    expected = float(torch.corrcoef(torch.stack(list(rank.values())))[0, 1])
    assert found["rank_correlation"] == pytest.approx(expected, abs=1e-3)
    unknown = edge_scores(image, std, None, strength, unseen_deg)
    assert unknown["seen"]["mean_std"] == found["seen"]["mean_std"]
    assert unknown["relative_l2"] is unknown["seen"]["coverage_95"] is None


@pytest.mark.slow
def test_the_figure_of_arcs_draws_errors_only_where_there_is_a_reference(edges):
    std, error, strength, unseen_deg = edges
    rows = []
    for truth in (std + error, None):
        found = edge_scores(std, std, truth, strength, unseen_deg)
        maps = {"name": "arc", "image": stored_map(std), "std": stored_map(std), "half_mm": 5.0}
        rows.append({**maps, **found})
    figure = draw_arcs(rows)
    known, unknown = (a for a in figure.axes if a.get_xlabel().startswith("angle to"))
    means = [part["mean_std"] for part in rows[0]["edges"]]
    errors = [part["mean_error"] for part in rows[0]["edges"]]
    assert [list(line.get_ydata()) for line in known.lines[:2]] == [means, errors]
    assert len(known.lines) == 3 and len(unknown.lines) == 2
    assert list(known.lines[0].get_xdata()) == [part["unseen_deg"] for part in rows[0]["edges"]]
    for axis in (known, unknown):  # the legend stands above all lines
        figure.draw_without_rendering()
        below = axis.get_legend().get_window_extent().y0
        highest = max(max(line.get_ydata()) for line in axis.lines)
        assert axis.transData.transform((0, highest))[1] < below


@pytest.fixture(scope="module")
def check():
    """Withheld rays of views 2 and 5 of 8 whose std is claimed half as wide as it is."""
    withheld = torch.zeros(8, 60, dtype=torch.bool)
    withheld[2::3] = True
    signal = 9 * torch.rand(8, 60, generator=torch.Generator().manual_seed(1)).double()
    error = (4 * signal + 1).sqrt() * normal(8, 60)
    rays = WithheldRays.of(error, signal, torch.ones(8, 60), withheld)
    white = whiteness(normal(8, 60), normal(50, 8, 60, seed=2), torch.ones_like(withheld))
    return SimpleNamespace(
        verdict="too narrow", grounds="Seen.", pattern="none", std=None,
        held_out=held_out_scores(rays),
        leave_one_out={"views": held_out_scores(rays.at(scale=2.0))}, whiteness=white,
        scales=Scales((ViewBand(2.0, 1.7, 2.4, 0.1),), ViewBand(1.0, 1.0, 1.0, 0.0)),
        region_scales=None, conformal=conformal(rays.z),
        rays=rays, withheld=withheld, design=CheckDesign(share=0.25),
        result=SimpleNamespace(noise_std_by_evidence=0.1, log_evidence=-3.0),
    )  # fmt: skip


def test_the_summary_of_a_check_is_json_of_its_scores(check):
    found = json.loads(json.dumps(check_summary(check), allow_nan=False))
    assert check_warnings(found) == ["Measurements that the fit did not see say that too narrow."]
    assert check_warnings(found | {"too_narrow": False}) == []
    z, views = check.rays.z, found["leave_one_out"]["views"]["predicted"]
    assert found["settings"]["share"] == 0.25
    assert found["held_out"]["predicted"]["chi_squared"]["value"] == pytest.approx(
        float(z.square().mean())
    )
    assert views["chi_squared"]["value"] == pytest.approx(
        float(check.rays.at(scale=2.0).z.square().mean())
    )
    inside = float((z.abs() < 0.994458).double().mean())  # the central 68 % of N(0, 1)
    assert found["held_out"]["predicted"]["coverage"]["0.68"]["value"] == pytest.approx(inside)
    recalibration = found["recalibration"]
    assert recalibration["conformal"]["quantile"] == check.conformal.quantile
    assert recalibration["scales"][0]["value"] == check.scales.scales[0].value
    assert recalibration["determined"] and not recalibration["applied"]


def test_the_figure_of_a_check_shows_its_rays(check):
    figure = draw_check(check)
    quantiles, covered, errors, correlated = figure.axes[:4]
    z, scale = check.rays.z, check.scales.scales[0].value
    lines = {line.get_label(): line for line in covered.lines}
    drawn = {line.get_label(): line.get_ydata() for line in quantiles.lines}
    middle = [line.get_ydata()[9] for line in covered.lines[:3]]  # 50 %
    for part, found, name in zip(
        (check.rays, check.rays.at(scale=0.0), check.rays.at(scale)), middle,
        ("as predicted", "noise alone", "recalibrated"), strict=True,
    ):  # fmt: skip
        assert found == pytest.approx(float((part.z.abs() < 0.67449).double().mean()))
        assert drawn[name][20] == pytest.approx(float(part.z.quantile(0.5)))
        assert name in lines
    assert np.ma.getdata(errors.images[0].get_array()).flatten() == pytest.approx(z.tolist())
    numbers = check.withheld.any(1).nonzero()[:, 0].tolist()
    label = errors.yaxis.get_major_formatter()
    assert [label(row, None) for row in range(len(numbers))] == [str(n) for n in numbers]
    assert label(len(numbers), None) == "" and numbers != list(range(len(numbers)))
    values = [one.values.tolist() for one in check.whiteness.values()]
    assert [line.get_ydata().tolist() for line in correlated.lines[:2]] == values


def test_the_design_figure_shows_means_over_seeds_and_one_seeds_choice():
    rows = [
        {"strategy": name, "seed": seed, "views": views, "psnr": base + views + 2 * seed,
         "angles_deg": [10.0 * base + k for k in range(views)]}
        for name, base in (("eig", 5), ("equidistant", 7)) for seed in (0, 1) for views in (3, 2)
    ]  # fmt: skip
    left, right = draw_design(rows).axes
    for (line, bars), base in zip(
        ((c.lines[0], c.lines[2][0]) for c in left.containers), (5, 7), strict=True
    ):
        assert list(line.get_xdata()) == [2, 3] and list(line.get_ydata()) == [base + 3, base + 4]
        low, high = bars.get_segments()[0][:, 1]
        assert (high - low) / 2 == pytest.approx(1)  # √(((-1)² + 1²) / (1 * 2)), the values ∓ 1
    assert list(right.lines[0].get_xdata()) == [50.0, 51.0, 52.0]
    assert [label.get_text() for label in right.get_yticklabels()] == ["eig", "equidistant"]


@pytest.fixture
def selections():
    """Two scans with three candidates each; one criterion always right, one always wrong."""
    measures = ((20.0, 3.0), (24.0, 2.0), (22.0, None))
    return [
        {"scan": scan, "psnr": psnr, "log_likelihood": likelihood, "held_out_score": psnr,
         "conditional_evidence": -psnr, "profile_evidence": None if k else 0.0,
         "network_weights_evidence": likelihood, "winner": k == 2}
        for scan in ("a", "b") for k, (psnr, likelihood) in enumerate(measures)
    ]  # fmt: skip


def test_the_table_of_picks_counts_the_best_and_what_others_lose(selections):
    cells = [line.strip("| ").split(" | ") for line in picks_table(selections).splitlines()[2:]]
    found = {(row[0], row[1].split(" ")[0]): tuple(row[2:]) for row in cells}
    assert found["held-out score", "PSNR"] == ("1.00", "0 ± 0", "2")
    assert found["conditional evidence", "PSNR"] == ("0.00", "4 ± 0", "2")
    assert found["profile evidence", "PSNR"] == found["conditional evidence", "PSNR"]
    assert found["network-weights evidence", "log-likelihood"] == ("1.00", "0 ± 0", "2")
    assert found["held-out score", "log-likelihood"] == ("0.00", "1 ± 0", "2")
    assert found["pdip select", "PSNR"] == ("0.00", "2 ± 0", "2")
    assert found["chance", "PSNR"] == ("0.33", "2 ± 0", "2")
    assert found["chance", "log-likelihood"] == ("0.33", "0.6667 ± 0", "2")


def test_the_figure_of_picks_shows_the_table(selections):
    shares, losses, _ = draw_selection(selections).axes
    names = [label.get_text() for label in shares.get_yticklabels()]
    bars = dict(zip(names, (bar.get_width() for bar in shares.containers[0]), strict=True))
    lost = dict(zip(names, losses.containers[0].lines[0].get_xdata(), strict=True))
    assert bars["held-out score"] == 1 and lost["held-out score"] == 0
    assert bars["conditional evidence"] == 0 and lost["conditional evidence"] == 4
    assert bars["chance"] == pytest.approx(1 / 3) and lost["chance"] == pytest.approx(2)


@pytest.fixture
def checked():
    """Four checks: two rescale, one finds nothing to do, one has no result."""
    truths = {"true_of_rays": 2.0, "true_of_pixels_in_check": 1.4, "true_of_pixels": 4.0}
    shared = {"views": 20, "noise": 0.05, "determined": True, **truths, "log_likelihood": 1.0}
    factor = {"value": 2.0, "low": 1.5, "high": 2.5, "standard_error": 0.2}
    wide = {"value": 1.1, "low": 0.1, "high": 9.0, "standard_error": 0.9}
    return [
        shared | {"factor": factor, "written": True, "log_likelihood_recalibrated": 2.0},
        shared | {"factor": factor, "written": True, "log_likelihood_recalibrated": 3.0},
        shared | {"factor": wide, "written": False, "determined": False,
                  "log_likelihood_recalibrated": 1.0},
        {"views": 20, "noise": 0.05, "failure": "the fit died"},
    ]  # fmt: skip


def test_the_table_of_factors_counts_what_intervals_hold_and_what_rescaling_gains(checked):
    row = factors_table(checked).splitlines()[2].strip("| ").split(" | ")
    assert row == ["20", "0.05", "3 + 1 failed", "2", "2", "2", "0", "0", "1.5 ± 0.5"]
    assert factors_table(checked[2:]).splitlines()[2].endswith("| – |")


def test_the_figure_of_factors_shows_each_check_at_its_true_factor(checked):
    rays, *_, pixels = draw_factors(checked).axes
    rescaled, left = rays.containers
    assert rescaled.lines[0].get_xdata().tolist() == [2.0, 2.0]
    assert [line[:, 1].tolist() for line in rescaled.lines[2][0].get_segments()] == [[1.5, 2.5]] * 2
    assert left.lines[0].get_ydata().tolist() == [1.1]
    assert pixels.containers[1].lines[0].get_xdata().tolist() == [4.0]


def test_a_volume_has_the_means_of_its_slices_and_names_those_without_a_result():
    def of_slice(value):
        cost = {"seconds": value, "peak_memory_mb": 10 * value}
        return {
            **dict.fromkeys(MEANS, value), "log_likelihood_kind": "joint",
            "restarts": [{"stop_reason": f"stopped at {value}"}, {"stop_reason": "stopped at 9"}],
            "solver": {"worst_residual": value, "converged": value < 3}, "stages": {"fit": cost},
        }  # fmt: skip

    slices = {4: of_slice(1.0), 5: "the fit died", 6: of_slice(3.0)}
    found = volume_summary(slices, ["an axis"], {"sinogram": "stack.npy"})
    assert all(found[key] == 2.0 for key in MEANS)
    assert found["solver"] == {"worst_residual": 3.0, "converged": False}
    assert found["stages"]["fit"] == {"seconds": 4.0, "peak_memory_mb": 30.0}
    assert found["assumptions"][0] == "an axis" and "slice 5 has no" in found["assumptions"][1]
    assert [row["slice"] for row in found["slices"]] == [4, 5, 6]
    assert found["slices"][0]["stop_reason"] == "stopped at 1.0 to 9"
    assert found["slices"][1] == {"slice": 5, "failure": "the fit died"}
    slices[6]["psnr"] = None
    assert volume_summary(slices, [], {})["psnr"] is None


def test_the_figure_of_a_volume_leaves_out_slices_without_a_result():
    image, std = normal(6, 4, 5).numpy(), normal(6, 4, 5, seed=1).abs().numpy()
    image[2] = std[2] = np.nan
    numbers = [10, 11, 12, 13, 14, 15]
    figure = draw_volume(image, std, numbers, ImageGrid((4, 5), 0.5))
    pictures = {a.get_title().split(" (")[0]: a.images[0] for a in figure.axes if a.images}
    shown = [n for n in numbers if f"slice {n}: std" in pictures]
    assert len(shown) == 4 and 12 not in shown
    for number in shown:
        drawn = pictures[f"slice {number}: reconstruction"].get_array()
        assert np.array_equal(drawn, image[number - 10])
    line, missing = next(axis.lines for axis in figure.axes if axis.lines)
    assert list(missing.get_xdata()) == [12]
    means = line.get_ydata()
    assert math.isnan(means[2]) and means[0] == pytest.approx(std[0].mean())
