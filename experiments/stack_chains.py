"""What does it cost and save to begin a slice's fit from the weights of the slice before it?

Slice k of a simulated stack is (1 - s k) a + s k b, two ellipse phantoms; each slice is fitted anew
and in a chain, with the evidence and posterior that the pipeline uses. One row for each slice, and
a figure of them; a slice that is missing in a chain needs those before it once more.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pdip
from pdip.experiment import QUICK, Rows, parallel_rays, save_figure, seeded
from pdip.experiment_command import command_line, out_path, parsed_or_quick, perform, positive
from pdip.report.experiment_figures import draw_series
from pdip.scan import ellipses
from pdip.settings import Settings

METRICS = {
    "most_steps": "steps of the longest restart",
    "psnr": "PSNR (dB)",
    "log_likelihood_per_pixel": "joint log-likelihood (nats / pixel)",
    "coverage_95": "coverage of the 95 % interval",
}


def stack(size: int, views: int, count: int, step: float) -> tuple[list, list]:
    ray = parallel_rays(size, views)
    a, b = ellipses(ray.grid, seeded(1)), ellipses(ray.grid, seeded(2))
    truths = [(1 - step * k) * a + step * k * b for k in range(count)]
    scans = [
        pdip.simulate(truth, ray, noise_fraction=0.05, generator=seeded(10 + k))
        for k, truth in enumerate(truths)
    ]
    return scans, truths


def measured(
    way: str, scans: list, truths: list, settings: Settings, numbers: list[int]
) -> Iterator[dict]:
    """Cost and scores of these slices, each fitted anew or from the weights of the one before."""
    before = None
    for k in numbers if way == "anew" else range(max(numbers) + 1):
        result = pdip.reconstruct(scans[k], settings, before=before)
        posterior, fit, std, truth = result.posterior, result.fit, result.std, truths[k]
        before = fit if way == "chain" else None
        steps = [restart.history["step"][-1] for restart in fit.restarts]
        if k in numbers:
            yield {
                "steps": steps,
                "most_steps": max(steps),
                "fit_seconds": round(result.stages["fit"].seconds, 1),
                "psnr": pdip.psnr(posterior.image, truth),
                "log_likelihood_per_pixel": float(posterior.log_prob(truth)) / truth.numel(),
                "coverage_95": pdip.coverage(posterior.image, std, truth),
                "mean_std": float(std.mean()),
            }


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--size", type=positive, default=32)
    parser.add_argument("--views", type=positive, default=20)
    parser.add_argument("--slices", type=positive, default=5)
    parser.add_argument("--step", type=float, default=0.06)
    parser.add_argument("--restarts", type=positive)
    parser.add_argument("--start")
    parser.add_argument("--out", type=Path, help="default: runs/stack_chains.jsonl")
    given = parsed_or_quick(parser, {"size": 8, "views": 4, "slices": 2})
    given.out = given.out or out_path("stack_chains.jsonl", given.quick)
    chosen = QUICK if given.quick else {"dip": {"restarts": given.restarts, "start": given.start}}
    settings = Settings.of(chosen)
    scans, truths = stack(given.size, given.views, given.slices, given.step)
    setting = {name: getattr(given, name) for name in ("size", "views", "step")}
    setting["settings"] = settings.resolved()
    rows, asked = Rows(given.out), []
    for way in ("anew", "chain"):
        keys = {k: setting | {"way": way, "slice": k} for k in range(given.slices)}
        asked += rows.complete(keys, partial(measured, way, scans, truths, settings))
    save_figure(draw_series(asked, x="slice", series="way", metrics=METRICS), given.out)


if __name__ == "__main__":
    perform(main)
