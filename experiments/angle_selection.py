"""Does choosing the next views by the posterior beat equidistant ones? Random rectangles.

    python experiments/angle_selection.py --seeds 5 --spread 20

From 5 pilot views of 200, `--batch` at a time are added up to 35: the next-best by the linearised
posterior of the present fit, random ones, or all equidistant anew; views in common share their
noise. A `--spread` below 180 degrees gives the objects preferred directions. Rows are resumed.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch

import pdip
from pdip.experiment import Rows, parallel_rays, save_figure, seeded
from pdip.experiment_command import command_line, parsed_or_quick, perform, positive
from pdip.plan import plan
from pdip.posterior import CandidateViews, next_views
from pdip.report import draw_design
from pdip.scan import rectangles

STRATEGIES = ("equidistant", "random", "predictive_variance", "information_gain")
FULL = {
    "seeds": (5, "objects, from seed 0 on"),
    "size": (128, "pixels along a side"),
    "candidates": (200, "views to choose from, equally spaced over 180 degrees"),
    "pilot": (5, "equidistant views to begin with"),
    "most": (35, "views at the end"),
    "batch": (10, "views that are added at a time"),
    "samples": (1024, "of the posterior, behind each choice"),
    "max_steps": (4000, "of each fit"),
    "spread": (180, "degrees over which edges are turned; below 180 some directions are preferred"),
}
QUICK = {"seeds": 1, "size": 16, "candidates": 24, "most": 7, "batch": 2, "max_steps": 60}


def measured(given, seed: int):
    """The object, the ray transform of all candidate views, and their scan with 5 % noise."""
    ray, generator = parallel_rays(given.size, given.candidates), seeded(seed)
    middle = 180 * float(torch.rand((), generator=generator))
    turns = (middle - given.spread / 2, middle + given.spread / 2)
    truth = rectangles(ray.grid, generator, turns_deg=turns)
    return truth, ray, pdip.simulate(truth, ray, noise_fraction=0.05, generator=generator)


def experiment(given, seed: int, rows: Rows) -> list[dict]:
    """The rows of one object; those that are not there yet are added."""
    truth, all_views, scan = measured(given, seed)
    beam = scan.geometry
    shuffled = np.random.default_rng(seed).permutation(given.candidates).tolist()

    @cache
    def fitted(views):
        part, ray = scan.select(views), pdip.ray_transform(beam.select(views), scan.grid)
        return part, ray, pdip.fit_dip(part, ray, max_steps=given.max_steps, restarts=1)

    @cache
    def candidates(views):
        part, ray, fit = fitted(views)
        model = pdip.linearise(fit, ray, pdip.unet_prior(fit.network))
        solver = plan(model, part.sinogram.numel()).solver
        model = pdip.optimise_evidence(model, part, solver=solver).model
        return CandidateViews.sampled(
            pdip.Posterior(model, part, solver), all_views, float(model.noise_variance),
            num_samples=given.samples, generator=seeded(0),
        )  # fmt: skip

    def chosen(strategy, taken, total):
        if strategy == "equidistant" or total == given.pilot:
            return tuple(given.candidates * view // total for view in range(total))
        if strategy == "random":
            return taken + tuple(v for v in shuffled if v not in taken)[: total - len(taken)]
        return taken + next_views(candidates(taken), total - len(taken), strategy, taken)

    fixed = {key: getattr(given, key) for key in FULL if key not in ("seeds", "most")}
    asked = []
    for strategy in STRATEGIES:
        views = ()
        for total in range(given.pilot, given.most + 1, given.batch):
            key = fixed | {"seed": seed, "strategy": strategy, "views": total}
            if (row := rows.find(key)) is None:
                views = chosen(strategy, views, total)
                image = fitted(views)[-1].image
                row = key | {"psnr": pdip.psnr(image, truth), "chosen": views}
                row |= {"angles_deg": [beam.angles_deg[view] for view in views]}
                rows.append(row)
                print(f"seed {seed}, {total} views, {strategy}: {row['psnr']:.2f} dB", flush=True)
            asked.append(row)
            views = tuple(row["chosen"])
    return asked


def main() -> None:
    parser = command_line(__doc__)
    for name, (default, meaning) in FULL.items():
        option, told = "--" + name.replace("_", "-"), f"{meaning}; default: {default}"
        parser.add_argument(option, type=positive, default=default, help=told)
    given = parsed_or_quick(parser, QUICK)
    if not given.pilot <= given.most <= given.candidates:
        parser.error(
            f"expected --pilot <= --most <= --candidates, got {given.pilot}, {given.most} and "
            f"{given.candidates}"
        )
    rows = Rows(Path("runs", "quick" if given.quick else "", "angle_selection.jsonl"))
    asked = [row for seed in range(given.seeds) for row in experiment(given, seed, rows)]
    save_figure(draw_design(asked), rows.path)


if __name__ == "__main__":
    perform(main)
