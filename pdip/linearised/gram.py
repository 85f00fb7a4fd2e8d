"""Gram bases: everything the evidence and the expected TV need, computed once.

With ``Σ = Σ_c k_c(φ) P_c`` every quadratic form in the prior is a combination of matrices that
do not depend on the hyperparameters, ``R Σ Rᵀ = Σ_c k_c(φ) R P_c Rᵀ``, for any rows R. One
evaluation for new hyperparameters then needs no network pass.
"""

import torch
from torch import Tensor

from pdip.linearised.prior import ParameterPrior


def gram_bases(rows: Tensor, prior: ParameterPrior) -> Tensor:
    """``G_c = R P_c Rᵀ`` for every pattern c of every group.

    Args:
        rows: R, (k, params); products are taken in its precision.
        prior: supplies the groups and patterns.

    Returns:
        (patterns, k, k) float64, in the order of :meth:`ParameterPrior.coefficients`.
    """
    patterns = [group.num_patterns for group in prior.groups]
    bases = rows.new_empty(sum(patterns), len(rows), len(rows), dtype=torch.float64)
    parts = zip(prior.groups, prior.blocks(rows), bases.split(patterns), strict=True)
    for group, block, place in parts:
        place.copy_(group.gram_bases(block))
    return bases


def variance_bases(rows: Tensor, prior: ParameterPrior) -> Tensor:
    """The diagonals of :func:`gram_bases` alone: (patterns, k) float64."""
    return pair_bases(rows, rows, prior)


def pair_bases(left: Tensor, right: Tensor, prior: ParameterPrior) -> Tensor:
    """``l_iᵀ P_c r_i`` for rows (k, params) two by two: (patterns, k) float64."""
    bases = []
    for group, a, b in zip(prior.groups, prior.blocks(left), prior.blocks(right), strict=True):
        for pattern in range(group.num_patterns):
            bases.append((group.apply_pattern(pattern, a) * b).sum(-1).double())
    return torch.stack(bases)
