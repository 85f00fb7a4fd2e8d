"""Figures of calibration are drawn from plain numbers and can be saved as vectors."""

import io
import json

import pytest
import torch

from pdip.calibration import evaluate, expected_coverage, repeated_noise
from pdip.errors import InputError
from pdip.report import draw_calibration, draw_expected_coverage, draw_repeated_noise
from pdip.strict_json import strict


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def found():
    mean, std = normal(12, 12), 0.1 + normal(12, 12, seed=1).square()
    truth = mean + std * normal(12, 12, seed=2)
    both = {"right": evaluate(mean, std, truth), "narrow": evaluate(mean, std / 2, truth)}
    return json.loads(json.dumps({name: found.as_dict() for name, found in both.items()}))


def lines_of(axis):
    """The lines that are not grey, by colour."""
    lines = [line for line in axis.lines if str(line.get_color()).startswith("#")]
    return {line.get_color(): line for line in lines if line.get_linewidth() > 1}


@pytest.mark.slow
def test_calibration_figure_shows_its_numbers(found):
    figure = draw_calibration(found)
    coverage, quantiles, by_std, _, by_scale, legend = figure.axes
    for axis in (coverage, quantiles, by_std, by_scale, legend):
        assert len(lines_of(axis)) == 2
    narrow = lines_of(coverage)["#D55E00"]
    assert narrow.get_ydata()[-1] == found["narrow"]["coverage_curve"]["empirical"][-1]
    labels = [text.get_text() for text in legend.get_legend().get_texts()]
    assert f"{found['right']['coverage_95']:.1%}" in labels[0] and labels[1].startswith("narrow")
    left, right = by_std.get_xlim()
    assert left == 0 and right > max(found["right"]["reliability"]["predicted"])
    stream = io.BytesIO()
    figure.savefig(stream, format="pdf")
    assert stream.getvalue().startswith(b"%PDF")


def test_calibration_figure_takes_no_more_methods_than_colours(found):
    for methods in ({}, {str(k): found["right"] for k in range(7)}):
        with pytest.raises(InputError, match="expected 1 to 6"):
            draw_calibration(methods)


def test_simulation_figures_show_their_numbers():
    curve = strict(expected_coverage(torch.linspace(0, 1, 41)))
    (axis,) = draw_expected_coverage({"image": curve}).axes
    assert list(axis.lines[1].get_ydata()) == [0, *curve["empirical"], 1]
    images = normal(5, 8, 9)
    repeated = strict(repeated_noise(images, images.abs() + 0.1, normal(8, 9, seed=1)))
    figure = draw_repeated_noise(repeated, pixel_mm=0.5)
    pictures = [axis.images[0] for axis in figure.axes[:3]]
    assert len({picture.get_clim() for picture in pictures}) == 1
    assert pictures[0].get_extent() == [-2.25, 2.25, -2, 2]
