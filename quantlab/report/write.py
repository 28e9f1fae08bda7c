"""Documents to pages and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quantlab.comparison import AccuracyDifference, Comparison
from quantlab.errors import ConfigError, expect_type
from quantlab.files import make_folder, together, write_text
from quantlab.plain_text import csv_text, markdown, printable
from quantlab.report.class_rows import PAIRS, Share, change_matrix, class_name, class_rows, outcome
from quantlab.report.document import build_document
from quantlab.report.format import SUFFIXES
from quantlab.report.layers import reasons_of
from quantlab.strict_json import json_text, parse_json

ON_PAPER = 100
"""Rows of the classes that are printed."""
MOST = 10
"""Classes, and pairs of them, in the Markdown; all of them are on the page."""


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written.

    Attributes:
        json: The document.
        markdown: For a pull request.
        html: The page.
        csv: A row per model.
        samples: A row per sample that suffers most, of every model, as CSV.
    """

    json: Path
    markdown: Path
    html: Path
    csv: Path
    samples: Path


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
        "metric_interval": _metric_interval,
        "figures": _figures,
        "small_share": _small_share,
        "share": _share,
        "points": _points,
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


def _metric_interval(value: Mapping[str, float] | None) -> str:
    return "–" if value is None else f"{value['value']:+.4g} ({value['low']:+.4g} to {value['high']:+.4g})"


def _figures(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _small_share(value: float | None) -> str:
    """A share that may be far below a percent."""
    return "–" if value is None else f"{100 * value:.3g} %"


def _share(value: Share) -> str:
    return f"{100 * value.value:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"


def _points(value: AccuracyDifference) -> str:
    return f"{value.points:+.1f} ({value.low:+.1f} to {value.high:+.1f})"


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
    """The document for a pull request: verdict, table, warnings, samples, classes, provenance."""
    template = template_environment(autoescape=False).get_template("report.md.j2")
    return template.render(**_view(document), most=MOST)


def render_html(document: Mapping[str, Any]) -> str:
    """One page with everything inside: no network request. Names from the model are escaped."""
    from quantlab.report.plots import page as plots  # matplotlib takes a second to import; Markdown and JSON do without
    from quantlab.report.plots.classes import shown_classes

    view = _view(document)
    best, layers, trace = view["best"], document["layers"], document["error_trace"]
    images = {name: Markup(svg) for name, svg in plots.draw(document, best, view["classes"]).items()}
    model = layers["model"] if layers else None
    traced = {t["name"]: t["sqnr_db"].get(model) for t in trace["tensors"]} if trace else {}
    template = template_environment(autoescape=True).get_template("report.html.j2")
    return template.render(
        **view,
        plots=images,
        shown=plots.disputed(document),
        drawn_classes=len(shown_classes(view["classes"])),
        on_paper=ON_PAPER,
        algorithms=plots.algorithms(document),
        matrix=change_matrix(document, best) if best else None,
        pairs=PAIRS,
        traced=traced,
    )


def _view(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document, and what both pages read off it."""
    comparison = document["comparison"]
    models = comparison["models"]
    best = next((m for m in models if m["name"] == comparison["best"]), None)
    return {
        "doc": document,
        "best": best,
        "classes": class_rows(document, best) if best else [],
        "class_name": partial(class_name, document),
        "outcome": outcome,
        "reasons": reasons_of(document["layers"]["rows"]) if document["layers"] else [],
        "measure": "accuracy" if models[0]["metric"] is None else comparison["metric_name"] or "metric",
    }


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


def render_samples(document: Mapping[str, Any]) -> str:
    """The samples that suffer most as CSV: a row per model and sample, with the names of file and classes."""
    rows: list[list[object]] = [
        ["model", "sample", "file", "sqnr_db", "label", "label_name", "fp32_class", "fp32_name", "class", "class_name"]
    ]
    names = document["comparison"]["class_names"]
    for model in document["comparison"]["models"]:
        for w in model["worst"]:
            classes = [w[key] for key in ("label", "fp32_class", "quantized_class")]
            named = [value for c in classes for value in (c, names.get(str(c)))]
            rows.append([model["name"], w["index"], w["file"], w["sqnr_db"], *named])
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
        `name`.json, .md, .html, .csv and .samples.csv in `folder`.

    Raises:
        ConfigError: They cannot be written, or `name` is a path.
    """
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name:
        raise ConfigError(f"the name of a report is '{name}', expected a plain file name", hint="choose its folder")
    text = json_text(document)
    document = _legible(parse_json(text))  # file names that are not UTF-8 are letters there
    html, page = render_html(document), render_markdown(document)
    paths = ReportPaths(*(folder / f"{name}{suffix}" for suffix in SUFFIXES))
    rows, samples = render_csv(document), render_samples(document)
    with together():
        make_folder(folder)
        write_text(paths.json, text)
        write_text(paths.markdown, page)
        write_text(paths.html, html)
        write_text(paths.csv, rows)
        write_text(paths.samples, samples)
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
