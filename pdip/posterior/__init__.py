"""The posterior of the image: mean, std, samples, regions, densities, and the next view."""

from pdip.posterior.design import CandidateViews, next_views
from pdip.posterior.image_posterior import ImagePosterior
from pdip.posterior.mixture import Mixture, SavedPosterior
from pdip.posterior.modes import Modes
from pdip.posterior.pooled import pooled_posterior
from pdip.posterior.posterior import Posterior, relinearise

__all__ = [
    "CandidateViews",
    "ImagePosterior",
    "Mixture",
    "Modes",
    "Posterior",
    "SavedPosterior",
    "next_views",
    "pooled_posterior",
    "relinearise",
]
