"""Is the claimed std the spread of refits? One truth, many draws of the noise, each refitted.

    python experiments/repeated_noise.py --count 20

The spread over the noise is the part of the error that noise makes; the rest is bias, for which a
posterior also answers, so that its std should match the root mean square error and lie above the
spread. One line of JSON per draw, with its maps, is appended to `runs/repeated_noise.jsonl`, and a
run that is started again goes on.
"""

import json
import time
from pathlib import Path

import torch

import pdip
from pdip.calibration import repeated_noise
from pdip.experiment import QUICK, Rows, parallel_rays, save_figure, seeded
from pdip.experiment_command import (
    command_line,
    not_negative,
    parsed_or_quick,
    perform,
    positive,
    whole,
)
from pdip.report import draw_repeated_noise
from pdip.scan import rectangles
from pdip.settings import Settings, plain
from pdip.strict_json import strict

NUMBERS = ("claimed", "spread", "bias", "error")


def measured(truth, ray, noise: float, draw: int, settings: Settings) -> dict:
    """Reconstruction and std from one draw of the noise."""
    begin = time.perf_counter()
    scan = pdip.simulate(truth, ray, noise_fraction=noise, generator=seeded(draw))
    result = pdip.reconstruct(scan, settings)
    return {
        "psnr": pdip.psnr(result.image.cpu(), truth),
        "coverage_95": pdip.coverage(result.image.cpu(), result.std.cpu(), truth),
        "seconds": round(time.perf_counter() - begin, 1),
        "image": result.image.tolist(),
        "std": result.std.float().tolist(),
    }


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--count", type=positive, default=20, help="draws of the noise")
    parser.add_argument("--size", type=positive, default=28, help="pixels along a side")
    parser.add_argument("--views", type=positive, default=20)
    parser.add_argument("--noise", type=not_negative, default=0.05, help="std over mean|A x|")
    parser.add_argument("--phantom", type=whole, default=0, help="seed of the rectangles")
    given = parsed_or_quick(parser, {"count": 3, "size": 12, "views": 6})
    settings = Settings.of(QUICK if given.quick else {})
    ray = parallel_rays(given.size, given.views)
    truth = rectangles(ray.grid, seeded(given.phantom))
    rows = Rows(Path("runs", "quick" if given.quick else "", "repeated_noise.jsonl"))
    setting = {name: value for name, value in vars(given).items() if name != "count"}
    setting["settings"] = plain(settings.resolved())
    keys = {draw: {"draw": draw} | setting for draw in range(given.count)}
    asked = rows.complete(
        keys, lambda draws: (measured(truth, ray, given.noise, d, settings) for d in draws)
    )
    images, stds = (torch.tensor([row[name] for row in asked]) for name in ("image", "std"))
    path = rows.path.with_suffix(".json")
    path.write_text(json.dumps(strict(repeated_noise(images, stds, truth)), indent=2))
    found = json.loads(path.read_text())
    save_figure(draw_repeated_noise(found, ray.grid.pixel_mm), path)
    print(json.dumps({name: found[name] for name in NUMBERS}))


if __name__ == "__main__":
    perform(main)
