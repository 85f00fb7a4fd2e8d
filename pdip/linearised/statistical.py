"""Statistical linearisation of the output activation: slopes that know how unsure h is."""

import math

import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor
from torch.func import jvp

NODES = 48


def statistical_linearisation(function, mean: Tensor, variance: Tensor) -> tuple[Tensor, ...]:
    """Moments of ``s(h)`` and the best linear fit to it, elementwise, for ``h ~ N(m, v)``.

    The derivative at the mean calls a saturated pixel certain however unsure h is. The linear
    regression of s(h) on h has slope ``E[s'(h)]`` (Stein's lemma) and leaves the variance
    ``Var[s(h)] - E[s'(h)]² v`` unexplained (García-Fernández et al. 2015, sec. III). All three
    by Gauss-Hermite quadrature.

    Args:
        function: s, elementwise and differentiable.
        mean: m, any shape.
        variance: v >= 0, same shape.

    Returns:
        ``E[s(h)]``, ``E[s'(h)]`` and the unexplained variance, each of the shape of ``mean``.
    """
    nodes, weights = (torch.as_tensor(a).to(mean) for a in hermegauss(NODES))
    weights = weights / math.sqrt(2 * math.pi)
    h = mean[..., None] + variance.clamp(min=0).sqrt()[..., None] * nodes
    value, derivative = jvp(function, (h,), (torch.ones_like(h),))
    expected = (weights * value).sum(-1)
    slope = (weights * derivative).sum(-1)
    total = (weights * (value - expected[..., None]).square()).sum(-1)
    return expected, slope, (total - slope.square() * variance).clamp(min=0)
