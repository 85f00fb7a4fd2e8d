"""What does each prior expect to see? Draws from the linearised network and their total variation.

    python experiments/prior_samples.py --images DIR/kmnist_test_0_49.npz --views 20

Deviations from the reconstruction, S J θ with θ ~ N(0, Σ), under the hyperparameters that
TV-PredCP chooses, that the marginal likelihood alone chooses, and that it chooses for a factorised
Gaussian, whose filters have no covariance of neighbours. The true deviation is x - x*.
"""

from collections.abc import Iterator
from functools import partial

import torch

import pdip
from pdip.baselines.linearised import factorised_prior
from pdip.dip.total_variation import total_variation
from pdip.experiment import Case, Rows, save_figure, seeded, settled
from pdip.experiment_command import experiment_parser, parsed, perform, positive, whole
from pdip.report.experiment_figures import draw_prior_samples
from pdip.report.experiment_tables import markdown_table
from pdip.settings import Settings

PRIORS = {
    "TV-PredCP": pdip.TVPredCP(),
    "marginal likelihood": None,
    "factorised Gaussian": None,
}
SHOWN = 4


def measured(case: Case, names: list[str], settings: Settings, options) -> Iterator[dict]:
    """Draws under each prior of one fit's first restart, and their total variation."""
    scan, truth, ray = case.measure()
    fit = pdip.fit_dip(scan, ray, dict(settings.network), **settings.dip | {"restarts": 1})
    for name in names:
        prior = factorised_prior if name.startswith("factorised") else pdip.unet_prior
        model = pdip.linearise(fit, ray, prior(fit.network))
        model = settled(model, scan, hyperprior=PRIORS[name], **settings.evidence).model
        shape = (options.draws, *model.jacobian.domain_shape)
        weights = torch.randn(shape, generator=seeded(options.seed))
        draws = model.slope * model.jacobian.forward(model.prior.root_apply(weights))
        values = total_variation(draws)
        yield {
            "mean_total_variation": float(values.mean()),
            "mean_std": float(draws.std(0).mean()),
            "true_total_variation": float(total_variation(truth - fit.image)),
            "total_variation": values.tolist(),
            "draws": draws[:SHOWN].tolist(),
        }


def main() -> None:
    parser = experiment_parser(__doc__, "prior_samples.jsonl", views=(20,), count=1)
    parser.add_argument("--draws", type=positive, default=500)
    parser.add_argument("--seed", type=whole, default=0, help="of the draws")
    options = parsed(parser)
    rows, asked = Rows(options.out), []
    for case in options.cases:
        shared = {**case.key, "seed": options.seed, "num_draws": options.draws}
        shared["settings"] = options.settings.resolved()
        keys = {name: shared | {"prior": name} for name in PRIORS}
        measure = partial(measured, case, settings=options.settings, options=options)
        asked += rows.complete(keys, measure)
    table = ("mean_total_variation", "true_total_variation", "mean_std")
    print(markdown_table(asked, ("views", "noise", "prior"), table))
    figure = draw_prior_samples(asked[: len(PRIORS)], options.cases[0].images.grid)
    save_figure(figure, options.out)


if __name__ == "__main__":
    perform(main)
