"""What a comparison of settings found: scores, the winner, and whether the difference is real."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pdip.calibration.view_bands import quantile_of
from pdip.report.words import WARNING

CLEARLY_FASTER = 0.7
"""Share of the next one's seconds: a busy machine and the first fit's warm-up are less."""
HEADINGS = (
    "candidate", "held-out", "margin", "conditional", "evidence", "fit", "seconds",
)  # fmt: skip
LEGEND = (
    "nats a ray, higher is better; margin: to the best score, ± its standard error over views; "
    "evidence compares only candidates of one fit"
)


@dataclass(frozen=True)
class Score:
    """What one candidate foretold of the withheld rays.

    Attributes:
        name: of the candidate.
        held_out: log predictive density of every withheld ray, nats, (h,) float64; none where
            there is no result.
        conditional_evidence: ``log p(y_h | y_f)`` of the linear model over h, nats a ray.
        log_evidence: ``log p(y_f)`` of the linear model over the number of fitted rays.
        seconds: of all stages, that of a shared fit and of shorter ones before it included.
        fit_seconds: of the fit, without shorter ones that it went on from.
        stop_reason: why the fit ended.
        assumptions: what was assumed for the user.
        failure: why there is no result; None where there is one.
    """

    name: str
    held_out: Tensor
    conditional_evidence: float = math.nan
    log_evidence: float = math.nan
    seconds: float = math.nan
    fit_seconds: float = math.nan
    stop_reason: str = ""
    assumptions: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def mean(self) -> float:
        """The held-out score, nats a ray; -inf without a result."""
        return -math.inf if self.failure is not None else float(self.held_out.mean())

    @property
    def sentence(self) -> str:
        """The candidate's result in one sentence."""
        if self.failure is not None:
            return f"no result: {self.failure}"
        return (
            f"held-out score {self.mean:.3f} nats a ray over {len(self.held_out)} withheld rays, "
            f"{self.seconds:.1f} s; {self.stop_reason}"
        )


@dataclass(frozen=True)
class Margin:
    """How much better the best score is.

    Attributes:
        mean: difference of the held-out scores, nats a ray, not negative.
        standard_error: of that mean, views taken as independent.
        quantile: standard errors beyond which it decides.
    """

    mean: float
    standard_error: float
    quantile: float

    @property
    def decides(self) -> bool:
        """Whether it lies beyond what chance makes of equal candidates."""
        return self.mean > self.quantile * self.standard_error

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.standard_error:.3f}"


