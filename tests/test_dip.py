"""The U-Net, total variation, the noise level and the fit."""

import math
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from dense_model import normal, relative
from scipy.optimize import lsq_linear
from torch.func import functional_call

from pdip.dip import (
    UNet,
    edge_differences,
    estimate_noise_std,
    expected_total_variation,
    expected_total_variation_slope,
    fit_dip,
    start,
    total_variation,
    training,
)
from pdip.dip.adam import Adam
from pdip.dip.restarts import train_restarts
from pdip.dip.stopping import Discrepancy, HeldOutRays
from pdip.dip.tv_reconstruction import edge_adjoint, settled, tv_iterates, tv_reconstruction
from pdip.dip.unet import OutputActivation, upsample2
from pdip.errors import ComputationError, InputError
from pdip.ray import ray_transform
from pdip.scan import ImageGrid, ParallelBeam, Scan, phantoms, simulate

SHAPES = {"filters": (4, 2, 3, 3), "bias": (4,)}


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 4), (7, 1)])
def test_upsample2_is_bilinear_interpolation(shape):
    x = normal(2, 3, *shape)
    truth = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    assert relative(upsample2(x), truth) < 1e-14


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (13, 6), (1, 5)])
@pytest.mark.parametrize("scales", [1, 2, 4])
@pytest.mark.parametrize("norm", ["none", "group"])
def test_unet_keeps_the_shape_of_its_input(shape, scales, norm):
    network = UNet(scales, 8, norm=norm).double()
    batch = normal(2, 3, *shape)
    image = network(batch).detach()
    assert image.shape == batch.shape
    assert relative(image[1, 2], network(batch[1, 2]).detach()) < 1e-12


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [("sigmoid", 0.0, 0.5), ("softplus", 0.0, math.inf), ("none", -math.inf, math.inf)],
)
def test_activation_bounds_the_image_and_the_scale_is_its_unit(activation, low, high):
    network = UNet(2, 4, activation=activation, image_scale=0.5).double()
    unit = UNet(2, 4, activation=activation, image_scale=1.0).double()
    z = 30 * normal(8, 8)
    image = network(z).detach()
    assert image.min() >= low and image.max() <= high
    assert relative(image, 0.5 * unit(z).detach()) < 1e-14
    assert relative(network.image(network.body(z)).detach(), image) < 1e-14


def test_group_norm_makes_a_block_blind_to_the_scale_of_its_weights():
    network = UNet(2, 4, norm="group").double()
    z = normal(8, 8)
    before = network(z).detach()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.startswith("body.up1") and name.split(".")[-2] in ("0", "3"):
                value *= 7
    assert relative(network(z).detach(), before) < 1e-3


