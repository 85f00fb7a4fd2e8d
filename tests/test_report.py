"""Scores, the overview and strict JSON."""

import json
import math

import numpy as np
import pytest
import torch
from matplotlib.colors import BoundaryNorm

from pdip.calibration import coverage, psnr, relative_l2, ssim
from pdip.calibration.metrics import checked_pair
from pdip.errors import InputError
from pdip.report import draw_overview
from pdip.report.overview import panels
from pdip.scan import ImageGrid
from pdip.strict_json import strict


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(12, 10, generator=generator) * 0.02
    return truth + 0.001 * torch.randn(12, 10, generator=generator), truth


def test_psnr_is_its_formula_with_the_range_of_the_truth(pair):
    image, truth = (x.double() for x in pair)
    peak = truth.max() - truth.min()
    expected = 10 * math.log10(peak**2 / (image - truth).square().mean())
    assert psnr(*pair) == pytest.approx(expected, rel=1e-10)


def test_psnr_and_ssim_do_not_depend_on_the_unit(pair):
    image, truth = pair
    assert psnr(1000 * image, 1000 * truth) == pytest.approx(psnr(image, truth), rel=1e-5)
    assert ssim(1000 * image, 1000 * truth) == pytest.approx(ssim(image, truth), rel=1e-5)


def test_perfect_images_have_perfect_scores(pair):
    _, truth = pair
    assert psnr(truth, truth) == math.inf
    assert ssim(truth, truth) == pytest.approx(1.0)
    assert relative_l2(truth, truth) == 0.0


def test_a_black_image_has_relative_l2_one(pair):
    _, truth = pair
    assert relative_l2(torch.zeros_like(truth), truth) == pytest.approx(1.0)


def test_ssim_takes_smaller_windows_on_small_images():
    truth = torch.arange(16.0).reshape(4, 4)
    assert ssim(truth + 0.1, truth) < 1
    with pytest.raises(InputError, match="3x3"):
        ssim(torch.ones(2, 2), torch.arange(4.0).reshape(2, 2))


def test_coverage_of_gaussian_errors_is_its_level():
    generator = torch.Generator().manual_seed(1)
    std = torch.rand(400, 400, generator=generator) + 0.1
    mean = torch.rand(400, 400, generator=generator)
    truth = mean + std * torch.randn(400, 400, generator=generator)
    for level in (0.5, 0.95):
        standard_error = math.sqrt(level * (1 - level) / truth.numel())
        assert abs(coverage(mean, std, truth, level) - level) < 4 * standard_error
    assert coverage(mean, 0.5 * std, truth) < 0.95 - 40 * standard_error


def test_images_of_two_grids_and_constant_truths_are_refused(pair):
    image, truth = pair
    with pytest.raises(InputError, match="one grid"):
        checked_pair(image[:5], truth)
    with pytest.raises(InputError, match="constant"):
        psnr(image, torch.ones_like(truth))


@pytest.mark.parametrize("near", [0.3, 1.2])
def test_truth_and_reconstruction_share_a_window_and_std_and_error_another(pair, near):
    image, truth = (x.numpy() for x in pair)
    std = near * float(np.quantile(np.abs(image - truth), 0.999))
    rows = panels(image, 0 * image + std, truth)
    shown = {panel.title.split(", ")[0]: panel for row in rows for panel in row}
    assert set(shown) == {
        "reference", "reconstruction", "standard deviation", "|error|", "|error| / std",
    }  # fmt: skip
    for one, other in (("reference", "reconstruction"), ("standard deviation", "|error|")):
        assert (shown[one].low, shown[one].high) == (shown[other].low, shown[other].high)
        assert shown[one].label == shown[other].label == "1/mm"
    assert np.allclose(shown["|error| / std"].values, np.abs(image - truth) / std, rtol=1e-5)


@pytest.mark.parametrize("far", [0.01, 100.0])
def test_std_and_error_have_each_their_own_colours_where_one_would_be_uniform(pair, far):
    image, truth = (x.numpy() for x in pair)
    error = np.abs(image - truth)
    rows = panels(image, far * error, truth)
    shown = {panel.title.split(", ")[0]: panel for row in rows for panel in row}
    for title, values in (("standard deviation", far * error), ("|error|", error)):
        assert shown[title].high == pytest.approx(np.quantile(values, 0.999), rel=1e-5)
        assert shown[title].title == f"{title}, own colours"


def test_without_a_truth_only_reconstruction_and_std_are_drawn(pair):
    image, _ = pair
    figure = draw_overview(image, 0.001 + 0 * image, None, ImageGrid((12, 10), 0.5))
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["reconstruction", "standard deviation"]


@pytest.mark.slow
def test_overview_shows_the_arrays_themselves_in_mm(pair):
    image, truth = pair
    figure = draw_overview(image, 0.001 + 0 * image, truth, ImageGrid((12, 10), 0.5))
    pictures = {a.get_title().split(", ")[0]: a.images[0] for a in figure.axes if a.images}
    assert np.array_equal(pictures["reconstruction"].get_array(), image.numpy())
    assert tuple(pictures["reconstruction"].get_extent()) == (-2.5, 2.5, -3.0, 3.0)
    assert isinstance(pictures["|error| / std"].norm, BoundaryNorm)


def test_colour_maps_are_ordered_in_lightness():
    from matplotlib import colormaps
    from skimage.color import rgb2lab

    from pdip.report.overview import ERROR_MAP, IMAGE_MAP, RATIO_MAP

    for name in (IMAGE_MAP, ERROR_MAP, RATIO_MAP):
        lightness = rgb2lab(colormaps[name](np.linspace(0, 1, 64))[None, :, :3])[0, :, 0]
        assert (np.diff(lightness) > 0).all()


def test_json_is_strict():
    text = json.dumps(strict({"a": math.nan, "b": (1.0, math.inf), 3: None}), allow_nan=False)
    assert json.loads(text) == {"a": None, "b": [1.0, None], "3": None}
