"""Simulated noise has the variance and the weights that the docstring promises."""

import math

import pytest
import torch

from pdip.errors import InputError
from pdip.scan import ImageGrid, ParallelBeam, simulate

BEAM = ParallelBeam(list(range(0, 180, 3)), 200)
GRID = ImageGrid((2, 2), 100.0)
NUM_RAYS = 60 * 200


class Constant:
    """A ray transform that gives the first pixel's value to every ray."""

    geometry, grid = BEAM, GRID

    def forward(self, image):
        return image[0, 0].expand(BEAM.shape)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def z_of_variance(sample: torch.Tensor, variance: float) -> float:
    """Distance of the sample variance of Gaussian numbers from ``variance``, in standard errors."""
    found = float(sample.double().var())
    return (found / variance - 1) / math.sqrt(2 / (sample.numel() - 1))


def test_noise_std_is_the_fraction_of_the_mean_line_integral():
    scan = simulate(torch.full((2, 2), 2.0), Constant(), noise_fraction=0.05, generator=seeded())
    assert abs(z_of_variance(scan.sinogram - 2.0, 0.1**2)) < 4
    assert scan.weights is None


@pytest.mark.parametrize("photons", [2e5, 45.0])
def test_counts_have_no_bias_and_the_noise_that_their_weights_say(photons):
    image = torch.full((2, 2), 1.5)  # 10 photons arrive of 45: the plain logarithm is off by 0.05
    scan = simulate(image, Constant(), photons_per_ray=photons, generator=seeded())
    whitened = (scan.sinogram - 1.5).double() * scan.weights.double().sqrt()
    assert scan.noise_std == 1.0 and bool((scan.weights > 0).all())
    assert abs(float(whitened.mean())) * math.sqrt(NUM_RAYS) < 4
    assert abs(float(whitened.square().mean()) - 1) < 4 * math.sqrt(
        (float(whitened.pow(4).mean()) - 1) / NUM_RAYS
    )


def test_a_scan_without_light_is_refused():
    with pytest.raises(InputError, match="can be used"):
        simulate(torch.full((2, 2), 3.0), Constant(), photons_per_ray=20.0, generator=seeded())


def test_a_seed_decides_the_noise_and_precision_follows_the_image():
    image = torch.full((2, 2), 1.0, dtype=torch.float64)
    first, again = (
        simulate(image, Constant(), noise_fraction=0.1, generator=seeded(7)) for _ in range(2)
    )
    assert torch.equal(first.sinogram, again.sinogram)
    assert first.sinogram.dtype == torch.float64


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"noise_fraction": 0.1, "photons_per_ray": 100.0},
        {"noise_fraction": -0.1},
        {"photons_per_ray": 0.0},
        {"photons_per_ray": float("nan")},
    ],
)
def test_noise_must_be_given_exactly_once_and_in_range(settings):
    with pytest.raises(InputError):
        simulate(torch.ones(2, 2), Constant(), generator=seeded(), **settings)
