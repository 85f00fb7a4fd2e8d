"""What a run shows: its numbers and one figure."""

from pdip.report.calibration_figure import draw_calibration
from pdip.report.overview import draw_overview
from pdip.report.simulation_figures import draw_expected_coverage, draw_repeated_noise
from pdip.report.summary import scores, summary
from pdip.report.volume import draw_volume, volume_summary

__all__ = [
    "draw_calibration",
    "draw_expected_coverage",
    "draw_overview",
    "draw_repeated_noise",
    "draw_volume",
    "scores",
    "summary",
    "volume_summary",
]
