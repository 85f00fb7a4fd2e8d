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

from pdip.dip import UNet
from pdip.posterior import Posterior
from pdip.scan import ImageGrid, ParallelBeam, Preprocessing, Scan
from pdip.solvers import Cholesky

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
