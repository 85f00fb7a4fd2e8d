"""Which start, how many restarts, how many steps should the fit of a small image have? KMNIST.

    python experiments/kmnist_starts.py --data DIR --views 5 --images 0 1 2 3
    python experiments/kmnist_starts.py --data DIR --views 20 --starts fbp tv mixed

Only the fit, noise level estimated; the scans are those of `kmnist_defaults.py`. Prints for every
scan and start the steps, the residual (in noise variances) and the PSNR of each restart, and the
PSNR of the mean of their images, which is what several restarts ship; appends them to `--out`,
with a figure beside it.
"""

import time
from collections.abc import Iterator
from functools import partial

import torch

import pdip
from pdip.experiment import Case, Rows, save_figure
from pdip.experiment_command import kmnist_parsed, kmnist_parser, perform, positive
from pdip.report.experiment_figures import draw_series
from pdip.report.experiment_tables import markdown_table
from pdip.settings import Settings

METRICS = {
    "psnr": "PSNR of the mean image (dB)",
    "most_steps": "steps of the longest restart",
    "seconds": "seconds of the fit",
}


def measured(case: Case, starts: list[str], settings: Settings, restarts: int | None) -> Iterator:
    """One fit for each start: what it took, and how near its restarts come to the truth."""
    scan, truth, ray = case.measure()
    for start in starts:
        keywords = {**settings.dip, "start": None if start == "shipped" else start}
        if restarts is not None:
            keywords["restarts"] = restarts
        begun = time.perf_counter()
        fit = pdip.fit_dip(scan, ray, dict(settings.network), **keywords)
        seconds = time.perf_counter() - begun
        images = torch.stack([restart.image for restart in fit.restarts])
        levels = [min(r.history["mean_squared_residual"]) for r in fit.restarts]
        steps = [restart.history["step"][-1] for restart in fit.restarts]
        yield {
            "seconds": round(seconds, 1),
            "steps": steps,
            "most_steps": max(steps),
            "levels": [round(level / fit.noise_std**2, 2) for level in levels],
            "psnr_of_restarts": [round(pdip.psnr(image, truth), 2) for image in images],
            "psnr": round(pdip.psnr(images.mean(0), truth), 2),
        }


def main() -> None:
    parser = kmnist_parser(__doc__, "kmnist_starts.jsonl", views=(5,))
    starts = ["fbp", "tv", "mixed", "shipped"]
    parser.add_argument("--starts", nargs="+", choices=starts, default=["shipped"])
    parser.add_argument("--restarts", type=positive, help="default: as many as the start has")
    given = kmnist_parsed(parser)
    rows, asked = Rows(given.out), []
    for case in given.cases:
        key = {**case.key, "restarts": given.restarts, "settings": given.settings.resolved()}
        keys = {start: key | {"start": start} for start in given.starts}
        measure = partial(measured, case, settings=given.settings, restarts=given.restarts)
        asked += rows.complete(keys, measure)
    print(markdown_table(asked, ("views", "start"), METRICS))
    save_figure(draw_series(asked, x="views", series="start", metrics=METRICS), given.out)


if __name__ == "__main__":
    perform(main)
