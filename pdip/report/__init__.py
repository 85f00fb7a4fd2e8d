"""What a run shows: its numbers and one figure."""

from pdip.report.check import check_summary, draw_check
from pdip.report.overview import draw_overview
from pdip.report.summary import scores, summary
from pdip.report.volume import draw_volume, volume_summary

__all__ = [
    "check_summary",
    "draw_check",
    "draw_overview",
    "draw_volume",
    "scores",
    "summary",
    "volume_summary",
]
