"""``report.html``: all that a run found in one page that needs no other file and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from markupsafe import Markup

from pdip.calibration.intervals import half_width
from pdip.report import page_tables as tables
from pdip.report import words
from pdip.report.drawings import SHOWN_SPAN, draw_geometry, draw_histories
from pdip.report.page_frame import duration, embedded, rendered, shared, viewed
from pdip.report.page_viewer import image_viewer, ray_viewer
from pdip.report.words import number
from pdip.scan import FanBeam, ImageGrid, ParallelBeam


@dataclass(frozen=True)
class RunContents:
    """What the folder of a finished run holds, read back.

    Attributes:
        title: what the page is called, such as the name of the scan's file.
        image, std: (height, width), 1/mm.
        grid: of the image.
        geometry: of the scan.
        residual: y - A x, (views, detectors); NaN for rays that are not used.
        ray_noise_std: ``σ / sqrt(W)``, as ``residual``; infinite for rays that are not used.
        truth: (height, width), 1/mm, or None.
        recalibrated: std by the calibration check, or None.
        summary: the ``summary.json``.
        settings: the ``settings.yaml``.
        fits: history of the fit of each restart: ``step`` and what was followed.
        searches: objective at every evaluation of the search of each restart.
        parts: what the last digits of each part of the run depend on.
        calibration: the PNG of the check, or None.
        axis: the PNG of the estimated rotation axis, or None.
        above: link to the page of the stack that this is a slice of, or empty.
    """

    title: str
    image: np.ndarray
    std: np.ndarray
    grid: ImageGrid
    geometry: ParallelBeam | FanBeam
    residual: np.ndarray
    ray_noise_std: np.ndarray
    truth: np.ndarray | None
    recalibrated: np.ndarray | None
    summary: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    fits: Sequence[Mapping[str, Sequence[float]]]
    searches: Sequence[Sequence[float]]
    parts: Sequence[Mapping[str, str]]
    calibration: bytes | None
    axis: bytes | None = None
    above: str = ""


def run_page(run: RunContents) -> str:
    """The page of a run of one scan, HTML."""
    summary = run.summary
    recalibrated = None if run.recalibrated is None else run.recalibrated[None]
    truth = None if run.truth is None else run.truth[None]
    images = image_viewer(run.image[None], run.std[None], truth, recalibrated)
    rays = ray_viewer(run.residual / run.ray_noise_std)
    arrays = {
        "image": run.image, "std": run.std, "truth": run.truth, "recalibrated": run.recalibrated,
        "signed_residual": run.residual, "ray_noise_std": run.ray_noise_std,
    }  # fmt: skip
    half, bounds_note = _bounds(summary)
    data = {
        **viewed((images, rays), arrays, run.grid),
        "half_width": half,
        "angles_deg": run.geometry.angles_deg,
    }
    evidence_head, evidence = tables.evidence_rows(summary)
    hyperparameter_head, hyperparameters = tables.hyperparameter_rows(summary)
    return rendered(
        "report.html.j2",
        data,
        **shared(run),
        above=run.above,
        what=words.scan_sentence(run.geometry, run.grid),
        certainty=words.certainty_sentence(run.image, run.std),
        facts=_facts(run),
        images=images,
        bounds_note=bounds_note,
        check=_check(run),
        scores=tables.score_rows(summary),
        rays=rays,
        residual_note=_residual_note(run),
        geometry_drawing=Markup(draw_geometry(run.geometry, run.grid)),
        geometry_note=words.geometry_sentence(run.geometry) + _shortened(run),
        geometry_rows=tables.geometry_rows(run.geometry, _binning(run)),
        certificate_note=_certificate_note(summary),
        certificates=tables.certificate_rows(summary),
        stops=[words.capital(restart["stop_reason"]) for restart in summary["restarts"]],
        fit_drawing=Markup(_fit_drawing(run)),
        evidence_note="The objective is the log evidence and the log density of the hyperprior; "
        "values far below the last ones are cut off. The table has the log evidence alone.",
        evidence_drawing=Markup(_evidence_drawing(run.searches)),
        evidence_head=evidence_head,
        evidence_rows=evidence,
        hyperparameter_head=hyperparameter_head,
        hyperparameters=hyperparameters,
        stages=tables.stage_rows(summary, ("peak_memory_mb", "peak_gpu_memory_mb")),
        plan_note=f"Before the search the plan foresaw {number(summary['plan']['seconds'], 2)} s "
        f"for network passes and algebra and at most "
        f"{number(summary['plan']['memory_mb'], 3)} MB for their matrices.",
    )


def _facts(run: RunContents) -> list[tuple[str, str]]:
    summary = run.summary
    used = np.isfinite(run.ray_noise_std)
    usual = float(np.median(run.ray_noise_std[used]))
    by_evidence = usual * summary["noise_std_by_evidence"] / summary["noise_std"]
    facts = [
        ("typical error bar", f"± {np.median(run.std):.2g} 1/mm"),
        ("typical noise std of a ray", number(usual, 3)),
        ("the same by the evidence", number(by_evidence, 3)),
        ("computing time", duration(summary)),
    ]
    if summary["psnr"] is not None:
        facts.insert(1, ("PSNR against the reference", f"{summary['psnr']:.2f} dB"))
    return facts


def _bounds(summary: Mapping[str, Any]) -> tuple[float, str]:
    """Half width of the 95 % bounds in std, and a sentence on what they are."""
    if summary.get("calibration"):
        rule = summary["calibration"]["recalibration"]["conformal"]
        if rule["quantile"] is not None and isfinite(rule["quantile"]):
            return rule["quantile"], (
                f"The bounds are {rule['quantile']:.3g} std from the image, as far as held "
                "95 % of the withheld rays."
            )
    return half_width(0.95), "The bounds are 1.96 std from the image, the 95 % of a Gaussian."


def _check(run: RunContents) -> dict[str, Any] | None:
    check = run.summary.get("calibration")
    if not check:
        return None
    head, rows = tables.check_rows(check)
    note = "In brackets: 95 % bands over views. Rays that test the error bars say nothing of what "
    return {
        "verdict": words.capital(check["verdict"]),
        "grounds": check["grounds"],
        "head": head,
        "rows": rows,
        "note": f"{note}no ray sees. Of the residual of the whole scan: "
        f"{check['whiteness']['verdict']}.",
        "picture": embedded(run.calibration),
    }


def _residual_note(run: RunContents) -> str:
    share = run.residual / run.ray_noise_std
    share = share[np.isfinite(share)]
    return (
        f"What the image does not explain of a ray is {np.sqrt(np.mean(share**2)):.2f} times the "
        "std of its noise, in the root mean square. Where only noise is left, this picture shows "
        "no pattern; lines and shadows in it mean a wrong geometry, dead pixels, or an image that "
        "misses something."
    )


def _binning(run: RunContents) -> int:
    """Elements of the file in each of the geometry's."""
    return run.settings.get("scan", {}).get("binning", 1)


