"""What a run found: the record that the pipeline returns and the report reads."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pdip.dip import DIPFit
from pdip.evidence import EvidenceFit
from pdip.linearised.measurement import Compression
from pdip.plan import Plan
from pdip.posterior import Mixture
from pdip.stages import StageCost
from pdip.typing import Image


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        image: the reconstruction, centre of the error bars: the mean over restarts of the
            networks' images, or its midpoint with ``mean``, (height, width), 1/mm.
        std: root of the posterior's second moment about ``image`` in every pixel, 1/mm.
        mean: the linear model's own posterior mean, 1/mm.
        posterior: to ask for samples, regions and densities; a mixture over restarts.
        fit: the first restart; ``fit.restarts`` are all.
        evidence: the chosen hyperparameters of each restart.
        plan: the solver that was chosen, and the cost that was predicted.
        stages: what each stage cost.
        assumptions: what was assumed for the user, one sentence each.
    """

    image: Image
    std: Image
    mean: Image
    posterior: Mixture
    fit: DIPFit
    evidence: tuple[EvidenceFit, ...]
    plan: Plan
    stages: Mapping[str, StageCost]
    assumptions: tuple[str, ...]

    @property
    def noise_std_by_evidence(self) -> float:
        """σ of a ray of weight 1 as the evidence chose it, mean over restarts; the one the fit
        used is ``fit.noise_std``."""
        return mean_of(math.sqrt(float(e.model.noise_variance)) for e in self.evidence)

    @property
    def log_evidence(self) -> float:
        """Mean over restarts, nats."""
        return mean_of(e.log_evidence for e in self.evidence)

    @property
    def worst_residual(self) -> float:
        """The largest true relative residual of all solves."""
        searches = [e.worst_residual for e in self.evidence]
        return max(self.posterior.solution.worst_residual, *searches)

    @property
    def compression(self) -> Compression | None:
        """The data of the restart that leaves most of its signal outside; None for all rays."""
        return worst_compression(self.posterior)

    @property
    def converged(self) -> bool:
        """Whether the last solves and every search for hyperparameters converged."""
        return self.posterior.solution.converged and all(e.converged for e in self.evidence)


def worst_compression(posterior: Mixture) -> Compression | None:
    """The compression that leaves most outside, among those of a posterior's restarts."""
    used = [part.model.measurement.compression for part in posterior.posteriors]
    return max((c for c in used if c is not None), key=lambda c: c.left_outside, default=None)


def mean_of(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    values = list(values)
    return sum(values) / len(values)
