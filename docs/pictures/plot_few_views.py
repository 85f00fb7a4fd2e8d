"""
What few views leave open
=========================

A scan of few views does not determine its image. Filtered backprojection shows it as streaks; the
second picture shows it directly.
"""

import torch

import pdip
from pdip.report.canvas import blank_figure
from pdip.scan import walnut

grid = pdip.ImageGrid((48, 48), 1.0)
truth = walnut(grid, torch.Generator().manual_seed(0))

figure = blank_figure(9.5, 3.4)
for axis, views in zip(figure.subplots(1, 3), (90, 20, 6), strict=True):
    beam = pdip.ParallelBeam([180.0 * k / views for k in range(views)], 69)
    ray = pdip.ray_transform(beam, grid)
    axis.imshow(pdip.fbp(ray, ray.forward(truth)), cmap="gray", vmin=0, vmax=1)
    axis.set(title=f"filtered backprojection, {views} views", xticks=[], yticks=[])

# %%
# Three images, one scan
# ----------------------
#
# With 6 views of 69 elements there are at most 414 equations for 2 304 pixels. Adding to the
# object anything that A maps to zero, a part of the null space, changes no ray. The three images
# below have the same 6 projections up to rounding. Which of them is likely, only a prior can say,
# here the network. No test on rays can tell whether the prior is right there.

matrix = ray.dense().double()
seen = torch.linalg.svd(matrix, full_matrices=False)
rows = seen.Vh[seen.S > 1e-6 * seen.S[0]]
ghosts = torch.randn(2, truth.numel(), generator=torch.Generator().manual_seed(1)).double()
ghosts = 0.15 * (ghosts - ghosts @ rows.mT @ rows)
images = truth.double().flatten() + torch.cat([torch.zeros(1, truth.numel()), ghosts])

null_space = blank_figure(9.5, 3.4)
for axis, image in zip(null_space.subplots(1, 3), images, strict=True):
    change = (matrix @ image - matrix @ images[0]).abs().max() / (matrix @ images[0]).max()
    axis.imshow(image.reshape(grid.shape), cmap="gray", vmin=0, vmax=1)
    axis.set(title=f"rays differ by {change:.0e} at most", xticks=[], yticks=[])
