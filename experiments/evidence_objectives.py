"""Which evidence should choose the hyperparameters? Likelihood and coverage on many images.

    python experiments/evidence_objectives.py --images DIR/kmnist_test_0_49.npz --count 10

Every objective with the same fit, otherwise the shipped pipeline; only the conditional evidence
makes a fit of its own, without the rays that it withholds.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pdip
from pdip.checkpoints import GivenFit
from pdip.experiment import Case, Rows, save_figure
from pdip.experiment_command import experiment_parser, parsed, perform
from pdip.report.experiment_figures import OUTCOME, draw_series
from pdip.report.experiment_tables import markdown_table, posterior_scores
from pdip.settings import Settings

OBJECTIVES = {
    "network weights": {"objective": "network_weights", "hyperprior": "none"},
    "network weights + TV-PredCP": {"objective": "network_weights", "hyperprior": "tv_predcp"},
    "profile": {"objective": "profile", "hyperprior": "none"},
    "profile + TV-PredCP": {"objective": "profile", "hyperprior": "tv_predcp"},
    "conditional": {"objective": "conditional", "hyperprior": "none"},
    "linearised weights": {
        "objective": {"name": "linearised_weights", "steps": 500},
        "hyperprior": "none",
    },
}
TABLE = (*OUTCOME, "noise_std", "noise_std_by_evidence", "log_evidence", "seconds")


def with_objective(settings: Settings, name: str) -> Settings:
    """The settings with another evidence."""
    return replace(settings, evidence={**settings.evidence, **OBJECTIVES[name]})


def measured(case: Case, names: list[str], settings: Settings) -> Iterator[dict]:
    """The scores with each objective on one scan, from one fit."""
    scan, truth, ray = case.measure()
    fit = pdip.fit_dip(scan, ray, dict(settings.network), **settings.dip)
    for name in names:
        begun = time.perf_counter()
        chosen = with_objective(settings, name)
        try:
            result = pdip.reconstruct(scan, chosen, checkpoints=GivenFit(fit))
            scores = posterior_scores(result.posterior, truth)
        except pdip.ComputationError as error:
            yield {"failure": str(error)}
            continue
        yield scores | {
            "noise_std": fit.noise_std,
            "noise_std_by_evidence": result.noise_std_by_evidence,
            "log_evidence": result.log_evidence,
            "seconds": time.perf_counter() - begun,
        }


def main() -> None:
    parser = experiment_parser(__doc__, "evidence_objectives.jsonl", views=(5, 20), count=10)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES)
    options = parsed(parser)
    # The 500 steps of the last one take longer than all else of a tiny problem.
    chosen = options.objectives or list(OBJECTIVES)[: 5 if options.quick else None]
    rows, asked = Rows(options.out), []
    for case in options.cases:
        keys = {
            name: {
                **case.key,
                "objective": name,
                "settings": with_objective(options.settings, name).resolved(),
            }
            for name in chosen
        }
        asked += rows.complete(keys, partial(measured, case, settings=options.settings))
    print(markdown_table(asked, ("noise", "views", "objective"), TABLE))
    figure = draw_series(
        asked, x="views", series="objective", metrics=OUTCOME, references={"coverage_95": 0.95}
    )
    save_figure(figure, options.out)


if __name__ == "__main__":
    perform(main)