def test_seed_decides_the_weights_and_nothing_else_does():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, again, other = UNet(2, 4, seed=1), UNet(2, 4, seed=1), UNet(2, 4, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    pairs = zip(first.parameters(), again.parameters(), other.parameters(), strict=True)
    for a, b, c in pairs:
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize(
    "settings",
    [
        {"scales": 0},
        {"channels": 0},
        {"norm": "batch"},
        {"activation": "relu"},
        {"image_scale": 0.0},
        {"image_scale": float("nan")},
        {"scales": 3, "skip_channels": (4,)},
        {"scales": 2, "skip_channels": -1},
    ],
)
def test_bad_network_settings_are_refused(settings):
    with pytest.raises(InputError, match="expected"):
        UNet(**settings)


@pytest.mark.parametrize(
    "settings",
    [{}, {"scales": 3, "channels": 8, "skip_channels": (0, 2), "norm": "group", "seed": 4}],
)
def test_network_settings_go_round_trip(settings):
    network = UNet(**settings)
    again = UNet(**network.settings)
    assert again.settings == network.settings
    pairs = zip(network.named_parameters(), again.named_parameters(), strict=True)
    assert all(m == n and torch.equal(a, b) for (m, a), (n, b) in pairs)


def test_zero_skip_channels_leave_the_skip_out():
    names = {name for name, _ in UNet(3, 4, skip_channels=(0, 2)).body.named_children()}
    assert "skip1" not in names and "skip2" in names


def test_total_variation_is_the_sum_over_edges():
    image = normal(2, 5, 4)
    truth = (image[:, 1:] - image[:, :-1]).abs().sum((1, 2))
    truth = truth + (image[:, :, 1:] - image[:, :, :-1]).abs().sum((1, 2))
    assert relative(total_variation(image), truth) < 1e-14
    assert edge_differences(image).shape == (2, 4 * 4 + 5 * 3)
    single = torch.zeros(5, 4).double()
    single[2, 1] = 1
    assert total_variation(single) == 4


def test_edge_differences_dot_test():
    image, edges = normal(5, 4), normal(31, seed=1)
    _, pull = torch.func.vjp(edge_differences, image)
    matrix = torch.func.jacrev(edge_differences)(torch.zeros(5, 4).double()).flatten(1)
    assert relative(edge_differences(image), matrix @ image.flatten()) < 1e-14
    assert relative(pull(edges)[0].flatten(), matrix.T @ edges) < 1e-14
    assert set(matrix.unique().tolist()) == {-1.0, 0.0, 1.0}


MEAN = torch.tensor([0.0, 0.3, -2.0, 5.0, -0.1], dtype=torch.float64)
STD = torch.tensor([1.0, 0.5, 1.5, 0.2, 3.0], dtype=torch.float64)


def test_expected_total_variation_is_the_mean_over_samples():
    count = 1_000_000
    samples = (MEAN + STD * normal(count, 5)).abs().sum(-1)
    error = samples.std() / math.sqrt(count)
    closed = expected_total_variation(MEAN, STD)
    assert abs(samples.mean() - closed) < 4 * error
    assert closed - MEAN.abs().sum() > 10 * error
    for edge in range(5):
        one = expected_total_variation(MEAN[edge : edge + 1], STD[edge : edge + 1])
        draws = (MEAN[edge] + STD[edge] * normal(count, seed=edge)).abs()
        assert abs(draws.mean() - one) < 4 * draws.std() / math.sqrt(count)


def test_expected_total_variation_of_certain_edges_is_the_total_variation():
    certain = expected_total_variation(MEAN[1:], torch.full((4,), 1e-12).double())
    assert relative(certain, MEAN.abs().sum()) < 1e-14


def test_slope_of_the_expected_total_variation_is_its_difference_quotient():
    step = 1e-5
    for edge in range(5):
        shift = torch.zeros(5).double()
        shift[edge] = step
        up, down = (expected_total_variation(MEAN, STD + s * shift) for s in (1, -1))
        slope = expected_total_variation_slope(MEAN, STD)[edge]
        assert float(slope) == pytest.approx(float((up - down) / (2 * step)), rel=1e-6, abs=1e-9)


def disc_scan(noise_fraction=0.05, views=10, dtype=torch.float32):
    """A disc on 12 x 12 pixels and its true noise level."""
    geometry, grid = ParallelBeam([180 * i / views for i in range(views)], 17), ImageGrid((12, 12))
    ray = ray_transform(geometry, grid, engine="matrix", dtype=dtype)
    x, y = grid.centres_mm()
    distance = torch.from_numpy((x[None, :] ** 2 + y[:, None] ** 2) ** 0.5)
    image = (4.5 - distance).clamp(0, 1).to(dtype)
    generator = torch.Generator().manual_seed(0)
    scan = simulate(image, ray, noise_fraction=noise_fraction, generator=generator)
    return scan, ray, image, noise_fraction * float(ray.forward(image).abs().mean())


def small_fit(scan, ray, noise_std, **settings):
    network = UNet(2, 8, image_scale=1.2, seed=settings.get("seed", 0))
    defaults = {"learning_rate": 3e-3, "restarts": 1, "start": "fbp"}
    return fit_dip(scan, ray, network, **{**defaults, "noise_std": noise_std, **settings})


@pytest.mark.slow
def test_fit_stops_at_the_noise_level_near_the_disc(monkeypatch):
    begin = start.fbp_start
    early = {"fbp": lambda data, tell: (replace(begin(data)[0], noise_share=0.95),)}
    monkeypatch.setattr("pdip.dip.fit.STARTS", early)
    scan, ray, image, noise_std = disc_scan()
    result = small_fit(scan, ray, noise_std, restarts=2)
    assert result.stop_reason.startswith("reached the noise level")
    mean_square = float((ray.forward(result.image) - scan.sinogram).square().mean())
    assert mean_square <= 0.95 * noise_std**2
    assert min(result.history["mean_squared_residual"][:-1]) > 0.95 * noise_std**2
    assert result.history["mean_squared_residual"][-1] == pytest.approx(mean_square, rel=1e-4)
    steps = result.history["step"]
    assert steps == sorted(set(steps))
    assert relative(result.image, image) < 0.25
    assert len(result.restarts) == 2
    other = result.alternatives[0]
    assert not torch.equal(other.image, result.image)
    for each in result.restarts:
        again = functional_call(each.network, each.params, (each.network_input,))
        assert relative(again, each.image) < 1e-5
    assert result.noise_std == noise_std
    assert result.tv_weight > 0


def test_fit_is_deterministic_for_a_seed():
    scan, ray, _, noise_std = disc_scan()
    fits = [small_fit(scan, ray, noise_std, max_steps=30, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(fits[0].image, fits[1].image)
    assert all(torch.equal(fits[0].params[n], fits[1].params[n]) for n in fits[0].params)
    assert not torch.equal(fits[0].image, fits[2].image)


def test_adam_steps_as_its_class_in_torch_does():
    own, theirs = ({name: normal(*shape) for name, shape in SHAPES.items()} for _ in range(2))
    betas = (0.9, 0.99)
    stepping = Adam(own, betas)
    torchs = torch.optim.Adam(theirs.values(), betas=betas, fused=True)
    for count in range(5):
        for weights in (own, theirs):
            for weight in weights.values():
                weight.grad = (weight - 2).sign() * weight.square()
        stepping.step(torchs.param_groups[0]["lr"])
        torchs.step()
        torchs.param_groups[0]["lr"] = 0.1 / (1 + count)
    assert all(torch.equal(own[name], theirs[name]) for name in SHAPES)
    stepping.forget_slopes()
    stepping.step(1.0)
    assert all(torch.equal(own[name], theirs[name]) for name in SHAPES)


def test_side_by_side_is_the_same_as_one_by_one():
    scan, ray, _, noise_std = disc_scan(dtype=torch.float64)
    both = small_fit(scan, ray, noise_std, max_steps=30, restarts=2)
    alone = small_fit(scan, ray, noise_std, max_steps=30)
    assert relative(both.image, alone.image) < 1e-8
    second = UNet(2, 8, image_scale=1.2, seed=1)
    data = start.DataTerm.of(scan, ray, noise_std)
    starts = start.fbp_start(data)
    plan = training.Training(data, starts, both.tv_weight, 3e-3, 30, Discrepancy, 0, None)
    batched = training.train_side_by_side(plan, starts[0], [both.network, second])
    for one, other in zip(batched, both.restarts, strict=True):
        assert relative(one.image, other.image) < 1e-8


def test_fit_says_that_it_ran_out_of_steps():
    scan, ray, _, noise_std = disc_scan()
    result = small_fit(scan, ray, noise_std, max_steps=7)
    assert "max_steps=7" in result.stop_reason
    assert result.history["step"] == [7]


def test_fit_that_ran_out_of_steps_is_called_under_fitted_just_where_that_is_warned_of():
    scan, ray, _, noise_std = disc_scan()
    first = small_fit(scan, ray, noise_std, max_steps=30)
    assert "under-fitted" in first.stop_reason
    residual, reasons = first.history["mean_squared_residual"][-1], []
    for level in (1.6, 1.15, 1.02, 0.9):
        found = small_fit(scan, ray, (residual / level) ** 0.5, max_steps=30)
        warned = any("left a residual" in sentence for sentence in found.assumptions)
        assert warned == ("under-fitted" in found.stop_reason)
        reasons.append(found.stop_reason.split(" noise ", 1)[1])
    assert len(set(reasons)) == 3, reasons


@pytest.mark.slow
def test_fit_stops_where_the_residual_levels_off(monkeypatch):
    monkeypatch.setattr("pdip.dip.stopping.LEVEL_STEPS", 50)
    scan, ray, _, noise_std = disc_scan()
    result = small_fit(scan, ray, 0.1 * noise_std, learning_rate=1e-2)
    assert result.stop_reason.startswith("levelled off")
    step, residual = result.history.values()
    assert step[-1] < 4000
    earlier = [r for s, r in zip(step, residual, strict=True) if s <= step[-1] - 50]
    assert min(residual) > 0.95 * min(earlier)


@pytest.mark.slow
def test_fit_stops_where_withheld_rays_suffer(monkeypatch):
    scan, ray, image, noise_std = disc_scan()
    monkeypatch.setattr("pdip.dip.stopping.PATIENCE_STEPS", 100)
    result = small_fit(scan, ray, noise_std, stop="held_out", learning_rate=1e-2)
    assert result.stop_reason.startswith("reached the minimum")
    errors = result.history["held_out_mean_squared_error"]
    best = result.history["step"][errors.index(min(errors))]
    assert result.history["step"][-1] == best + 100
    assert f"after {best} steps" in result.stop_reason
    assert relative(result.image, image) < 0.3


def test_withheld_rays_are_not_fitted():
    scan, ray, _, noise_std = disc_scan()
    data = start.DataTerm.of(scan, ray, noise_std)
    rule = HeldOutRays(data, 0, 1.0)
    fitting = rule.fitting_weights(data, 0)
    assert torch.equal(fitting + rule.testing_weights, torch.ones(10, 17))
    assert (fitting * rule.testing_weights == 0).all()
    assert rule.num_rays == int(rule.testing_weights.sum()) > 5


def test_scan_without_a_ray_to_withhold_is_refused():
    scan, ray, _, noise_std = disc_scan()
    weights = torch.zeros(10, 17)
    weights[0, :2] = 1
    few = Scan(scan.sinogram, scan.geometry, scan.grid, weights)
    with pytest.raises(InputError, match="withhold"):
        for seed in range(20):
            HeldOutRays(start.DataTerm.of(few, ray, noise_std), seed, 1.0)


def test_rays_of_weight_zero_do_not_change_the_fit():
    scan, ray, _, noise_std = disc_scan()
    weights = torch.ones(10, 17)
    weights[3, 4:7] = 0
    loud = scan.sinogram.clone()
    loud[3, 4:7] = 1e3
    images = [
        small_fit(Scan(y, scan.geometry, scan.grid, weights), ray, noise_std, max_steps=30).image
        for y in (scan.sinogram, loud)
    ]
    assert torch.equal(images[0], images[1])


@pytest.mark.slow
def test_total_variation_makes_the_fit_smoother():
    scan, ray, _, noise_std = disc_scan()
    rough, smooth = (
        small_fit(scan, ray, noise_std, tv_weight=w, max_steps=200, stop="held_out").image
        for w in (0.0, 10.0)
    )
    assert total_variation(smooth) < 0.8 * total_variation(rough)


@pytest.mark.slow
def test_defaults_choose_network_noise_and_scale_and_say_so():
    scan, ray, _, noise_std = disc_scan()
    result = fit_dip(scan, ray, max_steps=3)
    text = " ".join(result.assumptions)
    for word in ("noise standard deviation", "image scale"):
        assert word in text
    assert 0.7 < result.network.image_scale < 1.5
    assert result.noise_std == pytest.approx(noise_std, rel=0.3)


def test_progress_counts_up_to_the_last_step():
    scan, ray, _, noise_std = disc_scan()
    calls = []
    small_fit(scan, ray, noise_std, max_steps=30, progress=lambda *told: calls.append(told))
    assert [call[0] for call in calls] == sorted({call[0] for call in calls})
    assert calls[-1][:2] == (30, 30)


@pytest.mark.slow
def test_collapsed_fits_start_again_and_only_then_fail(monkeypatch):
    scan, ray, _, noise_std = disc_scan()
    asked = []
    whole = training._trained

    def collapsing(*arguments):
        asked.append(arguments)
        return None if len(asked) <= 2 else whole(*arguments)

    monkeypatch.setattr(training, "_trained", collapsing)
    result = small_fit(scan, ray, noise_std, max_steps=60, restarts=2)
    assert len(asked) == 4 and len(result.restarts) == 2
    monkeypatch.setattr(training, "_trained", lambda *_: None)
    with pytest.raises(ComputationError, match="collapsed"):
        small_fit(scan, ray, noise_std, max_steps=5)


def test_constant_image_counts_as_collapsed(monkeypatch):
    scan, ray, _, noise_std = disc_scan()
    monkeypatch.setattr(UNet, "image", lambda network, h: 0 * h + 0 * h.mean())
    with pytest.raises(ComputationError, match="collapsed"):
        small_fit(scan, ray, noise_std, max_steps=3)


def test_caller_keeps_the_precision_and_the_weights_of_the_network():
    scan, ray, _, noise_std = disc_scan(dtype=torch.float64)
    network = UNet(2, 8)
    before = {name: value.clone() for name, value in network.named_parameters()}
    fit_dip(scan, ray, network, noise_std=noise_std, restarts=1, max_steps=2)
    for name, value in network.named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])


def test_fit_that_became_nan_is_no_result():
    scan, ray, _, noise_std = disc_scan()
    network = UNet(2, 8, activation="none")
    with torch.no_grad():
        network.body.out.bias.fill_(float("nan"))
    settings = {"noise_std": noise_std, "restarts": 1, "max_steps": 3, "start": "fbp"}
    assert torch.isfinite(fit_dip(scan, ray, network, **settings).image).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"noise_std": 0.0},
        {"noise_std": float("inf")},
        {"tv_weight": -1.0},
        {"learning_rate": 0.0},
        {"max_steps": 0},
        {"restarts": 0},
        {"stop": "never"},
        {"start": "noise"},
    ],
)
def test_bad_fit_settings_are_refused(settings):
    scan, ray, _, _ = disc_scan()
    with pytest.raises(InputError, match="expected"):
        fit_dip(scan, ray, UNet(2, 4), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("noise_fraction", [0.02, 0.1])
@pytest.mark.parametrize("phantom", ["disc", "walnut"])
def test_noise_level_is_estimated_within_30_percent(noise_fraction, phantom):
    scan, ray, _, noise_std = disc_scan(noise_fraction, views=20)
    if phantom == "walnut":
        geometry = ParallelBeam([9.0 * i for i in range(20)], 35)
        ray = ray_transform(geometry, ImageGrid((24, 24)), engine="matrix")
        generator = torch.Generator().manual_seed(1)
        image = phantoms.walnut(ray.grid, generator)
        scan = simulate(image, ray, noise_fraction=noise_fraction, generator=generator)
        noise_std = noise_fraction * float(ray.forward(image).abs().mean())
    estimate, how = estimate_noise_std(scan, ray)
    assert estimate == pytest.approx(noise_std, rel=0.3)
    assert f"{estimate:.4g}" in how


def test_noise_level_is_that_of_a_ray_of_weight_one():
    scan, ray, _, noise_std = disc_scan(0.1, views=20)
    weights = torch.full_like(scan.sinogram, 4.0)
    weights[0, :5] = 0
    loud = scan.sinogram.clone()
    loud[0, :5] = 1e4
    weighted = Scan(loud, scan.geometry, scan.grid, weights)
    assert estimate_noise_std(weighted, ray)[0] == pytest.approx(2 * noise_std, rel=0.3)


@pytest.mark.slow
def test_noise_level_is_that_of_the_views_of_positive_weight():
    geometry = ParallelBeam([15.0 * view for view in range(12)], 250, 0.1)
    ray = ray_transform(geometry, ImageGrid((16, 16)))
    generator = torch.Generator().manual_seed(0)
    scan = simulate(phantoms.walnut(ray.grid, generator), ray, noise_fraction=0.05,
                    generator=generator)  # fmt: skip
    used = [view for view in range(12) if view not in (0, 4, 11)]
    weights = torch.zeros(scan.sinogram.shape)
    weights[used] = 1
    seen = scan.select(used)
    expected = estimate_noise_std(seen, ray_transform(seen.geometry, seen.grid))
    found = estimate_noise_std(Scan(scan.sinogram, geometry, scan.grid, weights), ray)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)


