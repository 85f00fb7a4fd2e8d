"""Rays that a reconstruction may not see: which they are, and the scan without them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pdip.scan import Scan
from pdip.typing import Mask

HELD_OUT_FRACTION = 0.15
"""Share of the rays withheld by the objective ``conditional``, by the fit that stops by withheld
rays, and where settings are compared on few views."""


def used_rays(scan: Scan) -> Mask:
    """The rays of positive weight, (views, detectors)."""
    if scan.weights is None:
        return torch.ones_like(scan.sinogram, dtype=torch.bool)
    return scan.weights > 0


def used_views(scan: Scan) -> Tensor:
    """The numbers of the views with a ray of positive weight, ascending, on the CPU."""
    return used_rays(scan).any(1).nonzero()[:, 0].cpu()


def random_rays(scan: Scan, seed: int, share: float = HELD_OUT_FRACTION) -> Mask:
    """A random share of the rays, the same for a seed, (views, detectors)."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(scan.sinogram.shape, generator=generator)
    return (draw < share).to(scan.sinogram.device)


def without_rays(scan: Scan, withheld: Mask) -> Scan:
    """The scan with weight 0 for these rays."""
    weights = torch.ones_like(scan.sinogram) if scan.weights is None else scan.weights
    return replace(scan, weights=torch.where(withheld, 0, weights))
