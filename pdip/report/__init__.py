"""What a run shows: its numbers and one figure."""

from pdip.report.overview import draw_overview
from pdip.report.selection import draw_selection, picks_table
from pdip.report.summary import scores, summary
from pdip.report.volume import draw_volume, volume_summary

__all__ = [
    "draw_overview",
    "draw_selection",
    "draw_volume",
    "picks_table",
    "scores",
    "summary",
    "volume_summary",
]
