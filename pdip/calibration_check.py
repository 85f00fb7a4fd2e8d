"""Whether the error bars of a scan can be believed, from the scan alone: rays are withheld, all is
done again on the others, and the withheld ones are compared with what they are predicted to be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from skimage.filters import threshold_otsu
from torch import Tensor

from pdip.calibration.conformal import Conformal, conformal, pixel_bounds
from pdip.calibration.held_out import HeldOut, WithheldRays, held_out_scores
from pdip.calibration.recalibration import Scales, fitted_scales, scale_map
from pdip.calibration.verdict import applied, grounds, pattern, verdict
from pdip.calibration.whiteness import Correlation
from pdip.check_design import REGIONS, CheckDesign
from pdip.checkpoints import Checkpoints
from pdip.in_sample import leave_one_out_scores, residual_whiteness
from pdip.pipeline import ray_of, reconstruct
from pdip.plan import in_words
from pdip.ray import RayTransform
from pdip.result import Result
from pdip.scan import Scan
from pdip.settings import Settings
from pdip.stages import Observer, StageClock, StageCost
from pdip.typing import Image, Mask
from pdip.withheld import compared, signal_covariances
from pdip.withholding import used_rays

CHECK = "check"


@dataclass(frozen=True)
class CalibrationCheck:
    """What withheld rays say of the error bars.

    Attributes:
        verdict: that in a few words, such as "the error bars are about right (factor 1.1 ...)".
        grounds: what it rests on and which files it led to, in sentences.
        held_out: scores of the withheld rays; the fit did not see them.
        leave_one_out: "rays" and "views" -> scores of each predicted from the others in closed
            form; optimistic, as the features were learned from all.
        whiteness: direction -> correlation of the residual of the whole scan.
        pattern: what that means, in words.
        scales: the factor of the std of the whole image, and that of σ.
        region_scales: the factors of its regions; None where none were asked for.
        conformal: the half width that held 95 % of the withheld rays.
        bounds: lower and upper bound of every pixel of the result by ``conformal``, (2, height,
            width), 1/mm; None where the withheld rays are too few.
        std: the recalibrated std of the result, 1/mm; None where the rays do not determine it or
            cannot tell it from the std as it is.
        result: the reconstruction from the other rays.
        rays: the withheld rays and their predictions.
        withheld: which they are, (views, detectors).
        design: how they were chosen and what was recalibrated.
        stages: what each stage of the check cost.
    """

    verdict: str
    grounds: str
    held_out: HeldOut
    leave_one_out: Mapping[str, HeldOut]
    whiteness: Mapping[str, Correlation]
    pattern: str
    scales: Scales
    region_scales: Scales | None
    conformal: Conformal
    bounds: Tensor | None
    std: Image | None
    result: Result
    rays: WithheldRays
    withheld: Mask
    design: CheckDesign
    stages: Mapping[str, StageCost]


def check_calibration(
    scan: Scan,
    settings: Settings | Mapping[str, Mapping] | None = None,
    *,
    result: Result | None = None,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
) -> CalibrationCheck:
    """Withhold rays, reconstruct from the others with the same settings, and score the withheld.

    Costs as much as the reconstruction itself once more. No ground truth is needed.

    Args:
        scan: what was measured.
        settings: as for :func:`pdip.reconstruct`; the section ``calibration`` has the keywords of
            :class:`CheckDesign`.
        result: of the same scan and settings; None to reconstruct it first.
        observer: as for :func:`pdip.reconstruct`.
        checkpoints: those of the run; the check keeps its own stages beside.

    Raises:
        InputError: a setting or the scan cannot be used, or has too few views.
        ComputationError: a stage has no honest result.

    Example:
        >>> from pdip.scan import ImageGrid, ParallelBeam, shepp_logan, simulate
        >>> from pdip.ray import ray_transform
        >>> angles = [22.5 * view for view in range(8)]
        >>> ray = ray_transform(ParallelBeam(angles, 12), ImageGrid((8, 8)))
        >>> scan = simulate(shepp_logan(ray.grid), ray, noise_fraction=0.05,
        ...                 generator=torch.Generator().manual_seed(0))
        >>> check = check_calibration(scan, {"network": {"scales": 2, "channels": 4},
        ...                                  "dip": {"max_steps": 5, "restarts": 1}})
        >>> check.held_out.num_views
        8
    """
    if not isinstance(settings, Settings):
        settings = Settings.of(settings or {})
    observer, checkpoints = observer or Observer(), checkpoints or Checkpoints()
    design = CheckDesign(**settings.calibration)
    withheld = design.withheld(scan)
    if result is None:
        result = reconstruct(scan, settings, observer=observer, checkpoints=checkpoints)
    observer.finished(CHECK, _plan_sentence(design, scan, withheld, result))
    told = _OfCheck(observer, result.assumptions)
    partial = reconstruct(
        design.without(scan, withheld),
        settings,
        observer=told,
        checkpoints=checkpoints.within(CHECK),
    )
    clock = StageClock(told)
    with clock.stage("score") as said, torch.no_grad():
        ray = ray_of(scan, settings)
        found = _scored(scan, ray, design, withheld, result, partial)
        said.append(
            f"{found.held_out.num_rays} rays of {found.held_out.num_views} views, "
            f"reduced chi squared {found.held_out.predicted.chi_squared.value:.3g}; {found.pattern}"
        )
    costs = {**partial.stages, **clock.costs}
    return replace(found, stages={f"{CHECK}: {name}": cost for name, cost in costs.items()})


def _scored(
    scan: Scan,
    ray: RayTransform,
    design: CheckDesign,
    withheld: Mask,
    result: Result,
    partial: Result,
) -> CalibrationCheck:
    """All scores of the withheld rays under the result from the others."""
    generator = torch.Generator(ray.device).manual_seed(design.seed)
    number = region_numbers(design.regions, partial.image, partial.std)
    parts = signal_covariances(
        partial.posterior, ray, number, samples=design.samples, generator=generator
    )
    rays = compared(partial.image, parts, scan, ray, partial.noise_std_by_evidence, withheld)
    scales = fitted_scales(rays, noise=design.noise)
    region_scales = None
    if design.regions != "none":
        seen = parts[:, :, withheld.to(ray.device)]
        region_scales = fitted_scales(rays, seen, noise=design.noise)
    found = applied(scales, region_scales)
    held_out = held_out_scores(rays)
    rule = conformal(rays.z)
    bounded = math.isfinite(rule.quantile)
    white = residual_whiteness(scan, result)
    return CalibrationCheck(
        verdict=verdict(scales),
        grounds=grounds(held_out, scales, region_scales, REGIONS[design.regions]),
        held_out=held_out,
        leave_one_out=leave_one_out_scores(result),
        whiteness=white,
        pattern=pattern(white),
        scales=scales,
        region_scales=region_scales,
        conformal=rule,
        bounds=pixel_bounds(result.image, result.std, rule.quantile) if bounded else None,
        std=None if found is None else rescaled(result, found, design.regions),
        result=partial,
        rays=rays,
        withheld=withheld,
        design=design,
        stages={},
    )


def rescaled(result: Result, scales: Scales, kind: str) -> Image:
    """The std of a result times its factor, or the factors of its regions of a kind, 1/mm."""
    kind = "none" if len(scales.scales) == 1 else kind
    number = region_numbers(kind, result.image, result.std)
    return result.std * scale_map(number, scales).to(result.std)


def region_numbers(kind: str, image: Image, std: Image) -> Tensor:
    """The region of each pixel: air 0 and object 1, or the smaller stds 0 and the larger 1.

    Args:
        kind: "object" (Otsu's threshold on the reconstruction), "std" (its median), or "none":
            the whole image is region 0.
        image: (height, width).
        std: (height, width).
    """
    if kind == "none":
        return torch.zeros_like(image, dtype=torch.long)
    if kind == "object":
        return (image > float(threshold_otsu(image.detach().cpu().double().numpy()))).long()
    return (std > std.median()).long()


def _plan_sentence(design: CheckDesign, scan: Scan, withheld: Mask, result: Result) -> str:
    seconds = sum(cost.seconds for cost in result.stages.values())
    what = f"{int(withheld.sum())} of {int(used_rays(scan).sum())} rays at random"
    if design.kind(scan) == "views":
        what = f"{int(withheld.any(1).sum())} of {scan.geometry.num_views} views"
    return (
        f"withholds {what} and does everything again on the others, about as long as before "
        f"({in_words(seconds)})"
    )


class _OfCheck(Observer):
    """Passes on what the second run says, as that of the check; assumptions only where new."""

    def __init__(self, observer: Observer, known: tuple[str, ...]) -> None:
        self.observer = observer
        self.known = known

    def started(self, stage: str) -> None:
        self.observer.started(f"{CHECK}: {stage}")

    def progress(self, step: int, total: int, text: str) -> None:
        self.observer.progress(step, total, text)

    def finished(self, stage: str, sentence: str) -> None:
        self.observer.finished(f"{CHECK}: {stage}", sentence)

    def assumed(self, sentence: str) -> None:
        if sentence not in self.known:
            self.observer.assumed(f"in the check, {sentence}")

    def warned(self, sentence: str) -> None:
        self.observer.warned(sentence)
