"""Documents to pages and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quantlab import files


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written."""

    json: Path
    markdown: Path
    html: Path


def _environment(autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("quantlab.report", "."),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "number": _number,
        "kib": _kib,
        "interval": _interval,
        "pvalue": _pvalue,
        "cell": _cell,
    }
    return environment


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _number(value: float | str, digits: int = 2) -> str:
    return value.replace("inf", "∞") if isinstance(value, str) else f"{value:.{digits}f}"


def _interval(value: Mapping[str, float] | None) -> str:
    return "–" if value is None else f"{value['points']:+.2f} ({value['low']:+.2f} to {value['high']:+.2f})"


def _pvalue(value: Mapping[str, float] | None) -> str:
    return "–" if value is None else f"{value['p']:.2g}"


def _kib(value: int) -> str:
    return f"{value / 1024:,.0f}"


def _cell(value: object) -> str:
    """Text inside a Markdown table cell."""
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def render_markdown(document: Mapping[str, Any]) -> str:
    """The document for a pull request: verdict, table, warnings, provenance."""
    return _environment(autoescape=False).get_template("report.md.j2").render(doc=document)


def render_html(document: Mapping[str, Any]) -> str:
    """One page with everything inside: no script, no network request. Names from the model are escaped."""
    from quantlab.report import plots  # matplotlib takes a second to import; Markdown and JSON do without

    calibration = document["calibration"]
    tensors = calibration["tensors"] if calibration else []
    images = {
        "quality": Markup(plots.plot_quality(document["comparison"]["models"])),
        "amax": Markup(plots.plot_amax(tensors) if tensors else ""),
        "histograms": Markup(plots.plot_histograms(tensors) if tensors else ""),
    }
    shown = len(plots.most_disputed(tensors)) if tensors else 0
    return _environment(autoescape=True).get_template("report.html.j2").render(doc=document, plots=images, shown=shown)


def write_report(document: Mapping[str, Any], folder: str | Path, name: str = "report") -> ReportPaths:
    """`name`.json, .md and .html into `folder`, which is made if needed."""
    folder = Path(folder)
    html, markdown = render_html(document), render_markdown(document)
    files.make_folder(folder)
    paths = ReportPaths(*(folder / f"{name}{suffix}" for suffix in (".json", ".md", ".html")))
    files.write_text(paths.json, json.dumps(document, indent=1, allow_nan=False) + "\n")
    files.write_text(paths.markdown, markdown)
    files.write_text(paths.html, html)
    return paths
