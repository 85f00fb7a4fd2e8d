"""Is the noise level estimated rightly, and do the error bars follow it?

    python experiments/noise_levels.py --images DIR/kmnist_test_0_49.npz --views 5 20 --count 4

The shipped pipeline on scans with 1 to 20 % noise: the std that the fit estimates and the one
that the evidence settles on, over the true one, with coverage and likelihood of the truth.
"""

import time
from collections.abc import Iterator
from functools import partial

import pdip
from pdip.experiment import Case, Rows, save_figure
from pdip.experiment_command import experiment_parser, parsed, perform
from pdip.report.experiment_figures import draw_series
from pdip.report.experiment_tables import markdown_table, posterior_scores
from pdip.settings import Settings

METRICS = {
    "estimated_over_true": "noise std: estimated / true",
    "evidence_over_true": "noise std: by evidence / true",
    "coverage_95": "coverage of the 95 % interval",
}
TABLE = (*METRICS, "psnr", "log_likelihood_per_pixel", "seconds")


def measured(case: Case, names: list[str], settings: Settings) -> Iterator[dict]:
    """What the pipeline finds on one scan."""
    scan, truth, ray = case.measure()
    noise_std = case.noise * float(ray.forward(truth).abs().mean())
    begun = time.perf_counter()
    try:
        result = pdip.reconstruct(scan, settings)
        scores = posterior_scores(result.posterior, truth)
    except pdip.ComputationError as error:
        yield {"failure": str(error)}
        return
    yield scores | {
        "estimated_over_true": result.fit.noise_std / noise_std if noise_std else None,
        "evidence_over_true": result.noise_std_by_evidence / noise_std if noise_std else None,
        "seconds": time.perf_counter() - begun,
    }


def main() -> None:
    noise = (0.01, 0.02, 0.05, 0.1, 0.2)
    options = parsed(
        experiment_parser(__doc__, "noise_levels.jsonl", views=(5, 20), noise=noise, count=4)
    )
    rows, asked = Rows(options.out), []
    for case in options.cases:
        keys = {"pdip": {**case.key, "settings": options.settings.resolved()}}
        asked += rows.complete(keys, partial(measured, case, settings=options.settings))
    print(markdown_table(asked, ("views", "noise"), TABLE))
    ideal = {"estimated_over_true": 1.0, "evidence_over_true": 1.0, "coverage_95": 0.95}
    figure = draw_series(asked, x="noise", series="views", metrics=METRICS, references=ideal)
    save_figure(figure, options.out)


if __name__ == "__main__":
    perform(main)
