"""Scores against a truth: pure functions of tensors. Ground truth enters nowhere else."""

from pdip.calibration.metrics import coverage, data_range, psnr, relative_l2, ssim

__all__ = ["coverage", "data_range", "psnr", "relative_l2", "ssim"]