def _shortened(run: RunContents) -> str:
    if not isinstance(run.geometry, FanBeam):
        return ""
    reach = max(run.geometry.source_origin_mm, run.geometry.origin_detector_mm)
    seen = run.geometry.inscribed_grid(1).size_mm[0] / np.sqrt(2)
    most = max(seen, np.hypot(*run.grid.size_mm) / 2)
    return " Source or detector is drawn nearer than it is." if reach > SHOWN_SPAN * most else ""


def _certificate_note(summary: Mapping[str, Any]) -> str:
    if summary["solver"]["converged"]:
        return (
            "Every linear system was solved to the residual below, and every search for "
            "hyperparameters ended at a maximum. What a solver leaves out widens the error bars."
        )
    return (
        "Not everything converged: what a solver left counts as unknown, and hyperparameters may "
        "not be the best ones."
    )


def _fit_drawing(run: RunContents) -> str:
    what = next(key for key in run.fits[0] if key != "step")
    level = None
    if what == "mean_squared_residual":
        level = run.summary["noise_std"] ** 2, "noise variance"
    return draw_histories(
        [(fit["step"], fit[what]) for fit in run.fits],
        xlabel="step", ylabel=what.replace("_", " "), level=level, logarithmic=True,
    )  # fmt: skip


def _evidence_drawing(searches: Sequence[Sequence[float]]) -> str:
    return draw_histories(
        [(range(1, len(values) + 1), values) for values in searches],
        xlabel="evaluation", ylabel="objective (nats)",
    )  # fmt: skip
