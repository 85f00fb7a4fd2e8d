"""The field's main table: how well does each method's error bar fit the truth?

    python experiments/kmnist_calibration.py --images FILE.npz --views 20 --methods pdip mc_dropout

Parallel beam, noise 5 and 10 % of mean|A x|, random rectangles without `--images`. `pdip` is the
shipped pipeline; every baseline is given the same scan and fit. Each image, setting and method is
one line of `--out`, not computed again; one without an honest result is a line with its reason.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from functools import partial

import pdip
from pdip.baselines import BASELINES, Baseline
from pdip.checkpoints import GivenFit
from pdip.experiment import Case, Rows, save_figure
from pdip.experiment_command import experiment_parser, parsed, perform, whole
from pdip.report.experiment_figures import OUTCOME, draw_series
from pdip.report.experiment_tables import markdown_table, posterior_scores
from pdip.settings import Settings, plain

TABLE = (
    "psnr", "ssim", "log_likelihood_per_pixel", "nll_per_pixel.patch_1", "coverage_95", "crps",
    "energy_score", "miscalibration_area", "ence", "ause", "sharpness", "seconds",
)  # fmt: skip

QUICK = {
    "max_steps": 20, "num_steps": 20, "burn_in": 4, "thinning": 2, "num_samples": 40, "members": 2,
}  # fmt: skip
"""Settings that baselines have in the quick form, as far as they know them."""
Methods = dict[str, Baseline | Settings]


def methods_of(names: list[str], settings: Settings, quick: bool) -> Methods:
    """The baselines by name, and the settings of the pipeline for ``pdip``."""
    found: Methods = {}
    for name in names:
        known = [field.name for field in fields(BASELINES[name])] if name != "pdip" else []
        brief = {key: value for key, value in QUICK.items() if quick and key in known}
        found[name] = settings if name == "pdip" else BASELINES[name](**brief)
    return found


def key_of(case: Case, name: str, method: Baseline | Settings, seed: int) -> dict:
    """What tells the row of a method from others; defaults that change make another row."""
    own = method.resolved() if isinstance(method, Settings) else asdict(method)
    return {**case.key, "method": name, "seed": seed, "settings": plain(own)}


def measured(case: Case, names: list[str], methods: Methods, settings, seed) -> Iterator[dict]:
    """The scores of each method on one scan, all from one fit, or why there are none."""
    scan, truth, ray = case.measure()
    begun = time.perf_counter()
    try:
        fit = pdip.fit_dip(scan, ray, dict(settings.network), **settings.dip)
    except pdip.ComputationError as error:
        yield from ({"failure": str(error)} for _ in names)
        return
    fit_seconds = time.perf_counter() - begun
    for name in names:
        begun, method = time.perf_counter(), methods[name]
        try:
            if isinstance(method, Settings):
                result = pdip.reconstruct(scan, settings, checkpoints=GivenFit(fit, fit_seconds))
                posterior = result.posterior
            else:
                posterior = method.posterior(scan, ray, fit, seed=seed)
            posterior.std()
            seconds = {"seconds": time.perf_counter() - begun, "fit_seconds": fit_seconds}
            yield posterior_scores(posterior, truth) | seconds
        except (pdip.ComputationError, pdip.InputError) as error:
            yield {"failure": str(error), "fit_seconds": fit_seconds}


def main() -> None:
    parser = experiment_parser(
        __doc__, "kmnist_calibration.jsonl", views=(5, 10, 20, 30), noise=(0.05, 0.1), count=10
    )
    parser.add_argument("--methods", nargs="+", choices=("pdip", *BASELINES), default=None)
    parser.add_argument("--seed", type=whole, default=0, help="of the baselines")
    options = parsed(parser)
    names = options.methods or ["pdip", *BASELINES]
    methods = methods_of(names, options.settings, options.quick)
    rows, asked = Rows(options.out), []
    for case in options.cases:
        keys = {name: key_of(case, name, methods[name], options.seed) for name in names}
        shared = {"methods": methods, "settings": options.settings, "seed": options.seed}
        asked += rows.complete(keys, partial(measured, case, **shared))
    print(markdown_table(asked, ("noise", "views", "method"), TABLE))
    figure = draw_series(
        asked, x="views", series="method", panels="noise", metrics=OUTCOME,
        references={"coverage_95": 0.95},
    )  # fmt: skip
    save_figure(figure, options.out)


if __name__ == "__main__":
    perform(main)
