"""The tables of a page, from the numbers that a run's folder holds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pdip.report.words import number, rotation_sense
from pdip.scan import FanBeam, ParallelBeam
from pdip.scan.binning import counted, file_index

SCORES = {
    "psnr": "PSNR (dB)", "ssim": "SSIM", "relative_l2": "relative l2 error",
    "coverage_95": "share of pixels inside their 95 % interval",
    "log_likelihood_per_pixel": "log-likelihood per pixel (nats)",
}  # fmt: skip
Rows = list[tuple]


def score_rows(summary: Mapping[str, Any]) -> Rows:
    """How the image compares with the reference; empty without one."""
    if summary.get("psnr") is None:
        return []
    return [(name, number(summary[key])) for key, name in SCORES.items()]


def geometry_rows(geometry: ParallelBeam | FanBeam, binning: int = 1) -> Rows:
    """The geometry in words and numbers; the axis counts the ``binning`` times more elements of
    the file."""
    angles, axis = geometry.angles_deg, file_index(geometry.cor, binning)
    rows = [
        ("beam", "fan, flat detector" if isinstance(geometry, FanBeam) else "parallel"),
        ("views", f"{geometry.num_views}, from {angles[0]:.6g}° to {angles[-1]:.6g}°"),
        ("rotation", rotation_sense(geometry)),
        ("detector elements", f"{geometry.num_detectors} of {geometry.detector_pitch_mm:.6g} mm"),
        ("centre of rotation", f"detector index {axis:.6g}{counted(binning)}, counted from 0"),
    ]
    if isinstance(geometry, FanBeam):
        rows += [
            ("source to axis", f"{geometry.source_origin_mm:.6g} mm"),
            ("axis to detector", f"{geometry.origin_detector_mm:.6g} mm"),
        ]
    return rows


def certificate_rows(summary: Mapping[str, Any]) -> Rows:
    """What was solved, and how well."""
    solver = summary["solver"]
    rows = [
        ("solver", solver["name"]),
        ("worst true relative residual of all solves", number(solver["worst_residual"], 2)),
        ("solves and searches converged", number(solver["converged"])),
    ]
    if solver["combinations"] is not None:
        rows += [
            ("combinations of rays that are conditioned on", number(solver["combinations"])),
            ("signal left outside, noise variances a ray", number(solver["left_outside"], 2)),
        ]
    samples = summary["std_samples"]
    rows.append(
        ("standard deviation", "exact" if samples is None else f"from {samples} posterior samples")
    )
    return rows


def evidence_rows(summary: Mapping[str, Any]) -> tuple[list[str], Rows]:
    """How the search for hyperparameters of each restart ended: heads and rows."""
    head = ["restart", "log evidence (nats)", "standard error", "largest gradient", "evaluations"]
    keys = ("log_evidence", "log_evidence_standard_error", "gradient_norm", "evaluations")
    rows = [
        (str(place), *(number(restart[key], 5 if key == keys[0] else 2) for key in keys))
        for place, restart in enumerate(summary["restarts"], 1)
    ]
    return head, rows


def hyperparameter_rows(summary: Mapping[str, Any]) -> tuple[list[str], Rows]:
    """The log of every hyperparameter and its value, each restart in a column."""
    restarts = [restart["hyperparameters"] for restart in summary["restarts"]]
    several = len(restarts) > 1
    columns = [f", restart {place}" if several else "" for place in range(1, len(restarts) + 1)]
    head = ["name", *(f"{what}{c}" for c in columns for what in ("log", "value"))]
    rows = []
    for name in dict.fromkeys(key for restart in restarts for key in restart):
        values = [restart.get(name) for restart in restarts]
        told = [(number(v), number(None if v is None else math.exp(v), 3)) for v in values]
        rows.append((name, *(text for pair in told for text in pair)))
    return head, rows


def stage_rows(summary: Mapping[str, Any], memory: Sequence[str]) -> Rows:
    """Seconds and memory of each stage, and the seconds of all."""
    rows = [
        (name, f"{cost['seconds']:.1f}", *(number(cost.get(key), 6) for key in memory))
        for name, cost in summary["stages"].items()
    ]
    total = sum(cost["seconds"] for cost in summary["stages"].values())
    return [*rows, ("all", f"{total:.1f}", *("" for _ in memory))]


def setting_rows(settings: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Every key of every section with its value."""
    return [
        (f"{section}.{key}", number(value, 6) if not isinstance(value, Mapping) else str(value))
        for section, keys in settings.items()
        for key, value in keys.items()
    ]


def file_rows(summary: Mapping[str, Any]) -> Rows:
    """Which files the run was made from."""
    return [(key, str(value)) for key, value in summary["source"].items() if value is not None]


def version_rows(summary: Mapping[str, Any], parts: Sequence[Mapping[str, str]]) -> Rows:
    """Versions, and what else the last digits depend on; a resumed run has several parts."""
    rows = [(name, number(value)) for name, value in summary["versions"].items()]
    known = {name for name, _ in rows}
    for place, part in enumerate(parts, 1):
        where = f" (part {place})" if len(parts) > 1 else ""
        rows += [(f"{key}{where}", value) for key, value in part.items() if key not in known]
    return rows


def check_rows(check: Mapping[str, Any]) -> tuple[list[str], Rows]:
    """What the withheld rays say, beside what noise alone would have predicted."""
    held_out = check["held_out"]
    kinds = {"predicted": "with the image's std", "noise_only": "noise alone"}
    found = {kind: held_out[kind] for kind in kinds}
    head = [f"{held_out['num_rays']} withheld rays of {held_out['num_views']} views",
            *kinds.values(), "if right"]  # fmt: skip
    rows = [
        (f"inside their {100 * float(level):g} % interval (%)",
         *(_banded(part["coverage"][level], 100) for part in found.values()),
         f"{100 * float(level):g}")
        for level in found["predicted"]["coverage"]
    ]  # fmt: skip
    rows.append(
        ("reduced χ²", *(_banded(part["chi_squared"]) for part in found.values()), "1")
    )  # fmt: skip
    return head, rows


def _banded(one: Mapping[str, Any], scale: float = 1.0) -> str:
    value, low, high = (one.get(key) for key in ("value", "low", "high"))
    text = number(None if value is None else float(scale * value), 3)
    if low is None or high is None:
        return text
    return f"{text} ({scale * low:.3g} to {scale * high:.3g})"
