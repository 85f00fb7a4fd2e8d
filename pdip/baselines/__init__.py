"""Other ways to an error bar, to compare with: same inputs, same outputs, same noise treatment."""

from pdip.baselines.baseline import Baseline, gaussian
from pdip.baselines.diagonal import Diagonal
from pdip.baselines.factorised_prior import FactorisedPrior
from pdip.baselines.g_prior import GPrior
from pdip.baselines.kfac import KFAC
from pdip.baselines.last_layer import LastLayer
from pdip.baselines.subnetwork import Subnetwork

BASELINES: dict[str, type[Baseline]] = {
    "diagonal": Diagonal,
    "factorised_prior": FactorisedPrior,
    "g_prior": GPrior,
    "kfac": KFAC,
    "last_layer": LastLayer,
    "subnetwork": Subnetwork,
}
"""Every baseline by the name that commands know it by."""

__all__ = [
    "BASELINES",
    "KFAC",
    "Baseline",
    "Diagonal",
    "FactorisedPrior",
    "GPrior",
    "LastLayer",
    "Subnetwork",
    "gaussian",
]
