"""
Where the rays run: angles, detector shift, cor
===============================================

Lengths are in mm, angles in degrees and counter-clockwise, the rotation axis is the origin, x
points right and y up. The rays below are those that the code computes, ``geometry.ray_lines()``:
if your set-up looks different, the numbers in your geometry file are wrong.
"""

import numpy as np

import pdip
from pdip.report.canvas import COLOURS, blank_figure

REACH = 34.0  # mm, what the pictures show

parallel = pdip.ParallelBeam([0.0, 30.0], 9, detector_pitch_mm=3.0, detector_shift_mm=6.0)
fan = pdip.FanBeam(
    [0.0, 30.0], 9, 3.0, source_origin_mm=30.0, origin_detector_mm=20.0, detector_shift_mm=6.0
)

# %%
# The detector has 9 elements of 3 mm. Its middle, c, lies 6 mm along +u from o, the point that the
# ray through the axis hits: ``detector_shift_mm`` is 6, and ``cor``, the index of o counted from 0,
# is (9 - 1) / 2 - 6 / 3 = 2. The view at 30 degrees is the one at 0 degrees, source and detector
# turned counter-clockwise together.

figure = blank_figure(9.5, 9.6)
for row, geometry in zip(figure.subplots(2, 2), (parallel, fan), strict=True):
    lines = geometry.ray_lines()
    for axis, angle_deg, normal_rad, offset in zip(row, geometry.angles_deg, *lines, strict=True):
        turn = np.deg2rad(angle_deg)
        along = np.array([np.sin(turn), -np.cos(turn)])
        across = np.array([np.cos(turn), np.sin(turn)])
        distance = getattr(geometry, "origin_detector_mm", 26.0)  # a parallel beam has none: any
        elements = -distance * along + geometry.detector_mm[:, None] * across
        for element, normal, s in zip(elements, normal_rad, offset, strict=True):
            foot = s * np.array([np.cos(normal), np.sin(normal)])  # the point nearest the axis
            ray = np.array([np.sin(normal), -np.cos(normal)])
            length = (element - foot) @ ray
            if isinstance(geometry, pdip.FanBeam):
                end = geometry.source_origin_mm * along
            else:
                end = foot + 26 * ray
            axis.plot(*np.transpose([foot + length * ray, end]), color="0.75", linewidth=0.8)
        axis.plot(*elements.T, "s", color=COLOURS[0], markersize=5, label="detector elements")
        if isinstance(geometry, pdip.FanBeam):
            axis.plot(*(geometry.source_origin_mm * along), "o", color=COLOURS[1], label="source")
        axis.plot(0, 0, "+", color="black", markersize=14, label="rotation axis")
        for name, u in (("o", 0.0), ("c", geometry.detector_shift_mm)):
            axis.annotate(
                name, -distance * along + u * across, -(distance + 3.5) * along + u * across,
                ha="center", va="center", fontsize=13,
            )  # fmt: skip
        start = -(distance + 6.0) * along
        axis.annotate("", start + 12 * across, start, arrowprops={"arrowstyle": "->"})
        axis.annotate("u", start + 13.5 * across, ha="center", va="center")
        name = "parallel" if geometry is parallel else "fan"
        axis.set(
            xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xlabel="x (mm)",
            ylabel="y (mm)", title=f"{name}, view at {angle_deg:g} degrees",
        )  # fmt: skip
        axis.legend(frameon=False, fontsize=8, loc="lower left")

# %%
# A shift of the wrong sign doubles every edge
# --------------------------------------------
#
# The scan below was taken with the shift above, scaled to 60 elements. The second picture is
# reconstructed with the same shift of the other sign, the third with angles that run the other way.
# If your first reconstruction looks like one of them, change that number.

import torch  # noqa: E402

from pdip.scan import shepp_logan  # noqa: E402

angles_deg = tuple(np.arange(0.0, 360.0, 4.0))
taken = pdip.FanBeam(angles_deg, 60, 0.5, 60.0, 20.0, detector_shift_mm=0.75)
grid = pdip.ImageGrid((48, 48), 0.4)
phantom = shepp_logan(grid)
scan = pdip.simulate(
    phantom, pdip.ray_transform(taken, grid), noise_fraction=0.02,
    generator=torch.Generator().manual_seed(0),
)  # fmt: skip
readings = {
    "as it was taken": taken,
    "shift of the other sign": pdip.FanBeam(angles_deg, 60, 0.5, 60.0, 20.0, -0.75),
    "angles clockwise": pdip.FanBeam(tuple(-a for a in angles_deg), 60, 0.5, 60.0, 20.0, 0.75),
}
wrong_readings = blank_figure(9.5, 3.4)
for axis, (title, geometry) in zip(wrong_readings.subplots(1, 3), readings.items(), strict=True):
    image = pdip.fbp(pdip.ray_transform(geometry, grid), scan.sinogram)
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
