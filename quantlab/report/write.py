"""Documents to pages and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quantlab.comparison import Comparison
from quantlab.errors import ConfigError, expect_type
from quantlab.files import make_folder, together, write_text
from quantlab.plain_text import csv_text, markdown, printable
from quantlab.report.document import build_document
from quantlab.strict_json import json_text, parse_json


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written.

    Attributes:
        json: The document.
        markdown: For a pull request.
        html: The page.
        csv: A row per model.
    """

    json: Path
    markdown: Path
    html: Path
    csv: Path


def template_environment(autoescape: bool) -> Environment:
    """The templates of this folder and the filters that they use."""
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
        "cell": markdown,
        "fact": _fact,
        "signed": _signed,
    }
    return environment


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _number(value: float | str | None, digits: int = 2) -> str:
    if value is None:
        return "–"
    return value.replace("inf", "∞") if isinstance(value, str) else f"{value:.{digits}f}"


def _interval(value: Mapping[str, float] | None) -> str:
    return "–" if value is None else f"{value['points']:+.2f} ({value['low']:+.2f} to {value['high']:+.2f})"


def _pvalue(value: Mapping[str, float] | None) -> str:
    return "–" if value is None else f"{value['p']:.2g}"


def _kib(value: int | None) -> str:
    return "–" if value is None else f"{value / 1024:,.0f}"


def _fact(model: Mapping[str, Any], key: str, digits: int = 2) -> str:
    """A measured fact of a model, or a dash."""
    value = model["facts"].get(key)
    return "–" if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:+.{digits}f}"


def render_markdown(document: Mapping[str, Any]) -> str:
    """The document for a pull request: verdict, table, warnings, provenance."""
    return template_environment(autoescape=False).get_template("report.md.j2").render(doc=document)


def render_html(document: Mapping[str, Any]) -> str:
    """One page with everything inside: no network request. Names from the model are escaped."""
    from quantlab.report.plots import page as plots  # matplotlib takes a second to import; Markdown and JSON do without

    calibration, trace = document["calibration"], document["error_trace"]
    tensors = calibration["tensors"] if calibration else []
    models = document["comparison"]["models"]
    best = next((m for m in models if m["name"] == document["comparison"]["best"]), None)
    drawn = {
        "quality": plots.plot_quality(models),
        "tradeoff": plots.plot_tradeoff(models),
        "latency": plots.plot_latency(models),
        "error_trace": plots.plot_error_trace(trace, models) if trace and trace["tensors"] else "",
        "weights": plots.plot_weights(trace) if trace and trace["weights"] else "",
        "classes": plots.plot_classes(best) if best else "",
        "amax": plots.plot_amax(tensors) if tensors else "",
        "histograms": plots.plot_histograms(tensors) if tensors else "",
    }
    images = {name: Markup(svg) for name, svg in drawn.items()}
    shown = len(plots.most_disputed(tensors)) if tensors else 0
    template = template_environment(autoescape=True).get_template("report.html.j2")
    return template.render(doc=document, plots=images, shown=shown, best=best)


COLUMNS = (
    "name",
    "failed",
    "top1",
    "top5",
    "agreement",
    "metric",
    "retained",
    "sqnr_db",
    "runtime_sqnr_db",
    "size_bytes",
)


def render_csv(document: Mapping[str, Any]) -> str:
    """One row per model: COLUMNS, the interval of the accuracy difference, then every measured fact."""
    models = document["comparison"]["models"]
    facts = list(dict.fromkeys(key for m in models for key in m["facts"]))
    changes = ("points", "low", "high", "p")
    rows: list[list[object]] = [[*COLUMNS, *(f"top1_{key}" for key in changes), *facts]]
    for m in models:
        difference = m["top1_difference"] or {}
        values = [*(m[c] for c in COLUMNS), *(difference.get(k) for k in changes), *(m["facts"].get(f) for f in facts)]
        rows.append(values)
    return csv_text(rows)


def _legible(value: Any) -> Any:
    """Plain values whose texts have nothing but line breaks that is not printable: no page may hold it."""
    if isinstance(value, str):
        return value if value.isprintable() else "\n".join(map(printable, value.split("\n")))
    if isinstance(value, dict):
        return {_legible(key): _legible(one) for key, one in value.items()}
    return [_legible(one) for one in value] if isinstance(value, list) else value


def write_document(document: Mapping[str, Any], folder: Path, name: str = "report") -> ReportPaths:
    """Write a document and its pages.

    Args:
        document: See `build_document`.
        folder: Made if needed.
        name: Of the files, without suffix.

    Returns:
        `name`.json, .md, .html and .csv in `folder`.

    Raises:
        ConfigError: They cannot be written, or `name` is a path.
    """
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name:
        raise ConfigError(f"the name of a report is '{name}', expected a plain file name", hint="choose its folder")
    text = json_text(document)
    document = _legible(parse_json(text))  # file names that are not UTF-8 are letters there
    html, page = render_html(document), render_markdown(document)
    paths = ReportPaths(*(folder / f"{name}{suffix}" for suffix in (".json", ".md", ".html", ".csv")))
    rows = render_csv(document)
    with together():
        make_folder(folder)
        write_text(paths.json, text)
        write_text(paths.markdown, page)
        write_text(paths.html, html)
        write_text(paths.csv, rows)
    return paths


def write_report(comparison: Comparison, folder: str | Path, title: str = "INT8 against FP32") -> ReportPaths:
    """Write a comparison as a report: JSON, Markdown, HTML and CSV.

    Args:
        comparison: What `compare` gives.
        folder: Made if needed.
        title: Of the report.

    Returns:
        The files.

    Raises:
        ConfigError: They cannot be written, or `comparison` is something else.
    """
    expect_type(comparison, Comparison, "what is reported", "give what quantlab.compare returns")
    expect_type(folder, (str, Path), "the folder of the report", "give its path")
    return write_document(build_document(title, comparison), Path(folder))
