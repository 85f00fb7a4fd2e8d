"""The posterior of the image: mean, std, samples, regions, densities."""

from pdip.posterior.image_posterior import ImagePosterior
from pdip.posterior.mixture import Mixture, SavedPosterior
from pdip.posterior.modes import Modes
from pdip.posterior.pooled import pooled_posterior
from pdip.posterior.posterior import Posterior, relinearise

__all__ = [
    "ImagePosterior",
    "Mixture",
    "Modes",
    "Posterior",
    "SavedPosterior",
    "pooled_posterior",
    "relinearise",
]
