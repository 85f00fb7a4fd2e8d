"""Which evidence, hyperprior and linearisation should be the default? KMNIST, exact algebra.

    python experiments/kmnist_defaults.py --data DIR --views 5 20 --images 0 1 2 3

One fit per scan (default restarts, noise level estimated), then every variant on the same fits.
Where `--data` holds `cases/k{views}_{image}.npz`, that sinogram is used, otherwise one is
simulated from the image with the same geometry and 5 % noise; `--rectangles` simulates random
rectangles instead. Every scan and variant is a JSON line of `--out`, with a figure beside it.
"""

import time
from collections.abc import Iterator
from functools import partial

import pdip
from pdip.experiment import Case, Rows, save_figure, settled
from pdip.experiment_command import kmnist_parsed, kmnist_parser, perform
from pdip.report.experiment_figures import draw_series
from pdip.report.experiment_tables import markdown_table, posterior_scores
from pdip.settings import Settings

VARIANTS = {
    "shipped": ("before", pdip.NetworkWeights(), pdip.TVPredCP()),
    "no hyperprior": ("before", pdip.NetworkWeights(), None),
    "profile evidence": ("before", pdip.Profile(), pdip.TVPredCP()),
    "through the sigmoid": ("through", pdip.NetworkWeights(), pdip.TVPredCP()),
}
METRICS = {
    "psnr": "PSNR (dB)",
    "log_likelihood_per_pixel": "joint log-likelihood (nats / pixel)",
    "coverage_95": "coverage of the 95 % interval",
}
TABLE = ("psnr", "psnr_linear_mean", "log_likelihood_per_pixel", "coverage_95", "fit_seconds")


def posteriors(fit, scan, ray, variant: str, settings: Settings):
    """The mixture of the restarts' posteriors, and the learned noise std of each."""
    activation, objective, hyperprior = VARIANTS[variant]
    chosen = {"objective": objective, "hyperprior": hyperprior, **settings.evidence}
    parts, noise = [], []
    for restart in fit.restarts:
        prior = pdip.unet_prior(restart.network)
        model = pdip.linearise(restart, ray, prior, activation=activation)
        model = settled(model, scan, **chosen).model
        parts.append(pdip.Posterior(model, scan))
        noise.append(float(model.noise_variance.sqrt()))
    return pdip.Mixture(parts), noise


def measured(case: Case, names: list[str], settings: Settings) -> Iterator[dict]:
    """The scores of every variant on one scan."""
    scan, truth, ray = case.measure()
    begun = time.perf_counter()
    fit = pdip.fit_dip(scan, ray, dict(settings.network), **settings.dip)
    fit_seconds = time.perf_counter() - begun
    for variant in names:
        begun = time.perf_counter()
        try:
            posterior, noise = posteriors(fit, scan, ray, variant, settings)
            found = posterior_scores(posterior, truth)
        except pdip.ComputationError as error:
            yield {"failure": str(error)}
            continue
        found["psnr_linear_mean"] = pdip.psnr(posterior.mean, truth)
        found["psnr_midpoint"] = pdip.psnr((posterior.image + posterior.mean) / 2, truth)
        found |= {"noise_std": fit.noise_std, "learned_noise_std": noise}
        yield found | {"fit_seconds": fit_seconds, "rest_seconds": time.perf_counter() - begun}


def main() -> None:
    parser = kmnist_parser(__doc__, "kmnist_defaults.jsonl", views=(5, 20))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    given = kmnist_parsed(parser)
    rows, asked = Rows(given.out), []
    for case in given.cases:
        key = {**case.key, "settings": given.settings.resolved()}
        keys = {variant: key | {"variant": variant} for variant in given.variants}
        asked += rows.complete(keys, partial(measured, case, settings=given.settings))
    print(markdown_table(asked, ("views", "variant"), TABLE))
    figure = draw_series(asked, x="views", series="variant", metrics=METRICS)
    save_figure(figure, given.out)


if __name__ == "__main__":
    perform(main)
