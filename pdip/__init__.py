"""Probabilistic deep image prior for X-ray CT: the public names, in the order of the pipeline."""

# ruff: noqa: I001 (the order of the imports is that of the pipeline)

from pdip import threads as threads
from pdip.version import VERSION as __version__  # noqa: F401
from pdip.errors import ComputationError, InputError
from pdip.device import deterministic
from pdip.scan import (
    FanBeam,
    ImageGrid,
    ParallelBeam,
    Preprocessing,
    Scan,
    Stack,
    check_reading,
    estimate_rotation_axis,
    read_dicom,
    read_ground_truth,
    read_scan,
    read_stack,
    simulate,
)
from pdip.ray import RayTransform, fbp, ray_transform
from pdip.dip import DIPFit, UNet, estimate_noise_std, fit_dip
from pdip.linearised import LinearGaussianModel, ParameterPrior, linearise, unet_prior
from pdip.solvers import CG, Cholesky, Projected
from pdip.evidence import (
    Conditional,
    EvidenceFit,
    LinearisedWeights,
    NetworkWeights,
    Profile,
    TVPredCP,
    log_evidence,
    optimise_evidence,
)
from pdip.posterior import Mixture, Posterior, SavedPosterior
from pdip import baselines as baselines
from pdip.calibration import coverage, psnr, relative_l2, ssim
from pdip.report import draw_overview
from pdip.settings import Settings
from pdip.stages import Observer
from pdip.result import Result
from pdip.pipeline import reconstruct
from pdip.selection_result import Selection
from pdip.selection import select
from pdip.withheld import withheld_rays
from pdip.units import Unit
from pdip.calibration_check import CalibrationCheck, check_calibration

__all__ = [
    "InputError",
    "ComputationError",
    "deterministic",
    "ParallelBeam",
    "FanBeam",
    "ImageGrid",
    "Scan",
    "Stack",
    "Preprocessing",
    "check_reading",
    "estimate_rotation_axis",
    "read_scan",
    "read_stack",
    "read_dicom",
    "read_ground_truth",
    "simulate",
    "RayTransform",
    "ray_transform",
    "fbp",
    "UNet",
    "DIPFit",
    "estimate_noise_std",
    "fit_dip",
    "ParameterPrior",
    "unet_prior",
    "LinearGaussianModel",
    "linearise",
    "CG",
    "Cholesky",
    "Projected",
    "NetworkWeights",
    "LinearisedWeights",
    "Profile",
    "Conditional",
    "TVPredCP",
    "log_evidence",
    "EvidenceFit",
    "optimise_evidence",
    "Posterior",
    "Mixture",
    "SavedPosterior",
    "psnr",
    "ssim",
    "relative_l2",
    "coverage",
    "draw_overview",
    "Settings",
    "Observer",
    "Result",
    "reconstruct",
    "Selection",
    "select",
    "withheld_rays",
    "Unit",
    "CalibrationCheck",
    "check_calibration",
]
