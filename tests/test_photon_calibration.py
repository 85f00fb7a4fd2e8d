"""On photon counts the weighted model is calibrated and the unweighted is not.

Images are drawn from the linear Gaussian model's own prior and seen through a filter that lets 15
photons pass in the middle and 6000 at the edges, as an object that absorbs does. With the weights
of photon statistics the squared error of a pixel over its variance is 1 on average, in the middle
as outside; with equal weights, of the same mean variance, the middle looks far too certain.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import ANGLES, ModelCase
from dense_model import build

import pdip
from pdip.dip import UNet
from pdip.dip.noise import photon_noise_std
from pdip.posterior import Posterior
from pdip.ray import ray_transform
from pdip.scan import ImageGrid, ParallelBeam, Preprocessing, Scan
from pdip.solvers import Cholesky

pytestmark = pytest.mark.usefixtures("rough_figures")

CASE = ModelCase(
    UNet(2, 4, skip_channels=2, activation="none", image_scale=0.1),
    "before",
    nugget_std=0.15,
    geometry=ParallelBeam((*ANGLES, 160.0, 65.0), 19, 0.5),
    grid=ImageGrid((6, 6)),
)
DRAWS = 160
WALL = 3.0
"""Line integral of a known wall around the object, so that more light comes without it."""


def counted(model, image, passed, generator):
    """The image as a detector counts it, less the wall: line integrals and weights."""
    counts = generator.poisson(passed * np.exp(-model.ray.forward(image).numpy()))
    blank = passed * math.exp(WALL)
    found = Preprocessing("counts", blank=blank, gain=1.0).measured(counts)
    return torch.from_numpy(found.sinogram - WALL), torch.from_numpy(found.weights)


@pytest.mark.slow
def test_weights_of_photon_statistics_make_the_posterior_calibrated():
    model, scan, dense = build(CASE)
    model = replace(model, log_noise_variance=torch.zeros_like(model.log_noise_variance))  # σ = 1
    images, _ = dense.draw(DRAWS, seed=7)
    generator, (views, detectors) = np.random.default_rng(0), model.ray.range_shape
    off_centre = np.abs(np.linspace(-1, 1, detectors))
    passed = 15 * (6000 / 15) ** off_centre * np.ones((views, 1))
    squares = []
    for image in images.reshape(-1, *model.ray.domain_shape):
        sinogram, weights = counted(model, image, passed, generator)
        used = weights > 0
        equal = torch.where(used, 1 / (1 / weights[used]).mean(), 0.0)
        for own in (weights, equal):
            posterior = Posterior(
                model, Scan(sinogram, scan.geometry, scan.grid, own), solver=Cholesky()
            )
            squares.append(((image - posterior.mean) / posterior.std()).square().numpy())
    inner = np.zeros((6, 6), dtype=bool)
    inner[1:5, 1:5] = True
    weighted, equal = np.reshape(squares, (DRAWS, 2, 6, 6)).swapaxes(0, 1)

    def distance(found, where):  # from 1, in standard errors over draws
        means = found[:, where].mean(1)
        return (means.mean() - 1) / (means.std(ddof=1) / math.sqrt(DRAWS))

    assert abs(distance(weighted, inner)) < 4 and abs(distance(weighted, ~inner)) < 4
    assert distance(equal, inner) > 10


def small_scan(noise_std, seed=0):
    """Line integrals of a disc with noise 0.05, which ``noise_std`` claims to know."""
    beam, grid = (
        ParallelBeam([11.25 * view for view in range(16)], 20, 0.5),
        ImageGrid((14, 14), 0.5),
    )
    ray = ray_transform(beam, grid)
    x, y = np.meshgrid(*grid.centres_mm())
    image = torch.from_numpy(0.3 * ((x - 0.5) ** 2 + y**2 < 6)).float()
    noise = 0.05 * torch.randn(beam.shape, generator=torch.Generator().manual_seed(seed))
    weights = torch.ones(beam.shape)
    weights[3, 4:9] = weights[:, 12] = 0
    return Scan(ray.forward(image) + noise, beam, grid, weights, noise_std=noise_std), ray


@pytest.mark.slow
def test_the_noise_of_photons_is_taken_unless_the_scan_shows_more():
    found, told = photon_noise_std(*small_scan(0.05))
    assert found == 0.05 and told.startswith(
        "the noise standard deviation is 0.05 by photon statistics"
    )
    more, told = photon_noise_std(*small_scan(0.02))
    assert more == pytest.approx(0.05, rel=0.25) and told.startswith("WARNING")
    less, told = photon_noise_std(*small_scan(0.2))
    assert less == 0.2 and told.startswith("WARNING") and "too large?" in told


@pytest.mark.slow
def test_rays_of_weight_zero_have_no_say_in_any_stage():
    scan, _ = small_scan(0.05)
    spoilt = scan.sinogram.clone()
    spoilt[scan.weights == 0] = 7.0
    settings = {
        "network": {"scales": 2, "channels": 4}, "dip": {"max_steps": 30, "restarts": 1},
        "evidence": {"max_evaluations": 5}, "calibration": {"withhold": "views"},
    }  # fmt: skip
    found = []
    for one in (scan, replace(scan, sinogram=spoilt)):
        result = pdip.reconstruct(one, settings)
        check = pdip.check_calibration(one, settings, result=result)
        found.append((result, check))
    (first, one), (second, other) = found
    assert first.fit.noise_std == second.fit.noise_std == 0.05
    assert torch.equal(first.image, second.image) and torch.equal(first.std, second.std)
    assert first.evidence[0].log_evidence == second.evidence[0].log_evidence
    assert (one.verdict, one.grounds) == (other.verdict, other.grounds)
    assert one.held_out.num_rays == other.held_out.num_rays