def test_too_few_rays_to_estimate_the_noise_are_refused():
    scan, ray, _, _ = disc_scan()
    weights = torch.zeros(10, 17)
    weights[0] = 1
    few = Scan(scan.sinogram, scan.geometry, scan.grid, weights)
    with pytest.raises(InputError, match="20 rays"):
        estimate_noise_std(few, ray)


@pytest.mark.parametrize(("last", "stalls"), [(9.0, True), (7.0, False)])
def test_fit_stalls_when_500_steps_gain_less_than_a_fifth(last, stalls):
    rule = Discrepancy.__new__(Discrepancy)
    rule.history = {"step": [1000, 1500], "mean_squared_residual": [10.0, last]}
    assert rule.stalls is stalls
    rule.history = {"step": [500, 1000], "mean_squared_residual": [10.0, last]}
    assert rule.stalls is False  # too early to tell


@pytest.mark.parametrize("name", OutputActivation.functions)
def test_pre_activation_of_an_image_gives_the_image_back(name):
    network = UNet(1, 2, activation=name, image_scale=2.5)
    image = 2.5 * torch.linspace(0.05, 0.95, 12).double().reshape(3, 4)
    assert relative(network.image(network.pre_activation(image)), image) < 1e-12
    at_the_bounds = network.pre_activation(torch.tensor([[0.0, 2.5, 0.0]]).double())
    assert torch.isfinite(at_the_bounds).all()


