"""Phantoms: range, place, and reproducibility."""

import numpy as np
import pytest
import torch

from pdip.scan import ImageGrid, drilled_disc, ellipses, rectangles, shepp_logan, walnut

RANDOM = [drilled_disc, ellipses, rectangles, walnut]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(24, 24), (20, 30)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("phantom", RANDOM)
def test_random_phantoms_lie_in_the_unit_range_and_in_the_circle(phantom, seed, shape):
    grid = ImageGrid(shape, 0.5)
    image = phantom(grid, seeded(seed))
    assert image.shape == shape and image.dtype == torch.float32
    assert 0.2 <= float(image.max()) <= 1.0 and float(image.min()) == 0.0
    x, y = grid.centres_mm()
    distance = np.hypot(x[None, :], y[:, None])
    assert float(image[distance > 0.95 * min(grid.size_mm) / 2 + 0.5].abs().max()) == 0.0


@pytest.mark.parametrize("phantom", RANDOM)
def test_a_seed_decides_the_phantom(phantom):
    grid = ImageGrid((16, 16))
    assert torch.equal(phantom(grid, seeded(1)), phantom(grid, seeded(1)))
    assert not torch.equal(phantom(grid, seeded(1)), phantom(grid, seeded(2)))


@pytest.mark.parametrize("phantom", [lambda grid, _: shepp_logan(grid), *RANDOM])
def test_finer_pixels_show_the_same_object(phantom):
    coarse = phantom(ImageGrid((32, 32), 1.0), seeded(3))
    fine = phantom(ImageGrid((128, 128), 0.25), seeded(3))
    means = torch.nn.functional.avg_pool2d(fine[None], 4)[0]
    assert float((means - coarse).abs().mean()) < 0.02


def test_shepp_logan_has_its_skull_brain_and_upright_ventricles():
    image = shepp_logan(ImageGrid((200, 200)))
    assert float(image[100, 32]) == pytest.approx(1.0)  # skull at the left
    assert float(image[150, 100]) == pytest.approx(0.2)  # brain
    assert float(image[100, 122]) == pytest.approx(0.0, abs=1e-6)  # right ventricle
    assert float(image[65, 100]) == pytest.approx(0.3)  # lesion above the centre: larger y
