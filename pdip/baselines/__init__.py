"""Other ways to an error bar, to compare with: same inputs, same outputs, same noise treatment."""

from pdip.baselines.baseline import Baseline, gaussian
from pdip.baselines.diagonal import Diagonal
from pdip.baselines.ensemble import Ensemble
from pdip.baselines.factorised_prior import FactorisedPrior
from pdip.baselines.g_prior import GPrior
from pdip.baselines.homoscedastic import Homoscedastic
from pdip.baselines.kfac import KFAC
from pdip.baselines.last_layer import LastLayer
from pdip.baselines.mc_dropout import MCDropout
from pdip.baselines.pixel_gp import PixelGP
from pdip.baselines.pixel_noise import pixel_noise_variance
from pdip.baselines.sgld import SGLD
from pdip.baselines.subnetwork import Subnetwork
from pdip.baselines.tv_laplace import TVLaplace

BASELINES: dict[str, type[Baseline]] = {
    "diagonal": Diagonal,
    "ensemble": Ensemble,
    "factorised_prior": FactorisedPrior,
    "g_prior": GPrior,
    "homoscedastic": Homoscedastic,
    "kfac": KFAC,
    "last_layer": LastLayer,
    "mc_dropout": MCDropout,
    "pixel_gp": PixelGP,
    "sgld": SGLD,
    "subnetwork": Subnetwork,
    "tv_laplace": TVLaplace,
}
"""Every baseline by name."""

__all__ = [
    "BASELINES",
    "KFAC",
    "SGLD",
    "Baseline",
    "Diagonal",
    "Ensemble",
    "FactorisedPrior",
    "GPrior",
    "Homoscedastic",
    "LastLayer",
    "MCDropout",
    "PixelGP",
    "Subnetwork",
    "TVLaplace",
    "gaussian",
    "pixel_noise_variance",
]
