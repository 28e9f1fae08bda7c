"""A comparison as JSON (the source of truth), and from that JSON as Markdown, CSV and one self-contained HTML page."""

from quantlab.arguments import guard
from quantlab.report.baseline import load_document
from quantlab.report.document import Evidence, build_document
from quantlab.report.from_comparison import ComparisonReport, ComparisonRequest, report_comparison
from quantlab.report.sensitivity_plot import sensitivity_image
from quantlab.report.tuning import write_tuning
from quantlab.report.write import ReportPaths, render_csv, render_html, render_markdown, write_document, write_report

__all__ = [
    "ComparisonReport",
    "ComparisonRequest",
    "Evidence",
    "ReportPaths",
    "build_document",
    "load_document",
    "render_csv",
    "render_html",
    "render_markdown",
    "report_comparison",
    "sensitivity_image",
    "write_document",
    "write_report",
    "write_tuning",
]

guard(globals())