def test_edge_adjoint_dot_test():
    image, edges = torch.randn(5, 7).double(), torch.randn(4 * 7 + 5 * 6).double()
    forward = (edge_differences(image) * edges).sum()
    assert float(forward) == pytest.approx(float((edge_adjoint(edges, (5, 7)) * image).sum()))


@pytest.mark.slow
@pytest.mark.parametrize("tv_weight", [0.0, 0.5, 5.0])
def test_tv_reconstruction_satisfies_its_optimality_conditions(tv_weight):
    """Minus the slope of the misfit is ``Dᵀ q`` with ``|q| <= λ``, and beyond it at pixels of 0."""
    scan, ray, _, _ = disc_scan(0.1, dtype=torch.float64)
    weights = torch.rand(10, 17, generator=torch.Generator().manual_seed(0)).double()
    weights[2, 3:6] = 0
    image = tv_reconstruction(
        ray, scan.sinogram, weights, tv_weight, max_iterations=10_000, tolerance=1e-13
    )
    assert image.min() >= 0 and image.max() > 0.2
    slope = ray.adjoint(weights * (ray.forward(image) - scan.sinogram)).flatten()
    number = len(edge_differences(image))
    columns = torch.stack([edge_adjoint(e, (12, 12)).flatten() for e in torch.eye(number).double()])
    free = torch.cat([columns, torch.eye(144).double()[image.flatten() == 0]]).T
    bounds = [tv_weight + 1e-12] * number + [1e-12] * (free.shape[1] - number)
    lower = [-b for b in bounds[:number]] + [-math.inf] * (free.shape[1] - number)
    found = lsq_linear(free.numpy(), -slope.numpy(), (lower, bounds), tol=1e-12)
    scale = float(ray.adjoint(weights * scan.sinogram).norm())
    assert found.cost**0.5 < 1e-5 * scale


