"""The fitted network as a linear Gaussian model of images."""

from pdip.linearised.gram import gram_bases, variance_bases
from pdip.linearised.jacobian import Jacobian
from pdip.linearised.model import LinearGaussianModel, linearise
from pdip.linearised.prior import ParameterPrior, unet_prior
from pdip.linearised.prior_groups import IIDGroup, MaternFilterGroup, PriorGroup
from pdip.linearised.statistical import statistical_linearisation

__all__ = [
    "IIDGroup",
    "Jacobian",
    "LinearGaussianModel",
    "MaternFilterGroup",
    "ParameterPrior",
    "PriorGroup",
    "gram_bases",
    "linearise",
    "statistical_linearisation",
    "unet_prior",
    "variance_bases",
]
