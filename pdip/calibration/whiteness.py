"""Whether what the image does not explain of its scan is noise: residuals without a pattern."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pdip.errors import InputError
from pdip.typing import Mask, Sinogram

Residuals = Float[Tensor, "draws views detectors"]
LAGS = 10
LEVEL = 0.95
DIRECTIONS = {"detectors": -1, "views": -2}


@dataclass(frozen=True)
class Correlation:
    """Autocorrelation of residuals in one direction, beside that of residuals of a right model.

    Attributes:
        values: at lags 1, 2, ..., (lags,).
        expected: mean over the simulated residuals, (lags,).
        low: lower end of their 95 % band, (lags,).
        high: upper end.
        statistic: ``Q = Σ_l n_l (ρ_l - expected_l)²`` over lags, n_l the pairs of rays.
        limit: what 95 % of the simulated residuals stay below.
        p_value: share of the simulated residuals, and this one, that are as correlated.
    """

    values: Tensor
    expected: Tensor
    low: Tensor
    high: Tensor
    statistic: float
    limit: float
    p_value: float

    @property
    def white(self) -> bool:
        """Whether the residuals are no more correlated than noise would make them."""
        return self.statistic <= self.limit


def whiteness(
    residual: Sinogram, simulated: Residuals, used: Mask, *, lags: int = LAGS
) -> dict[str, Correlation]:
    """Autocorrelation of a residual along the detector and along the views.

    A statistic in the manner of Ljung and Box (1978), with expectation and band from residuals
    that were simulated: even a right model's are not white, as the image takes part of the noise.

    Args:
        residual: y - A x over its noise std, (views, detectors).
        simulated: residuals as a right model leaves them, (draws, views, detectors).
        used: rays that count.
        lags: most lags.

    Returns:
        direction ("detectors", "views") -> its correlation; a direction of one ray is left out.

    Raises:
        InputError: too few simulated residuals for a band.
    """
    if len(simulated) < 20:
        raise InputError(f"expected at least 20 simulated residuals, got {len(simulated)}")
    found = {}
    for direction, axis in DIRECTIONS.items():
        most = min(lags, residual.shape[axis] - 1)
        if most > 0:
            stacked = torch.cat([residual[None], simulated]).double()
            found[direction] = _compared(*autocorrelation(stacked, used, axis, most))
    return found


def autocorrelation(
    residuals: Residuals, used: Mask, axis: int, lags: int
) -> tuple[Tensor, Tensor]:
    """``ρ_l = Σ r_i r_{i+l} / n_l`` over the mean square, for lags 1 to ``lags``.

    Args:
        residuals: (draws, views, detectors).
        used: rays that count; a pair with one that does not is left out.
        axis: -1 along the detector, -2 along the views.
        lags: how many.

    Returns:
        ρ, (draws, lags), and the number of pairs n, (lags,).
    """
    kept = residuals * used
    power = kept.square().sum((-2, -1)) / used.sum()
    values, pairs = [], []
    for lag in range(1, lags + 1):
        length = residuals.shape[axis] - lag
        both = used.narrow(axis, 0, length) & used.narrow(axis, lag, length)
        product = kept.narrow(axis, 0, length) * kept.narrow(axis, lag, length)
        values.append(product.sum((-2, -1)) / both.sum().clamp(min=1) / power)
        pairs.append(both.sum())
    return torch.stack(values, dim=1), torch.stack(pairs).double()


def _compared(correlation: Tensor, pairs: Tensor) -> Correlation:
    """The first row beside the others."""
    own, others = correlation[0], correlation[1:]
    expected = others.mean(0)
    statistics = (pairs * (correlation - expected).square()).sum(1)
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2]).to(others)
    low, high = others.quantile(tails, dim=0)
    return Correlation(
        own,
        expected,
        low,
        high,
        statistic=float(statistics[0]),
        limit=float(statistics[1:].quantile(LEVEL)),
        p_value=float((statistics >= statistics[0]).double().mean()),
    )
