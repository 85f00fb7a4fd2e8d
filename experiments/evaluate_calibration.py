"""Are the error bars of a finished run honest? Every convention, against the truth.

    python experiments/evaluate_calibration.py --result runs/x --ground-truth truth.npy

Reads the posterior that `reconstruct.py` left in the folder and writes `evaluation.json` and its
figure beside it: all of `pdip.calibration.evaluate`, and bands of the key numbers by resampling
blocks of pixels. Where the run kept its covariance, ensembles are scored on draws from it.
"""

import json
from pathlib import Path

import torch

import pdip
from pdip.calibration import evaluate
from pdip.experiment import QUICK, save_figure, true_image
from pdip.experiment_command import command_line, perform, positive
from pdip.report import draw_calibration
from pdip.run_directory import EVALUATION, POSTERIOR, RunDirectory
from pdip.scan import shepp_logan


def finished_run(path: Path, truth: Path):
    """Posterior, truth, and grid of a run's folder."""
    directory = RunDirectory(path)
    posterior = pdip.SavedPosterior(directory.read_tensors(POSTERIOR)[0])
    grid = directory.grid()
    return posterior, true_image(truth, grid), grid


def quick_run():
    """The same of a tiny simulated scan."""
    beam = pdip.ParallelBeam([0.0, 30.0, 60.0, 90.0, 120.0, 150.0], 18)
    ray = pdip.ray_transform(beam, pdip.ImageGrid((12, 12)))
    truth, generator = shepp_logan(ray.grid), torch.Generator().manual_seed(0)
    scan = pdip.simulate(truth, ray, noise_fraction=0.05, generator=generator)
    posterior = pdip.reconstruct(scan, QUICK).posterior
    return pdip.SavedPosterior(posterior.tensors()), truth, ray.grid


def measured(posterior, truth, grid, *, samples: int, block: int) -> dict:
    """All numbers of one posterior."""
    generator = torch.Generator().manual_seed(0)
    tensors = posterior.tensors()
    covariance, deviations = tensors.get("covariance"), tensors.get("deviations")
    if deviations is None:
        draws = posterior.sample(samples, generator=generator)
    else:
        draws = posterior.image + deviations
    triple = posterior.image, posterior.std(), truth.to(posterior.image)
    found = evaluate(
        *triple, covariance=covariance, samples=draws, pixel_mm=grid.pixel_mm, block=block
    )
    return {**found.as_dict(), "num_samples": len(draws), "block": block}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--result", type=Path, help="folder of a finished run")
    parser.add_argument("--ground-truth", type=Path, help="true image, .npy, .npz or HDF5")
    parser.add_argument("--samples", type=positive, default=200, help="draws from a covariance")
    parser.add_argument(
        "--block", type=positive, default=8, help="side of resampled blocks, pixels"
    )
    parser.add_argument("--quick", action="store_true", help="a tiny simulated run instead")
    given = parser.parse_args()
    if not given.quick and None in (given.result, given.ground_truth):
        parser.error("give --result and --ground-truth, or --quick")
    out = Path("runs/quick") if given.quick else given.result
    run = quick_run() if given.quick else finished_run(given.result, given.ground_truth)
    block = 4 if given.quick else given.block
    found = measured(*run, samples=given.samples, block=block)
    out.mkdir(parents=True, exist_ok=True)
    path = out / EVALUATION
    path.write_text(json.dumps(found, indent=2))
    save_figure(draw_calibration({"posterior": json.loads(path.read_text())}), path)
    for name, band in found["bands"].items():
        print(f"{name}: {band['value']:.4g} ({band['low']:.4g} to {band['high']:.4g})")


if __name__ == "__main__":
    perform(main)
