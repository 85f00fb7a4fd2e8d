"""Which start, how many restarts, how many steps should the fit of a small image have? KMNIST.

    python experiments/kmnist_starts.py --data DIR --views 5 --images 0 1 2 3
    python experiments/kmnist_starts.py --data DIR --views 20 --starts fbp tv mixed

Only the fit, noise level estimated; the scans are those of `kmnist_defaults.py`. Prints for every
scan and start the steps, the residual (in noise variances) and the PSNR of each restart, and the
PSNR of the mean of their images, which is what several restarts ship; appends them to `--out`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from kmnist_defaults import scan_of

import pdip


def measure(scan, truth, start: str | None, restarts: int | None) -> dict:
    """One fit: what it took, and how near each restart and their mean come to the truth."""
    ray = pdip.ray_transform(scan.geometry, scan.grid)
    begun = time.perf_counter()
    fit = pdip.fit_dip(scan, ray, start=start, restarts=restarts)
    seconds = time.perf_counter() - begun
    images = torch.stack([restart.image for restart in fit.restarts])
    levels = [min(r.history["mean_squared_residual"]) for r in fit.restarts]
    return {
        "seconds": round(seconds, 1),
        "steps": [restart.history["step"][-1] for restart in fit.restarts],
        "levels": [round(level / fit.noise_std**2, 2) for level in levels],
        "psnr_of_restarts": [round(pdip.psnr(image, truth), 2) for image in images],
        "psnr": round(pdip.psnr(images.mean(0), truth), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of images and cases")
    parser.add_argument("--views", type=int, nargs="+", default=[5])
    parser.add_argument("--images", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--starts", nargs="+", choices=["fbp", "tv", "mixed"], default=[None])
    parser.add_argument("--restarts", type=int, help="default: as many as the start has")
    parser.add_argument("--out", type=Path, default=Path("runs/kmnist_starts.jsonl"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for views in arguments.views:
        for start in arguments.starts:
            rows = []
            for image in arguments.images:
                scan, truth = scan_of(arguments.data, views, image)
                row = {"views": views, "image": image, "start": start or "shipped"}
                rows.append(row | measure(scan, truth, start, arguments.restarts))
                print(json.dumps(rows[-1]), flush=True)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
            means = {key: float(np.mean([row[key] for row in rows])) for key in ("psnr", "seconds")}
            steps = np.mean([max(row["steps"]) for row in rows])
            print(
                f"{views} views, start {start or 'shipped'}: mean PSNR {means['psnr']:.2f} dB, "
                f"{steps:.0f} steps of the longest restart, {means['seconds']:.1f} s"
            )


if __name__ == "__main__":
    main()
