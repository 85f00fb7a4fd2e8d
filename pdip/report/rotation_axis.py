"""An estimated rotation axis: before, after, and what no image explained at each place."""

from matplotlib.figure import Figure

from pdip.report.canvas import COLOURS, blank_figure
from pdip.report.overview import IMAGE_MAP, UNIT, window
from pdip.scan import RotationAxis


def draw_rotation_axis(axis: RotationAxis) -> Figure:
    """Small reconstructions with the axis on the middle of the detector and where it was found.

    Both share one window. Right: what no image explained of the views at every index tried,
    with the estimate and twice its standard error.
    """
    figure = blank_figure(12.0, 3.9)
    axes = figure.subplots(1, 3)
    low, high = window(axis.after.numpy())
    titles = (f"before: cor {axis.centred:g}, the middle", f"after: cor {axis.cor:.2f}")
    half = axis.after.shape[0] * axis.pixel_mm / 2
    for image, title, panel in zip((axis.before, axis.after), titles, axes, strict=False):
        picture = panel.imshow(
            image.numpy(), cmap=IMAGE_MAP, vmin=low, vmax=high, extent=(-half, half, -half, half)
        )
        panel.set(title=title, xlabel="x (mm)", ylabel="y (mm)")
        figure.colorbar(picture, ax=panel, label=UNIT, shrink=0.9)
    curve = axes[2]
    curve.plot(axis.tried, axis.errors, color=COLOURS[0], marker="o", markersize=3)
    error = 2 * axis.standard_error
    curve.axvspan(axis.cor - error, axis.cor + error, color=COLOURS[1], alpha=0.3, linewidth=0)
    curve.axvline(axis.cor, color=COLOURS[1])
    curve.axvline(axis.centred, color="0.5", linestyle=":")
    curve.set(
        title=f"cor = {axis.cor:.2f} ± {axis.standard_error:.2f}",
        xlabel="cor (detector index, as in the file)",
        ylabel="part of the views that no image explains",
        ylim=(0, None),
    )
    return figure
