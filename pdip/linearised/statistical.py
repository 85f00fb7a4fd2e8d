"""Statistical linearisation of the output activation: slopes that know how unsure h is."""

import math

import torch
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from torch import Tensor
from torch.autograd.functional import jvp

NODES = 48
WIDE = 9.0
"""Variance above which the Gauss-Hermite nodes are too far apart for a sigmoid between them."""
REACH, PANELS, PANEL_NODES = 40.0, 10, 24
"""Of the wide rule: beyond ± REACH a sigmoid or softplus is linear to 1e-17."""
CHUNK = 4096


def statistical_linearisation(function, mean: Tensor, variance: Tensor) -> tuple[Tensor, ...]:
    """Moments of ``s(h)`` and the best linear fit to it, elementwise, for ``h ~ N(m, v)``.

    The derivative at the mean calls a saturated pixel certain however unsure h is. The linear
    regression of s(h) on h has slope ``E[s'(h)]`` (Stein's lemma) and leaves the variance
    ``Var[s(h)] - E[s'(h)]² v`` unexplained (García-Fernández et al. 2015, sec. III). All three
    by Gauss-Hermite quadrature, and where v > 9 by Gauss-Legendre quadrature over |h| < 40 with
    closed tails.

    Args:
        function: s, elementwise and differentiable; linear beyond |h| = 40, and between as smooth
            as a sigmoid of slope 1/4.
        mean: m, any shape.
        variance: v >= 0, same shape.

    Returns:
        ``E[s(h)]``, ``E[s'(h)]`` and the unexplained variance, each of the shape of ``mean``.
    """
    variance = variance.clamp(min=0)
    moments = torch.stack(_narrow(function, mean, variance.clamp(max=WIDE)))
    wide = variance > WIDE
    if wide.any():
        parts = zip(mean[wide].split(CHUNK), variance[wide].split(CHUNK), strict=True)
        found = [torch.stack(_wide(function, m, v)) for m, v in parts]
        moments[:, wide] = torch.cat(found, dim=1)
    expected, slope, total = moments
    return expected, slope, (total - slope.square() * variance).clamp(min=0)


def _narrow(function, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``E[s(h)]``, ``E[s'(h)]`` and ``Var[s(h)]`` by Gauss-Hermite quadrature."""
    nodes, weights = (torch.as_tensor(a).to(mean) for a in hermegauss(NODES))
    weights = weights / math.sqrt(2 * math.pi)
    h = mean[..., None] + variance.sqrt()[..., None] * nodes
    value, derivative = jvp(function, h, torch.ones_like(h))
    expected = (weights * value).sum(-1)
    slope = (weights * derivative).sum(-1)
    return expected, slope, (weights * (value - expected[..., None]).square()).sum(-1)


def _wide(function, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for a wide density: nodes stand where s bends, whatever m and v are.

    Beyond the nodes s is a line α + β d with d = h - m. With z the distance in std from m to the
    end at ±40, the tail holds ``Φ(-z)`` of the density, and there ``E[d] = ± √v φ(z)`` and
    ``E[d²] = v (Φ(-z) + z φ(z))``.

    Args:
        mean, variance: (pixels,).
    """
    nodes, weights = (torch.as_tensor(a).to(mean) for a in leggauss(PANEL_NODES))
    half = REACH / PANELS
    middles = torch.arange(PANELS).to(mean) * 2 * half - REACH + half
    h = torch.cat([(middles[:, None] + half * nodes).flatten(), mean.new_tensor([-REACH, REACH])])
    row = h[None]  # s may be one of images
    value, derivative = (x[0] for x in jvp(function, row, torch.ones_like(row)))
    std = variance.sqrt()
    z = (h[:-2] - mean[:, None]) / std[:, None]
    powers = torch.stack([value**0, value, value.square(), derivative])[:, :-2]
    weighted = _density(z) @ (half * weights.repeat(PANELS) * powers).T / std[:, None]
    share_between, first_moment, second_moment, slope = weighted.T
    expected = first_moment
    tails = []
    for sign, end, rise in ((-1, value[-2], derivative[-2]), (1, value[-1], derivative[-1])):
        z = (REACH - sign * mean) / std
        share = torch.special.ndtr(-z)
        first = sign * std * _density(z)
        second = variance * (share + z * _density(z))
        at_mean = end + rise * (mean - sign * REACH)  # where the line of the tail passes m
        expected = expected + at_mean * share + rise * first
        slope = slope + rise * share
        tails.append((at_mean, rise, share, first, second))
    total = second_moment - 2 * expected * first_moment + expected.square() * share_between
    for at_mean, rise, share, first, second in tails:
        offset = at_mean - expected
        total = total + offset.square() * share + 2 * offset * rise * first + rise**2 * second
    return expected, slope, total


def _density(z: Tensor) -> Tensor:
    """φ(z) of the standard normal."""
    return (z.square() / -2).exp() / math.sqrt(2 * math.pi)
