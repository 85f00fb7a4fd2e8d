"""Other ways to an error bar, to compare with: same inputs, same outputs, same noise treatment."""

from pdip.baselines.baseline import Baseline, gaussian
from pdip.baselines.ensemble import Ensemble
from pdip.baselines.homoscedastic import Homoscedastic
from pdip.baselines.mc_dropout import MCDropout
from pdip.baselines.pixel_gp import PixelGP
from pdip.baselines.pixel_noise import pixel_noise_variance
from pdip.baselines.sgld import SGLD
from pdip.baselines.tv_laplace import TVLaplace

BASELINES: dict[str, type[Baseline]] = {
    "ensemble": Ensemble,
    "homoscedastic": Homoscedastic,
    "mc_dropout": MCDropout,
    "pixel_gp": PixelGP,
    "sgld": SGLD,
    "tv_laplace": TVLaplace,
}
"""Every baseline by name."""

__all__ = [
    "BASELINES",
    "SGLD",
    "Baseline",
    "Ensemble",
    "Homoscedastic",
    "MCDropout",
    "PixelGP",
    "TVLaplace",
    "gaussian",
    "pixel_noise_variance",
]
