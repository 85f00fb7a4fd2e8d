"""Do the iterative solvers find the hyperparameters that exact algebra finds?

    python experiments/hyperparameters_exact_vs_iterative.py --images DIR/kmnist_test_0_49.npz

One fit; each solver searches the hyperparameters from the same start and renews the slopes as
the pipeline does. `--rank` bounds what the projection keeps, to see where it begins to matter.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pdip
from pdip.experiment import Case, Rows, save_figure, settled
from pdip.experiment_command import experiment_parser, parsed, perform, positive
from pdip.report.experiment_figures import draw_pairs
from pdip.report.experiment_tables import markdown_table
from pdip.settings import Settings
from pdip.solvers import Solver

TABLE = (
    "log_evidence", "standard_error", "worst_residual", "converged", "evaluations", "seconds",
)  # fmt: skip
QUICK_EVIDENCE = {"max_evaluations": 300}
"""Enough for every solver to converge on the tiny problem: what does not cannot be compared."""


def measured(
    case: Case, names: list[str], solvers: dict[str, Solver], settings: Settings
) -> Iterator[dict]:
    """What each solver finds for the first restart of one fit."""
    scan, _, ray = case.measure()
    fit = pdip.fit_dip(scan, ray, dict(settings.network), **settings.dip | {"restarts": 1})
    model = pdip.linearise(fit, ray, pdip.unet_prior(fit.network))
    for name in names:
        begun = time.perf_counter()
        try:
            found = settled(model, scan, solver=solvers[name], **settings.evidence)
        except pdip.ComputationError as error:
            yield {"failure": str(error)}
            continue
        yield {
            "names": found.model.names,
            "log_hyperparameters": found.model.log_hyperparameters.tolist(),
            "log_evidence": found.log_evidence,
            "standard_error": found.standard_error,
            "worst_residual": found.worst_residual,
            "converged": found.converged,
            "evaluations": found.num_evaluations,
            "seconds": time.perf_counter() - begun,
        }


def pairs(rows: list[dict]) -> list[dict]:
    """One row for each hyperparameter of a case, with the value of every solver."""
    if any("failure" in row for row in rows):
        return []
    values = zip(*(row["log_hyperparameters"] for row in rows), strict=True)
    solvers = [row["solver"] for row in rows]
    return [
        {"kind": name.rpartition(".")[2].removeprefix("log_").replace("_", " ")}
        | dict(zip(solvers, found, strict=True))
        for name, found in zip(rows[0]["names"], values, strict=True)
    ]


def main() -> None:
    parser = experiment_parser(
        __doc__, "hyperparameters_exact_vs_iterative.jsonl", views=(20,), count=1
    )
    parser.add_argument("--rank", type=positive, help="of the projection; default: by the data")
    options = parsed(parser)
    if options.quick:
        options.settings = replace(options.settings, evidence=QUICK_EVIDENCE)
    projected = pdip.Projected(rank=options.rank)
    solvers = {
        "cholesky": pdip.Cholesky(),
        "projected": projected,
        "cg": pdip.CG(preconditioner=projected),
    }
    rows, asked, points = Rows(options.out), [], []
    for case in options.cases:
        shared = {**case.key, "rank": options.rank, "settings": options.settings.resolved()}
        keys = {name: shared | {"solver": name} for name in solvers}
        measure = partial(measured, case, solvers=solvers, settings=options.settings)
        found = rows.complete(keys, measure)
        asked += found
        points += pairs(found)
    print(markdown_table(asked, ("views", "noise", "solver"), TABLE))
    titles = {"projected": "projected", "cg": "conjugate gradients"}
    figure = draw_pairs(
        points, x="cholesky", metrics=titles, series="kind", label="log hyperparameter"
    )
    save_figure(figure, options.out)


if __name__ == "__main__":
    perform(main)
