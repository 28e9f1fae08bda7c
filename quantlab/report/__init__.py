"""A comparison as JSON (the source of truth), and from that JSON as Markdown, CSV and one self-contained HTML page."""

from quantlab.report.baseline import load_document
from quantlab.report.document import Evidence, build_document
from quantlab.report.write import ReportPaths, render_csv, render_html, render_markdown, write_report

__all__ = [
    "Evidence",
    "ReportPaths",
    "build_document",
    "load_document",
    "render_csv",
    "render_html",
    "render_markdown",
    "write_report",
]
