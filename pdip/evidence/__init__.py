"""The evidence of the hyperparameters, and their choice."""

from pdip.evidence.objectives import (
    OBJECTIVES,
    Conditional,
    LinearisedWeights,
    NetworkWeights,
    Objective,
    Profile,
)
from pdip.evidence.optimise import EvidenceFit, log_evidence, optimise_evidence
from pdip.evidence.tv_predcp import HYPERPRIORS, TVPredCP

__all__ = [
    "HYPERPRIORS",
    "OBJECTIVES",
    "Conditional",
    "EvidenceFit",
    "LinearisedWeights",
    "NetworkWeights",
    "Objective",
    "Profile",
    "TVPredCP",
    "log_evidence",
    "optimise_evidence",
]
