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
# # Your own scan
#
# Put the name of your file here; `data/README.md` lists the formats. A `.npy` of line integrals
# (views, detectors) needs a `.yaml` of its geometry beside it.

# %%
# %matplotlib inline
import os

import torch

import pdip
from pdip.report import draw_held_out, held_out_record, stored_map
from pdip.report.viewer import Viewer

path = "../../data/example/scan.npz"
image_size = None  # pixels along a side; None as the file or the field of view says
settings = {}  # for example {"dip": {"max_steps": 2000}}
if "PDIP_QUICK" in os.environ:  # seconds instead of minutes, to see that it runs
    image_size = 12
    settings = {"network": {"scales": 2, "channels": 4}, "dip": {"max_steps": 20}}

# %% [markdown]
# What the file did not say was assumed. Read these sentences: a wrong axis or unit spoils all that
# follows.

# %%
scan = pdip.read_scan(path, image_size=image_size)
print(f"{scan.geometry.num_views} views, {scan.geometry.num_detectors} detectors, {scan.grid}")
print(*scan.assumptions, sep="\n")

# %% [markdown]
# ## First a check: predict every fifth view from the others
#
# Reduced χ² near 1 and points on the diagonal mean that image, noise level and geometry fit
# together. Far above 1, look at the axis, the angles and beam hardening before you trust the error
# bars.

# %%
numbers = range(scan.geometry.num_views)
used = scan.select([number for number in numbers if number % 5])
withheld = scan.select([number for number in numbers if number % 5 == 0])
check = pdip.reconstruct(used, settings)
rays = pdip.withheld_rays(
    check.posterior,
    withheld,
    pdip.ray_transform(withheld.geometry, withheld.grid),
    check.noise_std_by_evidence,
    generator=torch.Generator().manual_seed(0),
)
maps = {"image": stored_map(check.image), "std": stored_map(check.std)}
record = {"half_mm": scan.grid.size_mm[0] / 2, "held_out": held_out_record(rays), **maps}
draw_held_out([{"name": "check", **record}])

# %% [markdown]
# ## Then the reconstruction from all views

# %%
result = pdip.reconstruct(scan, settings)
Viewer(result.posterior, scan.grid)

# %% [markdown]
# From the command line, with all files kept:
# `python reconstruct.py --sinogram scan.npz --out runs/mine`.
