"""Which settings suit a scan, judged by rays that no fit has seen: no ground truth is needed.

Every candidate goes through all stages on the same rays ``y_f`` and is then asked for the others,
``y_h``: a fifth of the views, evenly spread, or 15 % of the rays at random where views are fewer
than ten (rays of a view that was seen tell less: their neighbours foretell them). Three numbers,
each in nats a ray, higher is better:

- **held-out score**, the mean of ``log N(y_i; (A x*)_i, (A Cov Aᵀ)_ii + σ²/w_i)`` over withheld
  rays: the predictive density of what is shipped, image and error bars. It decides; where it does
  not tell candidates apart, the one nearest to the shipped settings is taken.
- **conditional evidence** ``log p(y_h | y_f)`` of the linear model, the rays jointly and the
  image its own optimum, mean over restarts.
- **evidence** ``log p(y_f)`` of the linear model (:class:`~pdip.Profile`), mean over restarts.

The first two are normalised densities of data that neither weights nor hyperparameters have seen,
so they compare any two candidates. The evidence is a density of ``y_f`` for a Jacobian that does
not depend on ``y_f``, but J was learned from it: the evidence compares candidates that share a fit
(priors, hyperpriors, objectives) and between fits rewards the one that followed the noise further.
The objective :class:`~pdip.NetworkWeights` compares nothing but hyperparameters: its quadratic form
stands at the network's weights in place of the linear model's optimum, which makes it a lower bound
of the evidence, by a gap that grows with number and scale of the weights. It is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pdip.check_design import CheckDesign
from pdip.checkpoints import Checkpoints
from pdip.errors import ComputationError, InputError, OutputError
from pdip.kept import (
    FIT_SECTIONS,
    Borrowing,
    Kept,
    departures,
    fit_but_for_steps,
    identity,
    steps_of,
)
from pdip.pipeline import reconstruct
from pdip.predictive import conditional_evidence, log_predictive, profile_evidence
from pdip.report.words import WARNING
from pdip.scan import Scan
from pdip.selection_result import Score, Selection
from pdip.settings import Settings
from pdip.stages import Observer
from pdip.withholding import random_rays, used_rays, without_rays

SEED_OFFSET = 2**31
"""Keeps these withheld rays apart from those that a fit of the same seed withholds for itself."""


def select(
    scan: Scan,
    candidates: Mapping[str, Settings | Mapping[str, Mapping]],
    *,
    seed: int = 0,
    observer: Observer | None = None,
    kept: Kept | None = None,
) -> Selection:
    """Compare settings on rays withheld from all of them, without ground truth.

    Args:
        scan: what was measured.
        candidates: at least two settings by name.
        seed: of the draw of the withheld rays, where no whole views are withheld.
        observer: is told of every candidate as of a stage.
        kept: what it holds is not computed again.

    Returns:
        the scores, the winner, and by how much it wins. A candidate without an honest result
        has no score and says why.

    Raises:
        InputError: fewer than two candidates, two that are the same, or one that cannot be used.
        ComputationError: no candidate has a result.

    Example:
        >>> from pdip.scan import ImageGrid, ParallelBeam, shepp_logan, simulate
        >>> from pdip import ray_transform
        >>> ray = ray_transform(ParallelBeam([0.0, 45.0, 90.0, 135.0], 12), ImageGrid((8, 8)))
        >>> scan = simulate(shepp_logan(ray.grid), ray, noise_fraction=0.05,
        ...                 generator=torch.Generator().manual_seed(0))
        >>> brief = {"max_steps": 5, "restarts": 1, "noise_std": 0.1}
        >>> found = select(scan, {"narrow": {"network": {"scales": 2, "channels": 2}, "dip": brief},
        ...                       "wide": {"network": {"scales": 2, "channels": 4}, "dip": brief}})
        >>> found.margin(found.winner).mean
        0.0
    """
    settings = checked(candidates)
    observer, kept = observer or Observer(), kept or Kept()
    held_out = withheld_from_all(scan, seed)
    if not held_out.any():
        raise InputError(
            f"expected rays enough to withhold some of them, got {scan.sinogram.numel()}; compare "
            "settings on a larger scan"
        )
    kept.prepare(settings.values())
    comparison = _Comparison(scan, held_out, observer, kept)
    # Longer fits go on from shorter ones; otherwise the order stays.
    rising = sorted(settings.items(), key=lambda item: steps_of(item[1]))
    scores = {name: comparison.score(name, candidate) for name, candidate in rising}
    ordered = tuple(scores[name] for name in settings)
    if all(score.failure is not None for score in ordered):
        first = ordered[0]
        raise ComputationError(f"no candidate has a result; {first.name}: {first.failure}")
    shared = [identity(candidate, FIT_SECTIONS) for candidate in settings.values()]
    number = {name: place for place, name in enumerate(dict.fromkeys(shared), 1)}
    return Selection(
        scores=ordered,
        fits=tuple(number[name] for name in shared),
        departures=tuple(map(departures, settings.values())),
        views=held_out.nonzero()[:, 0].cpu(),
    )


class _Comparison:
    """Scores candidates one after another; a fit that several share is made once.

    Args:
        scan, held_out, observer, kept: of :func:`select`.
    """

    def __init__(self, scan: Scan, held_out: Tensor, observer: Observer, kept: Kept) -> None:
        self._scan, self._held_out = scan, held_out
        self._observer, self._kept = observer, kept
        self._lenders: dict[str, Checkpoints] = {}
        self._fit_seconds: dict[str, dict[int, float]] = {}
        self._said: set[str] = set()

    def score(self, name: str, candidate: Settings) -> Score:
        """The score of a candidate, kept or new.

        Raises:
            InputError: it cannot be used.
        """
        self._observer.started(name)
        place = self._kept.checkpoints(candidate)
        lender = self._lenders.setdefault(identity(candidate, FIT_SECTIONS), place)
        score = self._kept.recall(candidate)
        if score is None:
            place = place if lender is place else Borrowing(place, lender)
            told = Told(self._observer, name, self._said)
            try:
                score = score_of(self._scan, self._held_out, candidate, told, place)
            except InputError as error:
                self._kept.forget(candidate)
                raise InputError(f"candidate {name!r}: {error}") from None
            score = self._with_shorter_fits(candidate, score)
            self._kept.keep(candidate, score)
        score = replace(score, name=name)
        self._observer.finished(name, score.sentence)
        return score

    def _with_shorter_fits(self, candidate: Settings, score: Score) -> Score:
        """The score with the seconds of the fits that this one went on from."""
        if score.failure is not None:
            return score
        spent = self._fit_seconds.setdefault(fit_but_for_steps(candidate), {})
        steps = steps_of(candidate)
        shorter = sum(seconds for end, seconds in spent.items() if end < steps)
        spent[steps] = score.fit_seconds
        return replace(score, seconds=score.seconds + shorter)


def withheld_from_all(scan: Scan, seed: int) -> Tensor:
    """The rays that no candidate sees, (views, detectors) bool: views where there are enough."""
    if withheld_kind(scan) == "views":
        return CheckDesign().withheld(scan)
    return random_rays(scan, seed + SEED_OFFSET) & used_rays(scan)


def withheld_kind(scan: Scan) -> str:
    """Whether whole "views" are withheld from the candidates, or single "rays"."""
    return CheckDesign().kind(scan)


def score_of(scan: Scan, held_out: Tensor, settings, observer, checkpoints) -> Score:
    """How well one candidate foretells the rays ``held_out``, (views, detectors) bool."""
    partial = without_rays(scan, held_out)
    try:
        result = reconstruct(partial, settings, observer=observer, checkpoints=checkpoints)
        joint = conditional_evidence(result, scan, held_out)
        evidence = profile_evidence(result, partial)
        foretold = log_predictive(result, scan, held_out)
    except OutputError:
        raise
    except ComputationError as error:
        return Score("", torch.zeros(0).double(), failure=str(error))
    num_fitted = int(used_rays(partial).sum())
    return Score(
        name="",
        held_out=foretold.cpu(),
        conditional_evidence=joint / len(foretold),
        log_evidence=evidence / num_fitted,
        seconds=sum(cost.seconds for cost in result.stages.values()),
        fit_seconds=result.stages["fit"].seconds,
        stop_reason=result.fit.stop_reason,
        assumptions=result.assumptions,
    )


def checked(candidates: Mapping[str, Settings | Mapping]) -> dict[str, Settings]:
    """The candidates as settings.

    Raises:
        InputError: fewer than two, two that are the same, or one with a key or value amiss.
    """
    settings, names = {}, {}
    for name, given in candidates.items():
        try:
            settings[name] = given if isinstance(given, Settings) else Settings.of(given)
        except InputError as error:
            raise InputError(f"candidate {name!r}: {error}") from None
        twin = names.setdefault(identity(settings[name]), name)
        if twin != name:
            raise InputError(f"candidates {twin!r} and {name!r} are the same; leave one out.")
    if len(settings) < 2:
        raise InputError(f"expected at least two candidates to compare, got {len(settings)}.")
    return settings


class Told(Observer):
    """Passes on the progress of a candidate's stages and, once each, what was assumed.

    Args:
        observer: is told.
        name: of the candidate, which stands in its warnings.
        said: what was assumed of candidates before.
    """

    def __init__(self, observer: Observer, name: str, said: set[str]) -> None:
        self._observer, self._name, self._said = observer, name, said

    def progress(self, step: int, total: int, text: str) -> None:
        self._observer.progress(step, total, text)

    def assumed(self, sentence: str) -> None:
        if sentence.startswith(WARNING):
            sentence = f"{WARNING}{self._name}: {sentence.removeprefix(WARNING)}"
        if sentence not in self._said:
            self._said.add(sentence)
            self._observer.assumed(sentence)
