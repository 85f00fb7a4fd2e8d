"""The deep image prior: a U-Net fitted to one scan."""

from pdip.dip.fit import DIPFit, fit_dip
from pdip.dip.noise import estimate_noise_std
from pdip.dip.total_variation import (
    edge_differences,
    expected_total_variation,
    expected_total_variation_slope,
    total_variation,
)
from pdip.dip.unet import UNet

__all__ = [
    "DIPFit",
    "UNet",
    "edge_differences",
    "estimate_noise_std",
    "expected_total_variation",
    "expected_total_variation_slope",
    "fit_dip",
    "total_variation",
]
