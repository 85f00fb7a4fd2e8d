"""Does the std grow where nothing was measured? Discs with holes, seen over a limited arc.

    python experiments/limited_angle.py --data DIR

With `--data`: arcs of the full scan `ta_small.npz`, whose reference is made of all views, and the
four discs of `limited_angle.npz`, which have none (their edges are those of the reconstruction).
Without: a simulated disc in the same scanner. An edge is seen where a ray runs along it; printed
are the mean std and error of edges that are seen (within 5 degrees) and that are not (beyond 20),
the coverage of each, and the rank correlation of std and |error|. Finished rows are gone on from.
"""

import json
from pathlib import Path

import numpy as np
import torch

import pdip
from pdip.experiment import QUICK, Rows, save_figure
from pdip.experiment_command import command_line, parsed_or_quick, perform, positive
from pdip.report import draw_arcs, edge_scores, stored_map
from pdip.scan import drilled_disc, edge_visibility
from pdip.settings import Settings, plain

BINNING = 4  # detector elements of limited_angle.npz, as in ta_small.npz
TINY = {"data": None, "size": 24, "view_step": 10, "arcs": [60], "max_steps": 60}


def full_scan(given):
    """A scan over 360 views, one a degree, and its reference."""
    if given.data is not None:
        path = given.data / "ta_small.npz"
        scan = pdip.read_scan(path, image_size=given.size)
        return scan, pdip.read_ground_truth(path, scan.grid)
    grid, detectors = pdip.ImageGrid((given.size, given.size), 76 / given.size), given.size + 12
    beam = pdip.FanBeam(range(360), detectors, 112 / detectors, 410.66, 143.08)
    generator, ray = torch.Generator().manual_seed(0), pdip.ray_transform(beam, grid)
    truth = 0.04 * drilled_disc(grid, generator)
    return pdip.simulate(truth, ray, noise_fraction=0.02, generator=generator), truth


def discs(path: Path, grid: pdip.ImageGrid, step: int):
    """Name and scan of every disc in the file, its detector elements averaged in fours."""
    file = np.load(path)
    distances = (float(file["source_origin_mm"]), float(file["origin_detector_mm"]))
    cor = (float(file["cor"]) - (BINNING - 1) / 2) / BINNING
    for name in sorted(key.removesuffix("_sinogram") for key in file if "_sinogram" in key):
        sinogram = file[f"{name}_sinogram"]
        sinogram = sinogram.reshape(len(sinogram), -1, BINNING).mean(-1)
        angles, pitch = np.rad2deg(file[f"{name}_angles"]), BINNING * float(file["det_pixel_mm"])
        beam = pdip.FanBeam.from_cor(angles, sinogram.shape[1], pitch, *distances, cor=cor)
        yield f"{name}, {np.ptp(angles):.0f}°", pdip.Scan(sinogram, beam, grid).every(2 * step)


def cases(given):
    scan, truth = full_scan(given)
    for arc in given.arcs:
        views = range(0, arc, given.view_step)
        yield f"{'disc' if given.data is None else 'ta'}, {arc}°", scan.select(views), truth
    if given.data is not None:
        for name, part in discs(given.data / "limited_angle.npz", scan.grid, given.view_step):
            yield name, part, None


def measure(scan, truth, settings) -> dict:
    """The maps, and std, error and coverage of edges by their angle from the nearest ray."""
    result = pdip.reconstruct(scan, settings)
    image, std = result.image.cpu(), result.std.cpu().float()
    edges = edge_visibility(image if truth is None else truth, scan.geometry, scan.grid)
    maps = {"image": image, "std": std} | ({} if truth is None else {"reference": truth})
    maps = {name: stored_map(values) for name, values in maps.items()}
    return edge_scores(image, std, truth, *edges) | maps | {"half_mm": scan.grid.size_mm[0] / 2}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--data", type=Path, help="folder of the HTC 2022 scans")
    parser.add_argument("--arcs", type=positive, nargs="+", default=[30, 60, 90, 180], help="in °")
    parser.add_argument("--size", type=positive, default=128, help="pixels along a side")
    parser.add_argument("--view-step", type=positive, default=2, help="degrees from view to view")
    parser.add_argument("--max-steps", type=positive, default=4000, help="of each fit")
    given = parsed_or_quick(parser, TINY)
    settings = QUICK if given.quick else {"dip": {"max_steps": given.max_steps}}
    resolved = {"settings": plain(Settings.of(settings).resolved())}
    rows = Rows(Path("runs", "quick" if given.quick else "", "limited_angle.jsonl"))
    shown = []
    for name, scan, truth in cases(given):
        key = {"name": name, "size": given.size, "view_step": given.view_step} | resolved
        if rows.find(key) is None:
            rows.append(key | measure(scan, truth, settings))
        shown.append(rows.find(key))
        numbers = ("name", "seen", "unseen", "flat_std", "rank_correlation", "relative_l2")
        print(json.dumps({number: shown[-1][number] for number in numbers}), flush=True)
    save_figure(draw_arcs(shown), rows.path)


if __name__ == "__main__":
    perform(main)