@dataclass(frozen=True)
class Selection:
    """Candidates compared on the same withheld rays.

    The best score is the largest of several noisy numbers, so it is a little too good. Where the
    rays do not tell it from others, the winner is among these the candidate that differs from the
    shipped settings in the fewest: those were chosen on scans whose truth was known.

    Attributes:
        scores: in the order in which the candidates were given; at least one with a result.
        fits: number of the fit behind each; equal numbers share one.
        departures: of each, how many settings differ from the shipped ones.
        views: the view of every withheld ray, (h,).
    """

    scores: tuple[Score, ...]
    fits: tuple[int, ...]
    departures: tuple[int, ...]
    views: Tensor

    @property
    def best(self) -> Score:
        """The candidate of the largest held-out score."""
        return max(self.scores, key=lambda score: score.mean)

    @property
    def equals(self) -> tuple[Score, ...]:
        """The best score and those that it does not beat beyond its error, the largest first."""
        able = (score for score in self.scores if score.failure is None)
        close = (s for s in able if s is self.best or not self.margin(s).decides)
        return tuple(sorted(close, key=lambda score: score.mean, reverse=True))

    @property
    def winner(self) -> Score:
        """Of :attr:`equals` the one nearest to the shipped settings; of several the best."""
        departures = dict(zip(map(id, self.scores), self.departures, strict=True))
        return min(self.equals, key=lambda score: departures[id(score)])

    def margin(self, score: Score) -> Margin:
        """By how much the best score beats that of a candidate that has a result.

        Neighbouring rays err together, so whole views are what is repeated: with ``D_v`` the sum
        over the n_v rays of view v of the difference d, ``d̄ = Σ D_v / n`` and ``se² =
        V/(V-1) Σ_v (D_v - n_v d̄)² / n²`` (the linearised variance of a ratio; Cochran 1977, §6).
        It decides beyond Student's t of V - 1 degrees of freedom at 95 % for all comparisons with
        the best score together (Bonferroni).
        """
        difference = self.best.held_out - score.held_out
        views, place = self.views.unique(return_inverse=True)
        count, mean = len(views), float(difference.mean())
        if count < 2:
            return Margin(mean, math.inf if mean else 0.0, math.inf)
        rest = torch.zeros(count, dtype=torch.float64).index_add(0, place, difference - mean)
        variance = float(rest.square().sum()) * count / (count - 1) / len(difference) ** 2
        comparisons = max(sum(score.failure is None for score in self.scores) - 1, 1)
        return Margin(mean, math.sqrt(variance), quantile_of(count, comparisons))

    @property
    def sentence(self) -> str:
        """The verdict, and what the winner's own fit is warned of: the best may still be poor."""
        doubts = [s.removeprefix(WARNING) for s in self.winner.assumptions if s.startswith(WARNING)]
        return " ".join([
            self.verdict, *(f"{WARNING}{self.winner.name}: {doubt}." for doubt in doubts)
        ])  # fmt: skip

    @property
    def verdict(self) -> str:
        """The winner and the margin, or that the difference is within its error."""
        others = [s for s in self.scores if s.failure is None and s is not self.best]
        if not others:
            return f"{self.winner.name} is the only candidate with a result."
        if len(self.equals) == 1:
            second = max(others, key=lambda score: score.mean)
            margin = f"by {self.margin(second)} nats a ray over {second.name}"
            return f"{self.winner.name} foretells the withheld rays best, {margin}."
        margin, views = self.margin(self.equals[1]), len(self.views.unique())
        chance = f"with {views} withheld views a lead below {margin.quantile:.1f} standard errors"
        if views < 2:
            chance = "with a single withheld view any lead"
        near = "leads" if self.winner is self.best else "is nearest to the shipped settings"
        said = (
            f"undecided: {self.best.name} leads by {margin} nats a ray over "
            f"{self.equals[1].name}, and {chance} may be chance; of those not told apart "
            f"({', '.join(s.name for s in self.equals)}) the winner is {self.winner.name}, "
            f"which {near}"
        )
        fastest, next_fastest = sorted(self.equals, key=lambda score: score.seconds)[:2]
        if fastest.seconds < CLEARLY_FASTER * next_fastest.seconds:
            said += f"; {fastest.name} is the fastest of them"
        return f"{said}."

    def table(self) -> str:
        """One line a candidate, the best first, and what the columns mean."""
        ranked = sorted(
            zip(self.scores, self.fits, strict=True), key=lambda pair: pair[0].mean, reverse=True
        )
        rows = [HEADINGS, *(self._row(score, fit) for score, fit in ranked)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        lines = []
        for name, *numbers in rows:
            cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
            mark = "  winner" if name == self.winner.name else ""
            lines.append("  ".join([name.ljust(widths[0]), *cells]).rstrip() + mark)
        failed = [f"{s.name}: {s.sentence}" for s in self.scores if s.failure is not None]
        return "\n".join([*lines, *failed, LEGEND])

    def _row(self, score: Score, fit: int) -> tuple[str, ...]:
        if score.failure is not None:
            return (score.name, "–", "no result", "–", "–", str(fit), "–")
        margin = "best" if score is self.best else str(self.margin(score))
        numbers = (score.conditional_evidence, score.log_evidence)
        return (
            score.name, f"{score.mean:.3f}", margin, *(f"{n:.3f}" for n in numbers), str(fit),
            f"{score.seconds:.1f}",
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Everything ``select.json`` holds."""
        return {
            "winner": self.winner.name,
            "sentence": self.sentence,
            "best": self.best.name,
            "undecided": [s.name for s in self.equals] if len(self.equals) > 1 else [],
            "withheld_rays": len(self.views),
            "views": len(self.views.unique()),
            "candidates": [
                {
                    "name": score.name,
                    "held_out_score": score.mean,
                    **self._margin_record(score),
                    "conditional_evidence_per_ray": score.conditional_evidence,
                    "log_evidence_per_fitted_ray": score.log_evidence,
                    "fit": fit,
                    "seconds": score.seconds,
                    "stop_reason": score.stop_reason,
                    "assumptions": list(score.assumptions),
                    "failure": score.failure,
                }
                for score, fit in zip(self.scores, self.fits, strict=True)
            ],
        }

    def _margin_record(self, score: Score) -> dict[str, float | None]:
        margin = None if score.failure is not None else self.margin(score)
        return {
            "margin": None if margin is None else margin.mean,
            "margin_standard_error": None if margin is None else margin.standard_error,
        }
