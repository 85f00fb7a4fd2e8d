"""What does it cost and save to begin a slice's fit from the weights of the slice before it?

Slice k of a simulated stack is (1 - s k) a + s k b, two ellipse phantoms; each slice is fitted anew
and in a chain, with the evidence and posterior that the pipeline uses. One JSON line per slice.
"""

import argparse
import json
import time

import torch

import pdip
from pdip.posterior import Mixture
from pdip.scan import ellipses
from pdip.solvers import choose_solver


def stack(size: int, views: int, count: int, step: float) -> tuple[list, list, pdip.RayTransform]:
    geometry = pdip.ParallelBeam([180 * v / views for v in range(views)], int(1.45 * size) | 1)
    ray = pdip.ray_transform(geometry, pdip.ImageGrid((size, size)))

    def seeded(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    a, b = ellipses(ray.grid, seeded(1)), ellipses(ray.grid, seeded(2))
    truths = [(1 - step * k) * a + step * k * b for k in range(count)]
    scans = [
        pdip.simulate(truth, ray, noise_fraction=0.05, generator=seeded(10 + k))
        for k, truth in enumerate(truths)
    ]
    return scans, truths, ray


def posterior_of(fit: pdip.DIPFit, scan: pdip.Scan, ray: pdip.RayTransform):
    solver, parts = choose_solver(scan.sinogram.numel()), []
    for restart in fit.restarts:
        model = pdip.linearise(restart, ray, pdip.unet_prior(restart.network))
        model = pdip.optimise_evidence(model, scan, solver=solver).model
        parts.append(pdip.Posterior(model, scan, solver))
    return parts[0] if len(parts) == 1 else Mixture(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--views", type=int, default=20)
    parser.add_argument("--slices", type=int, default=5)
    parser.add_argument("--step", type=float, default=0.06)
    parser.add_argument("--restarts", type=int)
    parser.add_argument("--start")
    given = parser.parse_args()
    scans, truths, ray = stack(given.size, given.views, given.slices, given.step)
    for way in ("anew", "chain"):
        before = None
        for k, (scan, truth) in enumerate(zip(scans, truths, strict=True)):
            began = time.perf_counter()
            fit = pdip.fit_dip(scan, ray, restarts=given.restarts, start=given.start, before=before)
            seconds = time.perf_counter() - began
            posterior = posterior_of(fit, scan, ray)
            std = posterior.std()
            numbers = {
                "way": way,
                "slice": k,
                "steps": [restart.history["step"][-1] for restart in fit.restarts],
                "fit_seconds": round(seconds, 1),
                "psnr": pdip.psnr(posterior.image, truth),
                "log_likelihood_per_pixel": float(posterior.log_prob(truth)) / truth.numel(),
                "coverage_95": pdip.coverage(posterior.image, std, truth),
                "mean_std": float(std.mean()),
            }
            print(json.dumps(numbers), flush=True)
            before = fit if way == "chain" else None


if __name__ == "__main__":
    main()
