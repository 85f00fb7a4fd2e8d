"""What a run or an experiment shows: its numbers and its figures."""

from pdip.report.arcs import draw_arcs, edge_scores
from pdip.report.calibration_figure import draw_calibration
from pdip.report.check import check_summary, check_warnings, draw_check
from pdip.report.comparison import draw_comparison
from pdip.report.design import draw_design
from pdip.report.factors import draw_factors, factors_table
from pdip.report.held_out import draw_held_out, held_out_record
from pdip.report.information import information
from pdip.report.maps import stored_map
from pdip.report.overview import draw_overview
from pdip.report.page import RunContents, run_page
from pdip.report.page_volume import VolumeContents, volume_page
from pdip.report.rotation_axis import draw_rotation_axis
from pdip.report.selection import draw_selection, picks_table
from pdip.report.simulation_figures import draw_expected_coverage, draw_repeated_noise
from pdip.report.summary import scores, summary
from pdip.report.volume import draw_volume, volume_summary

__all__ = [
    "RunContents",
    "VolumeContents",
    "check_summary",
    "check_warnings",
    "draw_arcs",
    "draw_calibration",
    "draw_check",
    "draw_comparison",
    "draw_design",
    "draw_expected_coverage",
    "draw_factors",
    "draw_held_out",
    "draw_overview",
    "draw_repeated_noise",
    "draw_rotation_axis",
    "draw_selection",
    "draw_volume",
    "edge_scores",
    "factors_table",
    "held_out_record",
    "information",
    "picks_table",
    "run_page",
    "scores",
    "stored_map",
    "summary",
    "volume_page",
    "volume_summary",
]
