"""Scores against a truth: pure functions of tensors. Ground truth enters nowhere else."""

from pdip.calibration.bands import Band, bootstrap
from pdip.calibration.density import (
    nll_per_pixel,
    normal_log_density,
    patch_nll_per_pixel,
    patches,
    whitened,
)
from pdip.calibration.evaluation import Calibration, evaluate
from pdip.calibration.held_out import HeldOut, WithheldRays, held_out_scores
from pdip.calibration.intervals import (
    CoverageCurve,
    absolute_miscalibration_area,
    coverage,
    coverage_curve,
    interval_depth,
    miscalibration_area,
    scale_to_coverage,
    sharpness,
    sharpness_at_equal_coverage,
)
from pdip.calibration.metrics import data_range, psnr, relative_l2, ssim
from pdip.calibration.ranking import (
    Reliability,
    Sparsification,
    ause,
    ence,
    rank_correlation,
    reliability,
    sparsification,
)
from pdip.calibration.residuals import (
    Quantiles,
    joint_reduced_chi_squared,
    reduced_chi_squared,
    z_quantiles,
    z_scores,
)
from pdip.calibration.scores import (
    crps,
    crps_of_samples,
    energy_score,
    interval_score,
    variogram_score,
)
from pdip.calibration.simulation import (
    ExpectedCoverage,
    RepeatedNoise,
    Uniformity,
    credibility,
    expected_coverage,
    ranks,
    repeated_noise,
    uniformity,
)
from pdip.calibration.spectrum import Spectrum, whitened_spectrum

__all__ = [
    "Band",
    "Calibration",
    "CoverageCurve",
    "ExpectedCoverage",
    "HeldOut",
    "Quantiles",
    "Reliability",
    "RepeatedNoise",
    "Sparsification",
    "Spectrum",
    "Uniformity",
    "WithheldRays",
    "absolute_miscalibration_area",
    "ause",
    "bootstrap",
    "coverage",
    "coverage_curve",
    "credibility",
    "crps",
    "crps_of_samples",
    "data_range",
    "ence",
    "energy_score",
    "evaluate",
    "expected_coverage",
    "held_out_scores",
    "interval_depth",
    "interval_score",
    "joint_reduced_chi_squared",
    "miscalibration_area",
    "nll_per_pixel",
    "normal_log_density",
    "patch_nll_per_pixel",
    "patches",
    "psnr",
    "rank_correlation",
    "ranks",
    "reduced_chi_squared",
    "relative_l2",
    "reliability",
    "repeated_noise",
    "scale_to_coverage",
    "sharpness",
    "sharpness_at_equal_coverage",
    "sparsification",
    "ssim",
    "uniformity",
    "variogram_score",
    "whitened",
    "whitened_spectrum",
    "z_quantiles",
    "z_scores",
]
