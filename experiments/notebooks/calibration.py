# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Are the error bars honest?
#
# Error maps beside standard deviations, coverage at every level, and the check that needs no truth:
# views that were withheld.

# %%
# %matplotlib inline
import os

import torch

import pdip
from pdip.report import draw_held_out, held_out_record, stored_map
from pdip.report.canvas import blank_figure, draw_means
from pdip.scan import rectangles

quick = "PDIP_QUICK" in os.environ  # seconds instead of minutes, to see that it runs
side, count, settings = 28, 3, {}
if quick:
    side, count = 10, 1
    settings = {
        "network": {"scales": 2, "channels": 4},
        "dip": {"max_steps": 20, "restarts": 1},
    }

# %% [markdown]
# ## The scans
#
# Random rectangles with 40 views and 5 % noise; every second view is used, the others are withheld.

# %%
beam = pdip.ParallelBeam([4.5 * view for view in range(40)], int(1.45 * side) | 1)
grid = pdip.ImageGrid((side, side))
ray = pdip.ray_transform(beam, grid)
generator = torch.Generator().manual_seed(0)
truths = [rectangles(grid, generator) for _ in range(count)]
scans = [pdip.simulate(x, ray, noise_fraction=0.05, generator=generator) for x in truths]
results = [pdip.reconstruct(scan.every(2), settings) for scan in scans]

# %%
pdip.draw_overview(results[0].image, results[0].std, truths[0], grid)

# %% [markdown]
# ## Coverage
#
# The share of pixels within the central interval of each probability. On the dashed line the error
# bars keep their word; above it they are too wide, below too narrow.

# %%
levels = [0.1 * k for k in range(1, 10)] + [0.95, 0.99]
found = {
    level: [
        pdip.coverage(result.image, result.std, truth, level)
        for result, truth in zip(results, truths, strict=True)
    ]
    for level in levels
}
figure = blank_figure(4, 3.6)
axis = figure.subplots()
axis.axline((0, 0), slope=1, color="0.5", linestyle="--")
draw_means(axis, {"pdip": found}, xlabel="claimed probability", ylabel="share of pixels within")
figure

# %% [markdown]
# ## Withheld views
#
# The posterior predicts each withheld ray with its own standard deviation. No truth is needed, so
# that this check works on your own scan.

# %%
rows = []
for number, (scan, result, truth) in enumerate(zip(scans, results, truths, strict=True)):
    withheld = scan.select(range(1, 40, 2))
    rays = pdip.withheld_rays(
        result.posterior,
        withheld,
        pdip.ray_transform(withheld.geometry, grid),
        result.noise_std_by_evidence,
        generator=torch.Generator().manual_seed(0),
    )
    found = held_out_record(rays)
    maps = {"image": result.image, "std": result.std, "reference": truth}
    maps = {name: stored_map(values) for name, values in maps.items()}
    rows.append({"name": f"object {number}", "half_mm": side / 2, "held_out": found, **maps})
draw_held_out(rows)