def test_tv_reconstruction_goes_on_where_less_effort_ended():
    scan, ray, _, _ = disc_scan(dtype=torch.float64)
    weights = torch.ones(10, 17).double()
    iterates = tv_iterates(ray, scan.sinogram, weights, 0.2)
    settled(iterates, 40, 0.0)
    on = settled(iterates, 200, 0.0)
    once = tv_reconstruction(ray, scan.sinogram, weights, 0.2, max_iterations=200, tolerance=0.0)
    assert torch.equal(on, once)


def test_fit_tells_how_far_its_start_is():
    scan, ray, _, noise_std = disc_scan(0.02)
    told = []
    small_fit(
        scan, ray, noise_std, start="tv", max_steps=1, progress=lambda *words: told.append(words)
    )
    assert told[:2] == [
        (0, 1, f"iteration {number} of the TV reconstruction it starts from") for number in (10, 20)
    ]


@pytest.mark.slow
def test_warm_start_makes_the_network_the_image_it_starts_from():
    scan, ray, _, noise_std = disc_scan()
    data = start.DataTerm.of(scan, ray, noise_std)
    tv, fbp = start.mixed_start(data)
    network = UNet(2, 16, image_scale=tv.image_scale)
    plan = training.Training(data, (tv, fbp), 0.0, 1e-9, 1, Discrepancy, 0, None)
    (warm,) = training.train_side_by_side(plan, tv, [network])
    assert relative(warm.image, tv.image) < 0.1
    (cold,) = training.train_side_by_side(plan, fbp, [network])
    assert cold is None or relative(cold.image, tv.image) > 0.5


