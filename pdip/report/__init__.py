"""What a run or an experiment shows: its numbers and its figures."""

from pdip.report.design import draw_design
from pdip.report.overview import draw_overview
from pdip.report.summary import scores, summary
from pdip.report.volume import draw_volume, volume_summary

__all__ = [
    "draw_design",
    "draw_overview",
    "draw_volume",
    "scores",
    "summary",
    "volume_summary",
]
