"""Do the solvers agree where all of them fit, and what does each cost?

    python experiments/solver_agreement.py --side 28 64

One scan of the Shepp-Logan phantom, one fit; then each solver searches the hyperparameters and
forms the posterior. Printed and kept as rows: log evidence, its standard error and worst residual,
relative difference of the std maps from the exact one, seconds; with a figure beside them.
"""

import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from pdip import fit_dip, linearise, optimise_evidence, ray_transform, unet_prior
from pdip.experiment import Rows, save_figure
from pdip.experiment_command import command_line, out_path, parsed_or_quick, perform, positive
from pdip.posterior import Posterior
from pdip.report.experiment_figures import draw_series
from pdip.scan import ImageGrid, ParallelBeam, shepp_logan, simulate
from pdip.solvers import CG, Cholesky, Projected

SCANS = {28: (20, 41), 64: (24, 90), 8: (4, 11)}  # views, detectors; the last one is the quick form
METRICS = {
    "log_evidence": "log evidence (nats)",
    "std_difference": "std: relative difference from exact",
    "seconds": "seconds",
}
SOLVERS = {"exact": Cholesky(), "projected": Projected(), "cg": CG()}


def fitted(side: int, max_steps: int):
    """A model around a fit of the default network, and its scan."""
    views, detectors = SCANS[side]
    angles = [180.0 * view / views for view in range(views)]
    geometry = ParallelBeam(angles, detectors, 2**0.5 * side / detectors)
    ray = ray_transform(geometry, ImageGrid((side, side)))
    generator = torch.Generator().manual_seed(0)
    scan = simulate(shepp_logan(ray.grid), ray, noise_fraction=0.05, generator=generator)
    fit = fit_dip(scan, ray, {"activation": "none"}, max_steps=max_steps, restarts=1)
    return linearise(fit, ray, unet_prior(fit.network)), scan


def measured(side: int, max_steps: int, names: list[str]) -> Iterator[dict]:
    """What each of these solvers finds; the exact one answers first, for the others to compare."""
    model, scan = fitted(side, max_steps)
    exact_std = None
    for name, solver in SOLVERS.items():
        if name not in names and name != "exact":
            continue
        begin = time.perf_counter()
        fit = optimise_evidence(model, scan, solver=solver)
        posterior = Posterior(fit.model, scan, solver)
        std = posterior.std()
        exact_std = std if exact_std is None else exact_std
        if name in names:
            yield {
                "rays": scan.sinogram.numel(),
                "rows": posterior.model.measurement.num_rows,
                "log_evidence": fit.log_evidence,
                "standard_error": fit.standard_error,
                "worst_residual": max(fit.worst_residual, posterior.solution.worst_residual),
                "converged": fit.converged and posterior.solution.converged,
                "std_difference": float((std - exact_std).norm() / exact_std.norm()),
                "seconds": round(time.perf_counter() - begin, 1),
            }


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--side", type=positive, nargs="+", choices=SCANS, default=[28])
    parser.add_argument("--max-steps", type=positive, default=400, help="of the fit")
    parser.add_argument("--out", type=Path, help="default: runs/solver_agreement.jsonl")
    options = parsed_or_quick(parser, {"side": [8], "max_steps": 20})
    options.out = options.out or out_path("solver_agreement.jsonl", options.quick)
    warnings.simplefilter("ignore")
    rows, asked = Rows(options.out), []
    for side in options.side:
        setting = {"side": side, "max_steps": options.max_steps}
        keys = {name: setting | {"solver": name} for name in SOLVERS}
        asked += rows.complete(keys, partial(measured, side, options.max_steps))
    save_figure(draw_series(asked, x="side", series="solver", metrics=METRICS), options.out)


if __name__ == "__main__":
    perform(main)
