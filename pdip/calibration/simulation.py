"""Calibration over many simulated truths: ranks, expected coverage, and repeated noise."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pdip.errors import InputError
from pdip.typing import Image

LEVELS = tuple(k / 20 for k in range(1, 20))


@dataclass(frozen=True)
class Uniformity:
    """Are numbers that should be uniform on [0, 1] so?

    Attributes:
        counts: in bins of equal width, (bins,).
        chi_squared: ``Σ (count - expected)² / expected``, bins - 1 degrees of freedom.
        chi_squared_p: probability of a larger one if they are uniform.
        kolmogorov_p: the same of the Kolmogorov-Smirnov distance.
    """

    counts: Tensor
    chi_squared: float
    chi_squared_p: float
    kolmogorov_p: float


@dataclass(frozen=True)
class ExpectedCoverage:
    """Share of simulations whose truth lies in the credible region; calibrated on the diagonal.

    Attributes:
        levels: credibilities, (levels,).
        empirical: share of simulations, (levels,).
        standard_error: of each share, ``√(p (1 - p) / simulations)``, (levels,).
    """

    levels: Tensor
    empirical: Tensor
    standard_error: Tensor


@dataclass(frozen=True)
class RepeatedNoise:
    """What repeated measurements of one truth show, root mean squares over pixels.

    Attributes:
        claimed: the std that was claimed.
        spread: std of the reconstructions over the noise, the part of the error that noise makes.
        bias: mean reconstruction less truth, freed of the mean's own noise; 0 at least.
        error: of a single reconstruction, ``√(spread² + bias²)`` but for chance.
        claimed_map: root mean square over draws, (height, width).
        spread_map: (height, width).
        error_map: root mean square over draws, (height, width).
    """

    claimed: float
    spread: float
    bias: float
    error: float
    claimed_map: Tensor
    spread_map: Tensor
    error_map: Tensor

    @property
    def ratio(self) -> float:
        """Error over claimed std: 1 if honest, above it over-confident."""
        return self.error / self.claimed


def ranks(
    samples: Float[Tensor, "samples *any"],  # noqa: F821
    truth: Float[Tensor, "*any"],
) -> Tensor:
    """How many samples lie below the truth, 0 to ``len(samples)`` (Talts et al. 2018).

    Uniform over simulations whose truth is drawn from the prior, if the posterior is right.

    Example:
        >>> ranks(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([3.0]))
        tensor([2])
    """
    return (samples < truth).sum(0)


def uniformity(values: Float[Tensor, " values"], bins: int = 10) -> Uniformity:
    """Test numbers for the uniform distribution on [0, 1].

    Args:
        values: for example ranks as ``(rank + 1/2) / (samples + 1)``, or credibilities.
        bins: at least five values in each are expected of a chi-squared test.

    Raises:
        InputError: a value outside [0, 1].
    """
    if not len(values) or not bool(((values >= 0) & (values <= 1)).all()):
        raise InputError(f"expected values between 0 and 1, got {len(values)} that are not all so")
    counts = torch.histc(values.double().cpu(), bins, 0, 1)
    from scipy.stats import chisquare, kstest  # takes a second to load

    test = chisquare(counts.numpy())
    distance = kstest(values.double().cpu().numpy(), "uniform")
    return Uniformity(counts, float(test.statistic), float(test.pvalue), float(distance.pvalue))


def credibility(
    samples: Float[Tensor, "samples *any"],  # noqa: F821
    truth: Float[Tensor, "*any"],
    reference: Float[Tensor, "*any"],
) -> float:
    """Share of samples nearer to a reference point than the truth is (TARP: Lemos et al. 2023).

    Uniform over simulations if the posterior is right, for any reference that is chosen without
    the truth; a wrong posterior shows itself if the reference is also chosen with the data or at
    random.

    Args:
        samples: of the posterior of one simulation, (samples, ...).
        truth: (...).
        reference: (...).
    """
    truth, reference = truth.double(), reference.double()
    distances = (samples.double() - reference).flatten(1).norm(dim=1)
    return float((distances < (truth - reference).norm()).double().mean())


def expected_coverage(
    credibilities: Float[Tensor, " simulations"], levels: tuple[float, ...] = LEVELS
) -> ExpectedCoverage:
    """Share of simulations with :func:`credibility` below each level (Lemos et al. 2023).

    Below the diagonal at high levels and above it at low ones: over-confident; a curve on one
    side of it: biased.
    """
    nominal = torch.tensor(levels, dtype=torch.float64)
    inside = credibilities.double().cpu()[:, None] <= nominal
    error = (nominal * (1 - nominal) / len(credibilities)).sqrt()
    return ExpectedCoverage(nominal, inside.double().mean(0), error)


def repeated_noise(
    images: Float[Tensor, "draws height width"],
    stds: Float[Tensor, "draws height width"],
    truth: Image,
) -> RepeatedNoise:
    """Spread of reconstructions of one truth over the noise, against the claimed std.

    ``error² = spread² + bias²``: a posterior also answers for the bias of its prior, so its std
    should match the error, and lie above the spread.

    Args:
        images: a reconstruction for each draw of the noise, at least two.
        stds: its claimed std.
        truth: (height, width).

    Raises:
        InputError: fewer than two draws.
    """
    draws = len(images)
    if draws < 2:
        raise InputError(f"expected at least 2 draws of the noise, got {draws}")
    errors = images.double() - truth.double()
    spread = errors.var(0)
    bias = float((errors.mean(0).square() - spread / draws).mean())
    claimed = stds.double().square().mean(0)
    return RepeatedNoise(
        claimed=float(claimed.mean().sqrt()),
        spread=float(spread.mean().sqrt()),
        bias=max(bias, 0.0) ** 0.5,
        error=float(errors.square().mean().sqrt()),
        claimed_map=claimed.sqrt(),
        spread_map=spread.sqrt(),
        error_map=errors.square().mean(0).sqrt(),
    )