def test_learning_rate_only_grows_and_from_fbp_sooner():
    scan, ray, _, noise_std = disc_scan()
    data = start.DataTerm.of(scan, ray, noise_std)
    (fbp,), (tv,) = start.fbp_start(data), start.tv_start(data)
    steps = range(0, 4001, 100)
    rates = [fbp.growth(step) for step in steps]
    assert rates[0] == 1 and rates == sorted(rates)
    assert [tv.growth(step) for step in steps] == [1 + step / 500 for step in steps]
    assert max(rates) == tv.growth(4000) and fbp.growth(1700) == 8


def test_fitted_weights_lie_in_memory_as_a_file_gives_them_back():
    scan, ray, _, noise_std = disc_scan()
    fit = fit_dip(scan, ray, {"channels": 4}, noise_std=noise_std, start="fbp", max_steps=1)
    for value in fit.params.values():
        assert value.stride() == torch.empty(value.shape).stride()


@pytest.mark.slow
def test_small_image_is_fitted_as_often_as_its_start_says():
    scan, ray, _, noise_std = disc_scan()
    for name, count in (("fbp", 2), ("mixed", 3)):
        result = fit_dip(scan, ray, {"channels": 4}, noise_std=noise_std, start=name, max_steps=1)
        assert any(f"from {count} random start" in said for said in result.assumptions)


