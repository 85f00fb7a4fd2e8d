"""Which evidence, hyperprior and linearisation should be the default? KMNIST, exact algebra.

    python experiments/kmnist_defaults.py --data ../shared/data/kmnist --views 5 20 --images 0 1 2 3

One fit per scan (default restarts, noise level estimated), then every variant on the same fits.
Where `--data` holds `cases/k{views}_{image}.npz`, that sinogram is used, otherwise one is
simulated from the image with the same geometry and 5 % noise; `--rectangles` simulates random
rectangles instead. Prints one line per scan and variant and appends it to the JSON-lines file
`--out`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

import pdip
from pdip.posterior import relinearise
from pdip.scan import rectangles

VARIANTS = {
    "shipped": ("before", pdip.NetworkWeights(), pdip.TVPredCP()),
    "no hyperprior": ("before", pdip.NetworkWeights(), None),
    "profile evidence": ("before", pdip.Profile(), pdip.TVPredCP()),
    "through the sigmoid": ("through", pdip.NetworkWeights(), pdip.TVPredCP()),
}


def scan_of(data: Path | None, views: int, image: int):
    """The stored case or a simulated scan, and the true image; rectangles without data."""
    case = None if data is None else data / "cases" / f"k{views}_{image}.npz"
    if case is not None and case.exists():
        scan = pdip.read_scan(case)
        return scan, pdip.read_ground_truth(case, scan.grid)
    angles = np.arange(views) * 180 / views - 90
    beam = pdip.ParallelBeam(angles, 41, 28 * 2**0.5 / 41)
    grid = pdip.ImageGrid((28, 28))
    generator = torch.Generator().manual_seed(image)
    if data is None:
        truth = rectangles(grid, generator).float()
    else:
        images = np.load(data / "kmnist_test_0_49.npz")["images"]
        truth = torch.as_tensor(images[image] / 255).float()
    ray = pdip.ray_transform(beam, grid)
    return pdip.simulate(truth, ray, noise_fraction=0.05, generator=generator), truth


def posteriors(fit, scan, ray, variant):
    """The mixture of the restarts' posteriors, and the learned noise std of each."""
    activation, objective, hyperprior = VARIANTS[variant]
    parts, noise = [], []
    for restart in fit.restarts:
        model = pdip.linearise(
            restart, ray, pdip.unet_prior(restart.network), activation=activation
        )
        for _ in range(2 if activation == "before" else 1):
            found = pdip.optimise_evidence(model, scan, objective=objective, hyperprior=hyperprior)
            last, model = found.model, relinearise(found.model, scan)
        parts.append(pdip.Posterior(last, scan))
        noise.append(float(last.noise_variance.sqrt()))
    return pdip.Mixture(parts), noise


def scores(posterior, truth) -> dict:
    """PSNR of both centres and their midpoint, joint log-likelihood per pixel and 95 % coverage."""
    try:
        joint = posterior.log_prob(truth) / truth.numel()
    except pdip.ComputationError:
        joint = None
    return {
        "psnr": pdip.psnr(posterior.image, truth),
        "psnr_linear_mean": pdip.psnr(posterior.mean, truth),
        "psnr_midpoint": pdip.psnr((posterior.image + posterior.mean) / 2, truth),
        "log_likelihood_per_pixel": joint,
        "coverage_95": pdip.coverage(posterior.image, posterior.std(), truth),
    }


def table(rows: list[dict]) -> str:
    """Markdown table of the means over images, one line per number of views and variant."""
    keys = ("psnr", "psnr_linear_mean", "log_likelihood_per_pixel", "coverage_95", "fit_seconds")
    lines = ["| views | variant | images | " + " | ".join(keys) + " |", "|---" * 8 + "|"]
    for views, variant in dict.fromkeys((row["views"], row["variant"]) for row in rows):
        chosen = [r for r in rows if (r["views"], r["variant"]) == (views, variant)]
        values = [[r[key] for r in chosen if r[key] is not None] for key in keys]
        means = [f"{np.mean(v):.3f}" if v else "–" for v in values]
        lines.append(f"| {views} | {variant} | {len(chosen)} | " + " | ".join(means) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder of the KMNIST images and cases")
    source.add_argument("--rectangles", action="store_true", help="random rectangles instead")
    parser.add_argument("--views", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--images", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("runs/kmnist_defaults.jsonl"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for image in arguments.images:
        for views in arguments.views:
            scan, truth = scan_of(arguments.data, views, image)
            ray = pdip.ray_transform(scan.geometry, scan.grid)
            start = time.perf_counter()
            fit = pdip.fit_dip(scan, ray)
            fit_seconds = time.perf_counter() - start
            for variant in arguments.variants:
                start = time.perf_counter()
                posterior, noise = posteriors(fit, scan, ray, variant)
                row = {"views": views, "image": image, "variant": variant}
                row |= scores(posterior, truth)
                row |= {"noise_std": fit.noise_std, "learned_noise_std": noise}
                row |= {"fit_seconds": fit_seconds, "rest_seconds": time.perf_counter() - start}
                rows.append(row)
                print(json.dumps(row), flush=True)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
