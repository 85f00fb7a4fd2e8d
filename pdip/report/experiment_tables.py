"""Tables of experiments: scores of a posterior, mean ± standard error over images."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from pdip.calibration import evaluate
from pdip.posterior import ImagePosterior
from pdip.typing import Image

NUM_SAMPLES = 512
"""Draws for the scores of ensembles."""


def posterior_scores(posterior: ImagePosterior, truth: Image) -> dict[str, float]:
    """All scores of a posterior of a small image against the truth that are one number, by name.

    Nested scores are named ``nll_per_pixel.joint``; ``log_likelihood_per_pixel``, in nats, is the
    negative of that one.

    Args:
        posterior: of at most 1 600 pixels; its ``image`` is the centre.
        truth: (height, width).

    Raises:
        ComputationError: the covariance is not positive definite.
    """
    scores = flat(_evaluated(posterior, truth))
    found = {name: score for name, score in scores.items() if not isinstance(score, (str, list))}
    return found | {"log_likelihood_per_pixel": -found["nll_per_pixel.joint"]}


def _evaluated(posterior: ImagePosterior, truth: Image) -> dict[str, Any]:
    draws = posterior.sample(NUM_SAMPLES, generator=torch.Generator().manual_seed(0))
    return evaluate(
        posterior.image,
        posterior.std(),
        truth,
        covariance=posterior.covariance(),
        samples=draws,
    ).as_dict()


def flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping with names joined by dots.

    Example:
        >>> flat({"a": 1, "b": {"c": 2}})
        {'a': 1, 'b.c': 2}
    """
    found = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{inner}": number for inner, number in flat(value).items()}
        else:
            found[key] = value
    return found


def mean_and_error(values: Iterable[float | None]) -> tuple[float, float]:
    """Mean and its standard error ``√(Σ(v - v̄)² / (n (n - 1)))``; missing values are left out.

    Returns:
        NaN for the mean of nothing, and for the error of fewer than two.

    Example:
        >>> mean_and_error([1.0, 3.0, None])
        (2.0, 1.0)
    """
    known = [value for value in values if value is not None]
    if not known:
        return math.nan, math.nan
    mean = math.fsum(known) / len(known)
    if len(known) < 2:
        return mean, math.nan
    spread = math.fsum((value - mean) ** 2 for value in known)
    return mean, math.sqrt(spread / (len(known) * (len(known) - 1)))


def grouped(
    rows: Iterable[Mapping[str, Any]], by: Sequence[str]
) -> dict[tuple, list[Mapping[str, Any]]]:
    """Rows with equal values of ``by`` together, in the order of their first appearance."""
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    return groups


def markdown_table(
    rows: Iterable[Mapping[str, Any]], by: Sequence[str], metrics: Sequence[str]
) -> str:
    """Mean ± standard error of every metric over the rows with equal values of ``by``.

    ``rows`` counts those with a result; of the others, whose ``failure`` says why there is none,
    the number follows after a plus.
    """
    lines = []
    for values, group in grouped(rows, by).items():
        cells = (cell_of([row.get(metric) for row in done(group)]) for metric in metrics)
        lines.append([*values, count_of(group), *cells])
    return markdown([*by, "rows", *metrics], lines)


def markdown(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A Markdown table of any cells.

    Example:
        >>> print(markdown(["views", "error"], [[5, 0.1]]))
        | views | error |
        |---|---|
        | 5 | 0.1 |
    """
    cells = (" | ".join(map(str, line)) for line in (heads, *lines))
    head, *body = (f"| {line} |" for line in cells)
    return "\n".join([head, "|---" * len(heads) + "|", *body])


def done(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that have a result."""
    return [row for row in rows if "failure" not in row]


def count_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many rows have a result, and after a plus how many have none."""
    failed = len(rows) - len(done(rows))
    return f"{len(rows) - failed}" + (f" + {failed} failed" if failed else "")


def cell_of(values: Iterable[float | None]) -> str:
    """Mean ± standard error as a cell of a table; a dash for nothing."""
    mean, error = mean_and_error(values)
    if math.isnan(mean):
        return "–"
    return f"{mean:.3g}" if math.isnan(error) else f"{mean:.4g} ± {error:.2g}"
