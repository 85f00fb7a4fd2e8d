"""What a run shows: its numbers and one figure."""

from pdip.report.overview import draw_overview
from pdip.report.summary import scores, summary

__all__ = ["draw_overview", "scores", "summary"]
