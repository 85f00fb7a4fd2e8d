"""Do scores without ground truth pick the settings that are best against it? KMNIST, rectangles.

    python experiments/selection.py --images FILE --views 20 --count 3
    python experiments/selection.py --over dip.max_steps=250,500,1000,2000

Every candidate is fitted without the rays that `pdip select` withholds, and on all rays, for the
evidences and the truth; stopping points share one fit.
"""

from collections.abc import Iterator
from functools import partial

import pdip
from pdip.candidates import grid, merged
from pdip.experiment import QUICK, Case, Rows, save_figure
from pdip.experiment_command import experiment_parser, parsed, perform, positive
from pdip.kept import Kept, steps_of
from pdip.report import draw_selection, picks_table, scores
from pdip.result import mean_of
from pdip.settings import Settings, plain

EVIDENCES = {"profile_evidence": pdip.Profile(), "network_weights_evidence": pdip.NetworkWeights()}
OVER = ["network.channels=8,32", "dip.tv_weight=null,0.1"]
QUICK_OVER = ["network.channels=2,4"]


def against_truth(scan, truth, settings: Settings, checkpoints) -> dict:
    """The evidences of a fit of all rays, and how near it comes to the truth."""
    result = pdip.reconstruct(scan, settings, checkpoints=checkpoints)
    row = {
        name: mean_of(float(pdip.log_evidence(e.model, scan, objective=o)) for e in result.evidence)
        for name, o in EVIDENCES.items()
    }
    found = scores(result, truth)
    return row | {"psnr": found["psnr"], "log_likelihood": found["log_likelihood_per_pixel"]}


def measured(case: Case, names, candidates: dict[str, Settings]) -> Iterator[dict]:
    """The numbers of the candidates of these names on one scan, compared with all of them."""
    scan, truth, _ = case.measure()
    found, whole = pdip.select(scan, candidates), Kept()
    whole.prepare(candidates.values())
    for score in (score for score in found.scores if score.name in names):
        row = {"held_out_score": score.mean, "conditional_evidence": score.conditional_evidence}
        margin = None if score.failure else vars(found.margin(score))
        row |= {"winner": score is found.winner, "margin": margin}
        settings = candidates[score.name]
        try:
            row |= against_truth(scan, truth, settings, whole.checkpoints(settings))
        except pdip.ComputationError as error:
            row |= dict.fromkeys((*EVIDENCES, "psnr", "log_likelihood"))
            row["failure"] = str(error)
        yield row


def main() -> None:
    parser = experiment_parser(__doc__, "selection.jsonl", views=(20,), count=3)
    parser.add_argument("--max-steps", type=positive, default=4000)
    parser.add_argument("--restarts", type=positive, default=1)
    parser.add_argument("--over", action="append", help="a setting and its values, as pdip select")
    given = parsed(parser)
    base = {"dip": {"restarts": given.restarts, "max_steps": given.max_steps}}
    over = given.over or (QUICK_OVER if given.quick else OVER)
    if given.quick:
        base = merged(base, QUICK)
    candidates = {name: Settings.of(merged(base, own)) for name, own in grid(over).items()}
    candidates = dict(sorted(candidates.items(), key=lambda item: steps_of(item[1])))
    kept, asked = Rows(given.out), []
    resolved = {name: plain(settings.resolved()) for name, settings in candidates.items()}
    for case in given.cases:
        scan = f"{case.images.name} {case.number}, {case.views} views, noise {case.noise:g}"
        shared = {"scan": scan, "compared": list(candidates)}
        keys = {
            name: shared | {"candidate": name, "settings": settings}
            for name, settings in resolved.items()
        }
        measure = partial(measured, case, candidates=candidates)
        asked += kept.complete(keys, measure)
    print(picks_table(asked))
    save_figure(draw_selection(asked), given.out)


if __name__ == "__main__":
    perform(main)
