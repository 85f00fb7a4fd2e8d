"""Do scores without ground truth pick the settings that are best against it? KMNIST, rectangles.

    python experiments/selection.py --data DIR --views 20 --images 0 1 2
    python experiments/selection.py --rectangles --along 250 500 1000 2000

Every candidate is fitted without 15 % of the rays, as `pdip select` does, and on all rays, for the
evidences and the truth; with `--along`, stopping points of one fit. JSON lines and figure: `--out`.
"""

import argparse
import json
from pathlib import Path

import torch
from kmnist_defaults import scan_of

import pdip
from pdip.candidates import grid, merged
from pdip.kept import Along, Kept
from pdip.report import draw_selection, picks_table, scores
from pdip.result import mean_of
from pdip.scan import rectangles
from pdip.settings import Settings

EVIDENCES = {"profile_evidence": pdip.Profile(), "network_weights_evidence": pdip.NetworkWeights()}
OVER = ["network.channels=8,32", "dip.tv_weight=null,0.1"]
QUICK = {
    "network": {"scales": 2, "channels": 4},
    "dip": {"max_steps": 30, "start": "fbp", "noise_std": 0.2},
    "evidence": {"max_evaluations": 8},
}


def quick_scan(seed: int):
    """A few rays through random rectangles on a tiny grid."""
    beam = pdip.ParallelBeam([30.0 * view for view in range(6)], 15)
    ray = pdip.ray_transform(beam, pdip.ImageGrid((10, 10)))
    truth = rectangles(ray.grid, generator := torch.Generator().manual_seed(seed)).float()
    return pdip.simulate(truth, ray, noise_fraction=0.05, generator=generator), truth


def against_truth(scan, truth, settings: Settings, checkpoints) -> dict:
    """The evidences of a fit of all rays, and how near it comes to the truth."""
    result = pdip.reconstruct(scan, settings, checkpoints=checkpoints)
    row = {
        name: mean_of(float(pdip.log_evidence(e.model, scan, objective=o)) for e in result.evidence)
        for name, o in EVIDENCES.items()
    }
    found = scores(result, truth)
    return row | {"psnr": found["psnr"], "log_likelihood": found["log_likelihood_per_pixel"]}


def rows_of(name: str, scan, truth, candidates: dict[str, Settings], along: bool) -> list[dict]:
    """One row for each candidate on one scan."""
    kept = Along if along else Kept
    found, whole, rows = pdip.select(scan, candidates, kept=kept()), kept(), []
    for score, settings in zip(found.scores, candidates.values(), strict=True):
        row = {"scan": name, "candidate": score.name, "held_out_score": score.mean}
        row["conditional_evidence"] = score.conditional_evidence
        row["margin"], row["margin_standard_error"] = vars(found.margin(score)).values()
        rows.append(row | against_truth(scan, truth, settings, whole.checkpoints(settings)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder of the KMNIST images and cases")
    source.add_argument("--rectangles", action="store_true", help="random rectangles instead")
    source.add_argument("--quick", action="store_true", help="one tiny scan, a tiny network")
    parser.add_argument("--views", type=int, nargs="+", default=[20])
    parser.add_argument("--images", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max-steps", type=int, default=4000)
    parser.add_argument("--restarts", type=int, default=1)
    parser.add_argument("--over", action="append", help="a setting and its values, as pdip select")
    parser.add_argument("--along", type=int, nargs="+", help="compare these stopping points")
    parser.add_argument("--out", type=Path, default=Path("runs/selection.jsonl"))
    given = parser.parse_args()
    base = {"dip": {"restarts": given.restarts, "max_steps": given.max_steps}}
    over = given.over or OVER
    if given.quick:
        base, over = merged(base, QUICK), ["network.channels=2,4"]
    if given.along:
        over = [f"dip.max_steps={','.join(map(str, sorted(given.along)))}"]
    candidates = {name: Settings.of(merged(base, own)) for name, own in grid(over).items()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for image in given.images[:1] if given.quick else given.images:
        for views in given.views:
            scan, truth = quick_scan(image) if given.quick else scan_of(given.data, views, image)
            name = f"{'kmnist' if given.data else 'rectangles'} {image}, {len(scan.sinogram)} views"
            with given.out.open("a") as file:
                for row in rows_of(name, scan, truth, candidates, bool(given.along)):
                    file.write(json.dumps(row) + "\n")
    rows = [json.loads(line) for line in given.out.read_text().splitlines()]
    print(picks_table(rows))
    draw_selection(rows).savefig(given.out.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
