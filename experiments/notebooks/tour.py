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
# # From a scan to a map of its errors
#
# One sparse scan goes in; a reconstruction and a standard deviation for every pixel come out. The
# example is simulated, so that the claim can be compared with the truth.

# %%
# %matplotlib inline
import os

import torch

import pdip
from pdip.report.viewer import Viewer
from pdip.scan import ellipses

quick = "PDIP_QUICK" in os.environ  # seconds instead of minutes, to see that it runs
path = "../../data/example/scan.npz"
settings = {"dip": {"restarts": 1}}  # one fit, as is the default for images as large as this one
if quick:
    settings = {
        "network": {"scales": 2, "channels": 4},
        "dip": {"max_steps": 20, "restarts": 1},
    }

# %%
scan = pdip.read_scan(path, image_size=12 if quick else None, view_step=3 if quick else 1)
truth = pdip.read_ground_truth(path, scan.grid)
result = pdip.reconstruct(scan, settings)
print(*result.assumptions, sep="\n")

# %% [markdown]
# Equal colours mean equal values: the truth and the reconstruction share a window, the standard
# deviation and the error another, unless their titles say that each has its own.

# %%
pdip.draw_overview(result.image, result.std, truth, scan.grid)

# %% [markdown]
# ## Where is it wrong?
#
# Pixels above the threshold light up. If the error bars are honest, 5 % of the pixels lie beyond
# 1.96. Click a pixel or drag a box for its mean ± std: the error of a mean is not the mean of the
# errors, as neighbours err alike.

# %%
Viewer(result.posterior, scan.grid, truth)

# %% [markdown]
# The same number in code, for any weights of the pixels:

# %%
weights = torch.zeros(scan.grid.shape)
weights[4:8, 4:8] = 1 / 16
mean, std = result.posterior.functional(weights)
print(f"mean of 16 pixels: {mean:.4g} ± {std:.2g} 1/mm")

# %% [markdown]
# ## What the data leave open
#
# Draws from the posterior are images that explain the scan equally well; its leading modes are the
# changes that the scan is least able to rule out.

# %%
draws = result.posterior.sample(2, generator=torch.Generator().manual_seed(0))
pdip.draw_overview(draws[0], (draws[1] - draws[0]).abs(), None, scan.grid)

# %%
modes = result.posterior.modes(2)
print("share of the variance:", [round(float(share), 3) for share in modes.share])

# %% [markdown]
# ## A stack of slices
#
# Three slices of an object that turns from one shape into another. Each fit goes on from the one
# of the slice before; `pdip.read_stack` gives the scans of a stack in a file.

# %%
grid = pdip.ImageGrid((10, 10) if quick else (20, 20))
views = 10 if quick else 20
beam = pdip.ParallelBeam([180 / views * view for view in range(views)], 3 * grid.shape[1] // 2)
ray = pdip.ray_transform(beam, grid)
generator = torch.Generator().manual_seed(0)
lowest, highest = ellipses(grid, generator), ellipses(grid, generator)
truths = [torch.lerp(lowest, highest, height) for height in (0.0, 0.5, 1.0)]
scans = [pdip.simulate(x, ray, noise_fraction=0.05, generator=generator) for x in truths]

results = []
for slice_scan in scans:
    before = results[-1].fit if results else None
    results.append(pdip.reconstruct(slice_scan, settings, before=before))
Viewer([x.posterior for x in results], grid, truths)