@pytest.mark.slow
@pytest.mark.parametrize(("arc_deg", "count"), [(180, 1), (70, 2)])
def test_large_image_is_fitted_once_and_twice_over_a_limited_arc(arc_deg, count, monkeypatch):
    monkeypatch.setattr(start, "SMALL_PIXELS", 0)
    monkeypatch.setattr("pdip.dip.fit.SMALL_PIXELS", 0)
    scan, _, _, noise_std = disc_scan(views=20)
    scan = scan.select(range(20 * arc_deg // 180))
    ray = ray_transform(scan.geometry, scan.grid)
    result = fit_dip(scan, ray, {"channels": 4}, noise_std=noise_std, max_steps=1)
    assert any(f"from {count} random start" in said for said in result.assumptions)


@pytest.mark.slow
def test_mixed_restarts_take_their_starts_in_turn():
    scan, ray, _, noise_std = disc_scan()
    data = start.DataTerm.of(scan, ray, noise_std)
    tv, fbp = start.mixed_start(data)
    plan = training.Training(data, (tv, fbp), 0.01, 3e-3, 100, Discrepancy, 0, None)
    fits = train_restarts(plan, UNet(2, 8, image_scale=1.2), 3)
    for fit, begun in zip(fits, (tv, fbp, tv), strict=True):
        assert relative(fit.network_input, begun.image / 1.2) < 1e-6


@pytest.mark.slow
def test_tv_start_raises_a_noise_level_that_no_image_explains():
    scan, ray, _, noise_std = disc_scan(views=20)
    wrong = scan.sinogram.clone()
    wrong[::2] *= 1.3
    spoiled = Scan(wrong, scan.geometry, scan.grid)
    (untouched,) = start.tv_start(start.DataTerm.of(scan, ray, noise_std))
    assert untouched.noise_std == noise_std
    data = start.DataTerm.of(spoiled, ray, noise_std)
    (begun,) = start.tv_start(data)
    assert begun.noise_std > 1.5 * noise_std
    assert replace(data, noise_std=begun.noise_std).level(begun.image) == pytest.approx(1, rel=0.2)
    settings = {"max_steps": 2, "restarts": 1, "start": "tv"}
    given = fit_dip(spoiled, ray, UNet(2, 4), noise_std=noise_std, **settings)
    assert given.noise_std == noise_std


def test_fit_starts_from_fbp_only_for_small_images_of_few_or_noisy_rays():
    def chosen(side, rays, noise_std):
        seen = torch.ones(5, rays // 5)
        ray = SimpleNamespace(domain_shape=(side, side), forward=lambda x: 0 * seen)
        data = start.DataTerm(ray, seen, seen, noise_std)
        return start.choose_start(data, range(0, 180, 36))

    assert chosen(28, 205, 0.1) == "fbp"
    assert chosen(28, 410, 0.1) == "mixed"
    assert chosen(28, 410, 0.12) == "mixed" and chosen(28, 410, 0.13) == "fbp"
    assert chosen(41, 205, 0.1) == chosen(41, 410, 0.2) == "tv"


def test_large_image_of_a_limited_arc_is_fitted_from_both_starts():
    def chosen(angles_deg, weights):
        ray = SimpleNamespace(domain_shape=(41, 41))
        return start.choose_start(start.DataTerm(ray, weights, weights, 0.1), angles_deg)

    turn = list(range(0, 180, 2))
    everywhere = torch.ones(90, 8)
    part = everywhere.clone()
    part[30:] = 0
    assert chosen(turn, everywhere) == "tv"
    assert chosen(turn[:30], everywhere[:30]) == chosen(turn, part) == "mixed"


@pytest.mark.slow
def test_a_start_at_the_noise_level_is_not_the_end():
    """Strong noise hides what the TV reconstruction leaves out; the fit must still see the scan."""
    scan, ray, _, noise_std = disc_scan(noise_fraction=0.3)
    fit = fit_dip(scan, ray, UNet(2, 8), noise_std=noise_std, restarts=1, start="tv", max_steps=600)
    residuals = fit.history["mean_squared_residual"]
    assert residuals[0] < 1.25 * noise_std**2  # where a fit that began above it would end
    assert fit.history["step"][-1] >= 500 and residuals[-1] < 0.95 * residuals[0]


@pytest.mark.parametrize("restarts", [1, 3])
def test_callback_that_raises_ends_every_fit(restarts):
    scan, ray, _, noise_std = disc_scan()

    def give_up(step, total, text):
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    start_time = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        small_fit(scan, ray, noise_std, restarts=restarts, max_steps=10**6, progress=give_up)
    assert torch.get_num_threads() == before
    assert time.perf_counter() - start_time < 20  # and not after a million steps


@pytest.mark.slow
def test_clipped_sigmoid_is_refitted_without_it_unless_it_was_asked_for(monkeypatch):
    scan, ray, _, noise_std = disc_scan()
    asked = []

    def clipping(plan, network, count):
        asked.append(network.activation.name)
        if network.activation.name == "sigmoid":
            return None
        return train_restarts(plan, network, count)

    monkeypatch.setattr("pdip.dip.fit.train_restarts", clipping)
    result = fit_dip(scan, ray, noise_std=noise_std, max_steps=30, restarts=1)
    assert asked == ["sigmoid", "none"]
    assert result.network.activation.name == "none"
    assert any("without output activation" in said for said in result.assumptions)
    with pytest.raises(ComputationError, match="clips"):
        fit_dip(scan, ray, {"activation": "sigmoid"}, noise_std=noise_std, max_steps=30)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "higher"), [(0.9, 4), (1.2, None)])
def test_pixels_that_the_rays_want_above_the_end_of_the_output_are_a_warning(scale, higher):
    scan, ray, truth, noise_std = disc_scan()
    network = UNet(2, 8, image_scale=scale)
    found = fit_dip(
        scan, ray, network, noise_std=noise_std, learning_rate=3e-3, start="fbp", max_steps=400
    )
    told = [said for said in found.assumptions if "the network's output ends at" in said]
    assert len(told) == (higher is not None)
    if told:
        assert float(truth.max()) == 1.0 and "ends at 0.9 1/mm and holds 52 pixels" in told[0]
        assert abs(float(told[0].split("want ")[1].split("%")[0]) - higher) < 1
        assert "--network.image_scale 1.4" in told[0]


def test_residual_that_does_not_go_with_the_noise_level_is_a_warning():
    scan, ray, _, noise_std = disc_scan()
    poor = small_fit(scan, ray, 0.02 * noise_std, max_steps=30)
    assert any(s.startswith("WARNING") and "left a residual" in s for s in poor.assumptions)
    doubts = sys.modules["pdip.dip.fit"]._doubts
    assert "left a residual of 1.4 " in doubts([1.0, 1.4], 1.0)[0]
    assert "left a residual of 4.5 " in doubts([1.0, 4.5], 3.0)[0]
    assert "only 0.2 times" in doubts([0.2, 1.0], 1.0)[0]
    assert doubts([0.4, 1.25], 1.0) == doubts([0.4, 3.5], 3.0) == []
    assert "left a residual of 1.25 " in doubts([1.25], 1.0, cut=True)[0]
    assert doubts([1.04], 1.0, cut=True) == []


@pytest.mark.slow
def test_start_does_not_see_withheld_rays():
    scan, ray, _, noise_std = disc_scan()
    data = start.DataTerm.of(scan, ray, noise_std)
    withheld = HeldOutRays.fitting_weights(data, 0) == 0
    loud = Scan(torch.where(withheld, 9.0, scan.sinogram), scan.geometry, scan.grid)
    for name in start.STARTS:
        inputs = [
            small_fit(s, ray, noise_std, max_steps=1, stop="held_out", start=name).network_input
            for s in (scan, loud)
        ]
        assert torch.equal(*inputs)


@pytest.mark.parametrize("factor", [1e-4, 1e6])
def test_tv_reconstruction_depends_on_weights_and_tv_weight_by_their_ratio(factor):
    scan, ray, _, _ = disc_scan(dtype=torch.float64)
    weights = torch.ones(10, 17).double()
    one = tv_reconstruction(ray, scan.sinogram, weights, 0.2)
    other = tv_reconstruction(ray, scan.sinogram, factor * weights, factor * 0.2)
    assert relative(other, one) < 1e-8


@pytest.mark.slow
def test_noise_level_is_not_raised_out_of_haste():
    """Photon counts through a dense disc: what a thousand iterations leave is no model error."""
    scan, ray, image, _ = disc_scan(views=20, dtype=torch.float64)
    dense = ray.forward(image)
    generator = torch.Generator().manual_seed(0)
    weights = 1e6 * torch.exp(-dense)
    noise = torch.randn(dense.shape, generator=generator, dtype=torch.float64)
    measured = Scan(dense + noise / weights.sqrt(), scan.geometry, scan.grid, weights)
    (begun,) = start.tv_start(start.DataTerm.of(measured, ray, 1.0))
    assert begun.noise_std == 1.0


def test_scan_of_the_wrong_sign_is_refused():
    scan, ray, _, noise_std = disc_scan()
    negative = Scan(-scan.sinogram, scan.geometry, scan.grid)
    with pytest.raises(InputError, match="sign"):
        fit_dip(negative, ray, noise_std=noise_std, start="tv")


@pytest.mark.slow
def test_given_noise_level_that_no_image_reaches_is_said():
    scan, ray, _, noise_std = disc_scan(views=20)
    settings = {"max_steps": 30, "restarts": 1, "start": "tv"}
    result = fit_dip(scan, ray, UNet(2, 8), noise_std=0.1 * noise_std, **settings)
    said = [s for s in result.assumptions if "times the given noise variance" in s]
    assert len(said) == 1 and said[0].startswith("WARNING")
    assert result.noise_std == 0.1 * noise_std


@pytest.mark.slow
def test_restart_that_ends_far_above_the_others_is_left_out(monkeypatch):
    scan, ray, _, noise_std = disc_scan()

    def spoiling(plan, network, count):
        fits = train_restarts(plan, network, count)
        fits[1] = replace(fits[1], image=0.3 * fits[1].image)
        return fits

    monkeypatch.setattr("pdip.dip.fit.train_restarts", spoiling)
    result = small_fit(scan, ray, noise_std, max_steps=300, restarts=3)
    assert len(result.restarts) == 2
    assert any("1 of 3 fits" in said for said in result.assumptions)
