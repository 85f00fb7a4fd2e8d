"""How good are image and error bars on real scans? Sparse views of lotus, HTC 2022 and tooth.

    python experiments/real_scans.py --data DIR --views 60

The views used are spread evenly over those of the scan; the others are withheld. Scored against
the reference, which is made of all views (and shares their noise and artefacts), and against the
withheld projections, which need no reference: z = (y - A x) / √(diag(A Σ Aᵀ) + σ²). Beside it CGLS
at the iteration that is best against the reference. Rows are resumed; `--quick` needs no data.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

import pdip
from pdip.experiment import QUICK, Rows, save_figure, true_image
from pdip.experiment_command import command_line, parsed_or_quick, perform, positive
from pdip.ray.cgls import cgls
from pdip.report import draw_held_out, held_out_record, scores, stored_map
from pdip.report.experiment_tables import flat, markdown_table
from pdip.scan import walnut

SCANS = {"lotus": "lotus/lotus_small.npz", "htc2022": "htc2022/ta_small.npz",
         "tooth": "tooth/tooth_row0_small.npz"}  # fmt: skip
TABLE = (
    "psnr", "relative_l2", "cgls.relative_l2", "coverage_95", "noise_std_by_evidence",
    "held_out.predicted.chi_squared.value", "held_out.predicted.coverage.0.95.value",
)  # fmt: skip
TINY = {"scans": ["walnut"], "views": 9, "image_size": 24}


def read(name: str, given):
    """The whole scan and its reference."""
    if not given.quick:
        scan = pdip.read_scan(given.data / SCANS[name], image_size=given.image_size)
        return scan, true_image(given.data / SCANS[name], scan.grid)
    beam, grid = pdip.FanBeam(range(0, 360, 10), 36, 0.8, 540, 90), pdip.ImageGrid((24, 24))
    generator, ray = torch.Generator().manual_seed(0), pdip.ray_transform(beam, grid)
    truth = 0.05 * walnut(grid, generator)
    return pdip.simulate(truth, ray, noise_fraction=0.03, generator=generator), truth


def split(scan: pdip.Scan, count: int) -> tuple[pdip.Scan, pdip.Scan]:
    """Evenly spread views, and the others."""
    total = scan.geometry.num_views
    used = [total * view // count for view in range(count)]
    return scan.select(used), scan.select(sorted(set(range(total)) - set(used)))


def measured(names: list[str], given, settings: pdip.Settings) -> Iterator[dict]:
    """Scores of the reconstruction of some views of each scan, and its maps."""
    for name in names:
        scan, reference = read(name, given)
        used, held_out = split(scan, given.views)
        result = pdip.reconstruct(used, settings)
        iterates = cgls(pdip.ray_transform(used.geometry, used.grid), used.sinogram, iterations=40)
        errors = [pdip.relative_l2(image, reference) for image in iterates]
        ray = pdip.ray_transform(held_out.geometry, held_out.grid)
        noise_std, generator = result.noise_std_by_evidence, torch.Generator().manual_seed(0)
        rays = pdip.withheld_rays(result.posterior, held_out, ray, noise_std, generator=generator)
        maps = {"image": result.image, "std": result.std, "reference": reference}
        yield {
            **scores(result, reference),
            "cgls": {"relative_l2": min(errors), "iterations": 1 + errors.index(min(errors))},
            "noise_std": result.fit.noise_std,
            "noise_std_by_evidence": noise_std,
            "held_out": held_out_record(rays),
            "seconds": {stage: cost.seconds for stage, cost in result.stages.items()},
            "assumptions": result.assumptions,
            "half_mm": used.grid.size_mm[0] / 2,
            **{which: stored_map(values) for which, values in maps.items()},
        }


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the scans")
    parser.add_argument("--scans", nargs="+", choices=SCANS, default=list(SCANS))
    parser.add_argument("--views", type=positive, default=60)
    parser.add_argument("--image-size", type=positive, default=128, help="pixels along a side")
    parser.add_argument("--max-steps", type=positive, default=4000, help="of each fit")
    given = parsed_or_quick(parser, TINY)
    settings = pdip.Settings.of(QUICK if given.quick else {"dip": {"max_steps": given.max_steps}})
    setting = {"views": given.views, "size": given.image_size, "settings": settings.resolved()}
    keys = {name: setting | {"name": name} for name in given.scans}
    rows = Rows(Path("runs", "quick" if given.quick else "", "real_scans.jsonl"))
    shown = rows.complete(keys, partial(measured, given=given, settings=settings))
    print(markdown_table(map(flat, shown), ("name", "views"), TABLE))
    save_figure(draw_held_out(shown), rows.path)


if __name__ == "__main__":
    perform(main)
