"""A comparison as JSON (the source of truth), and from that JSON as Markdown and one self-contained HTML page."""

from quantlab.report.document import build_document
from quantlab.report.write import ReportPaths, render_html, render_markdown, write_report

__all__ = ["ReportPaths", "build_document", "render_html", "render_markdown", "write_report"]
