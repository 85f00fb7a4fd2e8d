"""Do credible regions hold the truth as often as they say? Many simulated scans, each refitted.

    python experiments/tarp.py --count 200

Random rectangles, one scan each, the shipped pipeline end to end; then the share of posterior
samples nearer to a reference point than the truth is (Lemos et al. 2023), uniform over scans if the
posterior is right. References: another phantom, which sees one direction of the error, and the
reconstruction, which sees its size; beside them the rank of the image's mean. One line per scan is
appended to `runs/tarp.jsonl`; a run that is started again goes on from there.
"""

import json
import time
from pathlib import Path

import torch

import pdip
from pdip.calibration import bootstrap, credibility, expected_coverage, ranks, uniformity
from pdip.experiment import QUICK, Rows, parallel_rays, save_figure, seeded
from pdip.experiment_command import command_line, not_negative, parsed_or_quick, perform, positive
from pdip.report import draw_expected_coverage
from pdip.scan import rectangles
from pdip.settings import Settings, plain
from pdip.strict_json import strict

UNIFORM = ("credibility_phantom", "credibility_image", "rank_of_mean")


def simulated(seed: int, size: int, views: int, noise: float):
    """A scan of random rectangles and their true image."""
    ray, generator = parallel_rays(size, views), seeded(seed)
    truth = rectangles(ray.grid, generator)
    return pdip.simulate(truth, ray, noise_fraction=noise, generator=generator), truth


def measured(given, settings: Settings, seed: int) -> dict:
    """Credibilities and scores of one scan."""
    scan, truth = simulated(seed, given.size, given.views, given.noise)
    begin = time.perf_counter()
    result = pdip.reconstruct(scan, settings)
    image = result.image.cpu()
    draws = result.posterior.sample(given.samples, generator=seeded(seed)).cpu()
    phantom = rectangles(scan.grid, seeded(10**6 + seed))
    rank = int(ranks(draws.mean((1, 2)), truth.mean()))
    return {
        "credibility_phantom": credibility(draws, truth, phantom),
        "credibility_image": credibility(draws, truth, image),
        "rank_of_mean": (rank + 0.5) / (given.samples + 1),
        "psnr": pdip.psnr(image, truth),
        "coverage_95": pdip.coverage(image, result.std.cpu(), truth),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def summarised(rows: list[dict]) -> dict:
    """Expected coverage with its test of uniformity, and the mean coverage with its band."""
    columns = {name: torch.tensor([row[name] for row in rows]).double() for name in UNIFORM}
    covered = torch.tensor([row["coverage_95"] for row in rows])
    return {
        "scans": len(rows),
        "coverage_95": strict(bootstrap(lambda x: float(x.mean()), covered, generator=seeded(0))),
        "uniformity": {name: strict(uniformity(values)) for name, values in columns.items()},
        "curves": {name: strict(expected_coverage(values)) for name, values in columns.items()},
    }


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--count", type=positive, default=200, help="simulated scans")
    parser.add_argument("--size", type=positive, default=28, help="pixels along a side")
    parser.add_argument("--views", type=positive, default=20)
    parser.add_argument("--noise", type=not_negative, default=0.05, help="std over mean|A x|")
    parser.add_argument("--samples", type=positive, default=200, help="of each posterior")
    given = parsed_or_quick(parser, {"count": 3, "size": 12, "views": 6, "samples": 50})
    settings = Settings.of(QUICK if given.quick else {})
    rows = Rows(Path("runs", "quick" if given.quick else "", "tarp.jsonl"))
    setting = {name: value for name, value in vars(given).items() if name != "count"}
    setting["settings"] = plain(settings.resolved())
    keys = {seed: {"seed": seed} | setting for seed in range(given.count)}
    asked = rows.complete(keys, lambda seeds: (measured(given, settings, s) for s in seeds))
    path = rows.path.with_suffix(".json")
    path.write_text(json.dumps(summarised(asked), indent=2))
    save_figure(draw_expected_coverage(json.loads(path.read_text())["curves"]), path)


if __name__ == "__main__":
    perform(main)
