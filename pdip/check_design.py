"""Which rays a calibration check withholds, and what it learns from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pdip.calibration.recalibration import NOISE
from pdip.errors import InputError
from pdip.scan import Scan
from pdip.scan.checks import check_seed
from pdip.typing import Mask
from pdip.withholding import random_rays, used_rays, used_views, without_rays

WITHHELD = ("auto", "views", "rays")
REGIONS = {
    "none": (),
    "object": ("air", "the object"),
    "std": ("the half of smaller std", "the half of larger std"),
}
"""Kind -> what its regions are called."""
LEAST_VIEWS = 10
"""Views of a scan from which whole ones are withheld by default."""
LEAST_BAND = 2
"""Views whose rays are withheld at least: one view shows no difference between views."""
LEAST_WITHHELD = 3
"""Views that are withheld at least: a band over fewer says nothing."""


@dataclass(frozen=True)
class CheckDesign:
    """How :func:`pdip.check_calibration` withholds rays and what it recalibrates.

    Args:
        withhold: views: whole views, evenly spread among those of positive weight; rays: single
            rays at random; auto: views from 10 views on, else rays.
        share: of the rays or views that are withheld, of views at least 3.
        noise: free: the noise level is found with the scale of the std; given: as the evidence
            has it.
        regions: one scale for the image (none), one for air and one for the object (object), or
            one for each half of the pixels by their std (std).
        samples: draws of the posterior behind the variance of the withheld rays, where its
            covariance is too large to be kept.
        seed: of the rays that are withheld and of the draws.

    Raises:
        InputError: a number out of range or an unknown word.
    """

    withhold: str = "auto"
    share: float = 0.2
    noise: str = "free"
    regions: str = "none"
    samples: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        words = {"withhold": WITHHELD, "noise": NOISE, "regions": REGIONS}
        for key, known in words.items():
            if getattr(self, key) not in known:
                raise InputError(
                    f"calibration.{key} must be one of {', '.join(known)}, got "
                    f"{getattr(self, key)!r}."
                )
        if not 0 < self.share <= 0.5:
            raise InputError(
                f"calibration.share must lie above 0 and not above 0.5, got {self.share}."
            )
        check_seed(self.seed)
        if self.samples < 16:
            raise InputError(f"calibration.samples must be at least 16, got {self.samples}.")

    def kind(self, scan: Scan) -> str:
        """Whether views or rays are withheld."""
        if self.withhold != "auto":
            return self.withhold
        return "views" if len(used_views(scan)) >= LEAST_VIEWS else "rays"

    def withheld(self, scan: Scan) -> Mask:
        """The rays of a scan to withhold, (views, detectors); none of weight 0.

        Raises:
            InputError: too few views or rays to withhold some and fit the rest.
        """
        marked = torch.zeros(scan.sinogram.shape, dtype=torch.bool)
        if self.kind(scan) == "views":
            views = used_views(scan)
            count = max(LEAST_WITHHELD, round(self.share * len(views)))
            if len(views) < 2 * LEAST_WITHHELD:
                raise InputError(
                    f"expected at least {2 * LEAST_WITHHELD} views to withhold some of them, got "
                    f"{len(views)}; withhold rays with --calibration.withhold rays"
                )
            marked[views[((torch.arange(count) + 0.5) * len(views) / count).long()]] = True
        else:
            marked = random_rays(scan, self.seed, self.share)
        used = used_rays(scan)
        marked = marked.to(used.device) & used
        if not bool(marked.any()):
            raise InputError("no ray is left to withhold; raise --calibration.share.")
        if not bool((used & ~marked).any()):
            raise InputError("no ray is left to fit; lower --calibration.share.")
        if int(marked.any(1).sum()) < LEAST_BAND:
            raise InputError(
                f"expected withheld rays of at least {LEAST_BAND} views, as how sure the check is "
                "shows in how views differ, got all of one; give more views or raise "
                "--calibration.share."
            )
        return marked

    def without(self, scan: Scan, withheld: Mask) -> Scan:
        """The scan of the other rays: of the other views, or with weight 0 for single rays."""
        if self.kind(scan) == "views":
            kept = (~withheld.any(1)).nonzero()[:, 0]
            return scan.select(kept.tolist())
        return without_rays(scan, withheld)
