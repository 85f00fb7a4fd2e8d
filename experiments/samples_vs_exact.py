"""How many posterior samples does a covariance need, by the likelihood of the truth?

    python experiments/samples_vs_exact.py --images DIR/kmnist_test_0_49.npz --views 20 --count 4

Joint densities of patches of 1, 2 and 10 pixels a side under the covariance of the samples and
under the exact one, each also with its off-diagonal entries halved, which the reference code does
to bear fewer samples than pixels. Where a covariance is singular there is no number.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch

import pdip
from pdip.experiment import Case, Rows, save_figure
from pdip.experiment_command import experiment_parser, parsed, perform, whole
from pdip.posterior import SavedPosterior
from pdip.report.experiment_figures import draw_series
from pdip.report.experiment_tables import markdown_table
from pdip.settings import Settings

SAMPLES = (16, 64, 256, 1024, 4096, 16384)
PATCHES = (1, 2, 10)
COVARIANCES = {"samples": 1.0, "samples, halved": 0.5, "exact": 1.0, "exact, halved": 0.5}
METRIC = "log_likelihood_per_pixel"


def log_likelihood(posterior, covariance: torch.Tensor, truth, patch: int, factor: float) -> dict:
    """Of the truth per pixel, the off-diagonal entries times ``factor``."""
    variance = covariance.diagonal()
    scaled = factor * covariance + (1 - factor) * torch.diag(variance)
    std = variance.sqrt().reshape(truth.shape)
    moments = {"image": posterior.image, "mean": posterior.mean, "std": std, "covariance": scaled}
    try:
        value = SavedPosterior(moments).log_prob(truth, patch) / truth.numel()
    except pdip.ComputationError as error:
        return {"failure": str(error)}
    return {METRIC: value}


def measured(case: Case, names: list[tuple], settings: Settings, seed: int) -> Iterator[dict]:
    """The likelihood with each covariance; fewer samples are the first of more."""
    scan, truth, _ = case.measure()
    posterior = pdip.reconstruct(scan, settings).posterior
    generator = torch.Generator().manual_seed(seed)
    counts = {count for _, count, _ in names}
    draws = posterior.sample(max(counts), generator=generator) - posterior.image
    draws = draws.flatten(1).double()
    found = {count: draws[:count].mT @ draws[:count] / count for count in counts}
    for covariance, count, patch in names:
        used = found[count] if covariance.startswith("samples") else posterior.covariance()
        yield log_likelihood(posterior, used, truth, patch, COVARIANCES[covariance])


def main() -> None:
    parser = experiment_parser(__doc__, "samples_vs_exact.jsonl", views=(20,), count=4)
    parser.add_argument("--seed", type=whole, default=0, help="of the samples")
    options = parsed(parser)
    rows, asked = Rows(options.out), []
    names = ("covariance", "samples", "patch")
    counts = SAMPLES[:3] if options.quick else SAMPLES
    for case in options.cases:
        shared = {**case.key, "seed": options.seed, "settings": options.settings.resolved()}
        keys = {
            values: shared | dict(zip(names, values, strict=True))
            for values in product(COVARIANCES, counts, PATCHES)
        }
        measure = partial(measured, case, settings=options.settings, seed=options.seed)
        asked += rows.complete(keys, measure)
    print(markdown_table(asked, names, (METRIC,)))
    figure = draw_series(
        asked, x="samples", series="covariance", panels="patch",
        metrics={METRIC: "log-likelihood (nats / pixel)"},
    )  # fmt: skip
    save_figure(figure, options.out)


if __name__ == "__main__":
    perform(main)
