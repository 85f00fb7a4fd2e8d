"""Scan: what it accepts, and what it says about everything else."""

import numpy as np
import pytest
import torch

from pdip.errors import InputError
from pdip.scan import ImageGrid, ParallelBeam, Scan

BEAM = ParallelBeam([0.0, 45.0, 90.0, 135.0], 6)
GRID = ImageGrid((4, 4))
SINOGRAM = torch.arange(24.0).reshape(4, 6)


def test_scan_keeps_dtype_and_takes_numpy_arrays():
    assert Scan(SINOGRAM.double(), BEAM, GRID).sinogram.dtype == torch.float64
    assert Scan(SINOGRAM.numpy(), BEAM, GRID).sinogram.dtype == torch.float32


def test_every_second_view_takes_sinogram_angles_and_weights_together():
    scan = Scan(SINOGRAM, BEAM, GRID, weights=SINOGRAM + 1, assumptions=("one",)).every(2)
    assert torch.equal(scan.sinogram, SINOGRAM[[0, 2]])
    assert torch.equal(scan.weights, SINOGRAM[[0, 2]] + 1)
    assert scan.geometry.angles_deg == (0.0, 90.0) and scan.assumptions == ("one",)


def test_selected_views_come_in_the_order_asked():
    scan = Scan(SINOGRAM, BEAM, GRID).select([3, 1])
    assert torch.equal(scan.sinogram, SINOGRAM[[3, 1]])
    assert scan.geometry.angles_deg == (135.0, 45.0)


def with_value(value: float) -> torch.Tensor:
    changed = SINOGRAM.clone()
    changed[2, 5] = value
    return changed


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda: Scan(SINOGRAM[:3], BEAM, GRID), "3 rows but the geometry lists 4 angles; give"),
        (lambda: Scan(SINOGRAM.T, BEAM, GRID), "6 rows but .* 4 angles; was it transposed?"),
        (lambda: Scan(SINOGRAM[:, :5], BEAM, GRID), "5 columns but the geometry has 6 detectors"),
        (lambda: Scan(SINOGRAM[None], BEAM, GRID), "two axes"),
        (lambda: Scan(with_value(np.nan), BEAM, GRID), "view 2, detector 5"),
        (lambda: Scan(with_value(-np.inf), BEAM, GRID), "view 2, detector 5"),
        (lambda: Scan(torch.full((4, 6), 3.0), BEAM, GRID), "constant"),
        (lambda: Scan(SINOGRAM.to(torch.complex64), BEAM, GRID), "real numbers"),
        (lambda: Scan("sinogram", BEAM, GRID), "tensor of numbers"),
        (lambda: Scan(SINOGRAM, "parallel", GRID), "ParallelBeam"),
        (lambda: Scan(SINOGRAM, BEAM, (4, 4)), "ImageGrid"),
        (lambda: Scan(SINOGRAM, BEAM, GRID, weights=SINOGRAM - 1), "negative"),
        (lambda: Scan(SINOGRAM, BEAM, GRID, weights=0 * SINOGRAM), "all zero"),
        (lambda: Scan(SINOGRAM, BEAM, GRID, weights=SINOGRAM[:3]), "weights has 3 rows"),
        (lambda: Scan(SINOGRAM, BEAM, ImageGrid((4, 4), 1e-3)), "field of view"),
        (lambda: Scan(SINOGRAM, BEAM, ImageGrid((4, 4), 1e3)), "field of view"),
        (lambda: Scan(SINOGRAM, BEAM, GRID).every(0), "view step"),
        (lambda: Scan(SINOGRAM, BEAM, GRID).select([4]), "view 4 does not exist"),
    ],
)
def test_unusable_scans_are_refused_in_one_sentence(build, said):
    with pytest.raises(InputError, match=said) as error:
        build()
    assert "\n" not in str(error.value)
