"""
What right, too narrow and too wide error bars look like
========================================================

Here the errors are drawn at random with a std that is known, so that it is known which of the
claims is right: the std itself, half of it, and twice. ``pdip.calibration.evaluate`` scores each
against the truth, ``pdip.report.draw_calibration`` shows the scores.
"""

import torch

import pdip
from pdip.report import draw_calibration
from pdip.scan import walnut

grid = pdip.ImageGrid((64, 64), 1.0)
generator = torch.Generator().manual_seed(0)
truth = walnut(grid, generator)
std = 0.02 + 0.06 * truth
image = truth + std * torch.randn(truth.shape, generator=generator)

claims = {"half the std": 0.5 * std, "the std": std, "twice the std": 2 * std}
scores = {name: pdip.calibration.evaluate(image, claim, truth) for name, claim in claims.items()}
for name, found in scores.items():
    print(f"{name}: {found.coverage_95:.1%} of the pixels within 1.96 std")

# %%
# Grey lines are where error bars that are right lie. Coverage below its line is too narrow, above
# it too wide. Sparsification does not change: it sees the order of the std, not its scale.

figure = draw_calibration({name: found.as_dict() for name, found in scores.items()})
