"""All conventions in one call: how honest a mean and its std are, given the truth."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pdip.calibration.bands import Band, bootstrap
from pdip.calibration.checks import comparable, covariance_of, drawn_on, finite
from pdip.calibration.density import nll_per_pixel, patch_nll_per_pixel
from pdip.calibration.intervals import (
    CoverageCurve,
    absolute_miscalibration_area,
    coverage,
    coverage_curve,
    miscalibration_area,
    scale_to_coverage,
    sharpness,
    sharpness_at_equal_coverage,
    size_stratified_coverage,
)
from pdip.calibration.metrics import psnr, relative_l2, ssim
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
)
from pdip.calibration.scores import (
    crps,
    crps_of_samples,
    energy_score,
    interval_score,
    variogram_score,
)
from pdip.calibration.spectrum import Spectrum, whitened_spectrum
from pdip.strict_json import strict
from pdip.typing import Image

PATCHES = {"patch_2": 2, "patch_10": 10, "joint": None}
SHRINKAGE = 0.5
"""Of the keys ending in ``_shrunk``: off-diagonals are halved (Barbano et al. 2022)."""
BANDED = {
    "coverage_95": coverage,
    "miscalibration_area": miscalibration_area,
    "nll_per_pixel": nll_per_pixel,
    "crps": crps,
    "interval_score_95": interval_score,
    "reduced_chi_squared": reduced_chi_squared,
    "ause": ause,
    "rank_correlation": rank_correlation,
}
"""What has a band: functions of mean, std and truth that do not ask where a pixel lies."""


@dataclass(frozen=True)
class Calibration:
    """What :func:`evaluate` finds; every field is explained by the function of its name.

    Attributes:
        psnr: dB.
        ssim: at most 1.
        relative_l2: 0 is perfect.
        coverage_95: share of pixels in ``mean ± 1.96 std``.
        coverage_curve: the same at many levels.
        size_stratified_coverage: the same in four parts of equally many pixels, from ``part_1`` of
            the smallest std to ``part_4`` of the largest.
        miscalibration_area: signed, positive is over-confident.
        absolute_miscalibration_area: unsigned.
        sharpness: mean std, 1/mm.
        std_scale_for_coverage_95: factor on the std that covers 95 %.
        sharpness_at_equal_coverage: mean width of the 95 % intervals after that factor, 1/mm.
        nll_per_pixel: nats per pixel under ``patch_1`` (marginals), ``patch_2``, ``patch_10`` and
            ``joint``, and with halved off-diagonals ``patch_2_shrunk``, ``patch_10_shrunk`` and
            ``joint_shrunk``; None where neither a covariance nor enough samples are known.
        crps: of the Gaussian marginals, 1/mm.
        crps_of_samples: of the samples' marginals, 1/mm, or None.
        interval_score_95: 1/mm.
        energy_score: of samples, 1/mm, or None.
        variogram_score: of samples, or None.
        reduced_chi_squared: 1 if calibrated, above it over-confident.
        joint_reduced_chi_squared: the same with the covariance, or None.
        z_quantiles: quantile-quantile plot of error / std.
        ence: 0 is perfect.
        reliability: error against std in bins.
        ause: 0 if the std orders the pixels as the error does.
        sparsification: the curves of it.
        rank_correlation: Spearman's, of std and |error|.
        spectrum: power of the error over the claimed power by spatial frequency.
        bands: 95 % bands of the fields in :data:`BANDED` (``nll_per_pixel``: of its
            ``patch_1``), by resampling blocks of pixels; empty if none were asked for.
    """

    psnr: float
    ssim: float
    relative_l2: float
    coverage_95: float
    coverage_curve: CoverageCurve
    size_stratified_coverage: dict[str, float]
    miscalibration_area: float
    absolute_miscalibration_area: float
    sharpness: float
    std_scale_for_coverage_95: float
    sharpness_at_equal_coverage: float
    nll_per_pixel: dict[str, float | None]
    crps: float
    crps_of_samples: float | None
    interval_score_95: float
    energy_score: float | None
    variogram_score: float | None
    reduced_chi_squared: float
    joint_reduced_chi_squared: float | None
    z_quantiles: Quantiles
    ence: float
    reliability: Reliability
    ause: float
    sparsification: Sparsification
    rank_correlation: float
    spectrum: Spectrum
    bands: dict[str, Band]

    def as_dict(self) -> dict[str, Any]:
        """The same as numbers, lists and dicts for JSON; NaN and infinities become None."""
        return strict(self)


def evaluate(
    mean: Image,
    std: Image,
    truth: Image,
    *,
    covariance: Tensor | None = None,
    samples: Tensor | None = None,
    pixel_mm: float = 1.0,
    block: int | None = None,
) -> Calibration:
    """Score a reconstruction and its uncertainty against the truth, by every usual convention.

    Args:
        mean: centre of the error bars, (height, width), 1/mm.
        std: positive, (height, width), 1/mm.
        truth: (height, width), 1/mm.
        covariance: (n, n), row-major order of the pixels; adds the joint densities.
        samples: (samples, height, width) around ``mean``; adds the scores of ensembles and, if
            there is no covariance, the densities of patches with fewer pixels than samples.
        pixel_mm: side of a pixel, for the frequencies of the spectrum.
        block: adds the bands, from blocks of this side in pixels: larger than the errors'
            correlation, at most half the image.

    Raises:
        InputError: shapes differ, a value is not finite, a std is not positive, an image is below
            3 x 3 or 10 pixels, the truth is constant or met exactly, or a block is below 1 or
            above half the image's shorter side.
        ComputationError: the covariance is not positive definite.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> truth, noise = torch.rand(2, 32, 32, generator=generator)
        >>> std = torch.full((32, 32), 12**-0.5)
        >>> found = evaluate(truth + noise - 0.5, std, truth)
        >>> round(found.reduced_chi_squared, 1), found.as_dict()["energy_score"]
        (1.0, None)
    """
    truth = truth.to(mean.device)
    check(mean, std, truth, covariance, samples)
    triple = mean, std, truth
    joint = None if covariance is None else joint_reduced_chi_squared(mean, truth, covariance)
    return Calibration(
        psnr=psnr(mean, truth),
        ssim=ssim(mean, truth),
        relative_l2=relative_l2(mean, truth),
        coverage_95=coverage(*triple),
        coverage_curve=coverage_curve(*triple),
        size_stratified_coverage=size_stratified_coverage(*triple),
        miscalibration_area=miscalibration_area(*triple),
        absolute_miscalibration_area=absolute_miscalibration_area(*triple),
        sharpness=sharpness(std),
        std_scale_for_coverage_95=scale_to_coverage(*triple),
        sharpness_at_equal_coverage=sharpness_at_equal_coverage(*triple),
        nll_per_pixel=densities(*triple, covariance, samples),
        crps=crps(*triple),
        crps_of_samples=None if samples is None else crps_of_samples(samples, truth),
        interval_score_95=interval_score(*triple),
        energy_score=None if samples is None else energy_score(samples, truth),
        variogram_score=None if samples is None else variogram_score(samples, truth),
        reduced_chi_squared=reduced_chi_squared(*triple),
        joint_reduced_chi_squared=joint,
        z_quantiles=z_quantiles(*triple),
        ence=ence(*triple),
        reliability=reliability(*triple),
        ause=ause(*triple),
        sparsification=sparsification(*triple),
        rank_correlation=rank_correlation(*triple),
        spectrum=whitened_spectrum(
            *triple, covariance=covariance, samples=samples, pixel_mm=pixel_mm
        ),
        bands={} if block is None else block_bands(*triple, block),
    )


def check(
    mean: Tensor, std: Tensor, truth: Tensor, covariance: Tensor | None, samples: Tensor | None
) -> None:
    """InputError unless everything is finite and of one grid."""
    comparable(mean, std, truth)
    if covariance is not None:
        covariance_of(covariance, mean)
    if samples is not None:
        drawn_on(samples, mean)
    finite(mean=mean, std=std, truth=truth, covariance=covariance, samples=samples)


def block_bands(mean: Image, std: Image, truth: Image, block: int) -> dict[str, Band]:
    """The bands of one image, the same at every call: each score draws blocks from seed 0."""
    return {
        name: bootstrap(
            score, mean, std, truth, block=block, generator=torch.Generator().manual_seed(0)
        )
        for name, score in BANDED.items()
    }


def densities(
    mean: Image, std: Image, truth: Image, covariance: Tensor | None, samples: Tensor | None
) -> dict[str, float | None]:
    """Negative log-density per pixel for every patch size, with and without shrinkage."""
    found: dict[str, float | None] = {"patch_1": nll_per_pixel(mean, std, truth)}
    if covariance is not None:
        samples, largest = None, mean.numel()
    else:
        largest = 0 if samples is None else len(samples) - 1
    for name, patch in PATCHES.items():
        rows, columns = (side if patch is None else min(side, patch) for side in mean.shape)
        for key, shrinkage in ((name, 0.0), (f"{name}_shrunk", SHRINKAGE)):
            found[key] = None
            if rows * columns <= largest:
                found[key] = patch_nll_per_pixel(
                    mean, truth, patch=patch, covariance=covariance, samples=samples,
                    shrinkage=shrinkage,
                )  # fmt: skip
    return found
