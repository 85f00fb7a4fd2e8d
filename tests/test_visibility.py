"""Which edges a scan sees."""

import numpy as np
import pytest
import torch
from cases import GEOMETRIES

from pdip.scan import FanBeam, ImageGrid, ParallelBeam, edge_visibility
from pdip.scan.visibility import ray_normals_rad


@pytest.mark.parametrize("name", GEOMETRIES)
def test_normals_at_points_of_a_ray_are_those_of_the_ray(name):
    geometry, _ = GEOMETRIES[name]
    angle, offset = geometry.ray_lines()
    along = 1.7
    x = offset * np.cos(angle) + along * np.sin(angle)
    y = offset * np.sin(angle) - along * np.cos(angle)
    views = np.arange(geometry.num_views)
    found = ray_normals_rad(geometry, x, y)[views, views]
    apart = np.mod(found - angle + 0.5, np.pi) - 0.5
    assert np.abs(apart).max() < 1e-9


@pytest.mark.parametrize("far", [False, True])
def test_the_rim_of_a_disc_is_unseen_by_its_distance_from_the_arc(far):
    """At the rim the normal is the polar angle; rays from far away are parallel."""
    grid = ImageGrid((128, 128))
    x, y = np.meshgrid(*grid.centres_mm())
    disc = torch.from_numpy(np.clip(40.5 - np.hypot(x, y), 0, 1))
    arc = np.arange(20.0, 61.0)
    beam = FanBeam(arc, 181, 2.0, 20000.0, 20000.0) if far else ParallelBeam(arc, 181)
    strength, unseen_deg = edge_visibility(disc, beam, grid)
    rim = strength > 0.5 * strength.max()
    polar = np.mod(np.rad2deg(np.arctan2(y, x)), 180)
    expected = np.maximum(0, np.abs(np.mod(polar - 40 + 90, 180) - 90) - 20)
    error = np.abs(unseen_deg.numpy() - expected)[rim.numpy()]
    assert error.max() < 3 and unseen_deg[rim].max() > 60


def test_every_edge_is_seen_by_a_scan_of_all_directions():
    grid = ImageGrid((32, 32))
    beam = ParallelBeam(np.arange(180.0), 45)
    image = torch.rand(32, 32, generator=torch.Generator().manual_seed(0))
    assert edge_visibility(image, beam, grid)[1].max() <= 0.5 + 1e-4
