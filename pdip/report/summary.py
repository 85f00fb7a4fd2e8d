"""The numbers of a run, as ``summary.json`` has them."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pdip.calibration import coverage, psnr, relative_l2, ssim
from pdip.posterior.image_posterior import MAX_DENSE_PIXELS
from pdip.typing import Image
from pdip.version import VERSION

PACKAGES = ("torch", "numpy", "scipy", "astra-toolbox", "linear_operator", "scikit-image")


def scores(result, truth: Image | None) -> dict[str, Any]:
    """How a result compares with the truth; every value None without one.

    Args:
        result: a :class:`pdip.Result`.
        truth: (height, width), 1/mm, on the grid of the reconstruction.

    Returns:
        psnr (dB), ssim, relative_l2, coverage_95, and the log-likelihood of the truth per pixel
        under the Gaussian around the reconstruction (nats): ``log_likelihood_kind`` is 'joint'
        where a full covariance fits, else 'marginal', the mean of the pixels' marginals.
    """
    kind = "joint" if result.image.numel() <= MAX_DENSE_PIXELS else "marginal"
    if truth is None:
        keys = ("psnr", "ssim", "relative_l2", "log_likelihood_per_pixel", "coverage_95")
        return dict.fromkeys(keys) | {"log_likelihood_kind": kind}
    image, std = result.image.cpu(), result.std.cpu()
    patch = None if kind == "joint" else 1
    log_likelihood = result.posterior.log_prob(truth.to(result.image), patch=patch)
    return {
        "psnr": psnr(image, truth),
        "ssim": ssim(image, truth),
        "relative_l2": relative_l2(image, truth),
        "log_likelihood_per_pixel": log_likelihood / truth.numel(),
        "log_likelihood_kind": kind,
        "coverage_95": coverage(image, std, truth),
    }


def summary(result, truth: Image | None, source: Mapping[str, Any]) -> dict[str, Any]:
    """Everything ``summary.json`` holds; NaN and infinities are written as null.

    Args:
        result: a :class:`pdip.Result`.
        truth: (height, width), 1/mm, or None.
        source: which files the run was made from.
    """
    used = result.compression
    return {
        **scores(result, truth),
        "noise_std": result.fit.noise_std,
        "noise_std_by_evidence": result.noise_std_by_evidence,
        "log_evidence": result.log_evidence,
        "stop_reason": result.fit.stop_reason,
        "assumptions": list(result.assumptions),
        "solver": {
            "name": type(result.plan.solver).__name__.lower(),
            "worst_residual": result.worst_residual,
            "converged": result.converged,
            "combinations": None if used is None else used.basis.shape[1],
            "left_outside": None if used is None else used.left_outside / len(used.index),
        },
        "mean_std": float(result.std.mean()),
        "std_samples": result.posterior.std_samples,
        "restarts": [
            {
                "stop_reason": fit.stop_reason,
                "noise_std": fit.noise_std,
                "tv_weight": fit.tv_weight,
                "log_evidence": evidence.log_evidence,
                "log_evidence_standard_error": evidence.standard_error,
                "gradient_norm": evidence.gradient_norm,
                "evaluations": evidence.num_evaluations,
                "hyperparameters": dict(
                    zip(
                        evidence.model.names,
                        evidence.model.log_hyperparameters.tolist(),
                        strict=True,
                    )
                ),
            }
            for fit, evidence in zip(result.fit.restarts, result.evidence, strict=True)
        ],
        "plan": {
            "passes": asdict(result.plan.passes),
            "seconds": result.plan.seconds,
            "memory_mb": result.plan.memory_bytes / 1e6,
        },
        "stages": {name: asdict(cost) for name, cost in result.stages.items()},
        "source": dict(source),
        "versions": versions(),
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that numbers depend on."""
    found: dict[str, str | None] = {"python": platform.python_version(), "pdip": VERSION}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
