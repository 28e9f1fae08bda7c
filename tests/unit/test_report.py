"""Pages from the JSON: complete, self-contained, escaped."""

from __future__ import annotations

import copy
import dataclasses
import html.parser
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantlab
from models import conv_net, image_batches, labelled, parse, quantized
from quantlab.api import calibrate_all
from quantlab.comparison import trace_error
from quantlab.errors import ConfigError
from quantlab.observers import OBSERVERS
from quantlab.ort import Session
from quantlab.qdq import layers_of
from quantlab.report import (
    Evidence,
    ReportPaths,
    build_document,
    render_csv,
    render_html,
    render_markdown,
    write_document,
    write_report,
)

EVIL = '<script>alert("x")</script>|`'


ALGORITHMS = {name: OBSERVERS[name] for name in ("minmax", "mse")}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    run = calibrate_all(conv_net(), image_batches(), ALGORITHMS)
    quantized = {name: quantlab.quantize(conv_net(), table) for name, table in run.tables.items()}
    models = {n: q.model for n, q in quantized.items()} | {EVIL: quantized["mse"].model}
    result = quantlab.compare(conv_net(), models, image_batches(2, seed=9))
    traces = {n: trace_error(conv_net(), q.model, image_batches(1)) for n, q in quantized.items()}
    layers = layers_of(quantized["mse"].model, quantized["mse"].placement)
    evidence = Evidence(run, graph="mse", layers=layers, traces=traces)
    return build_document("A title", result, evidence, ["quantlab", "x"], [EVIL])


@pytest.fixture(scope="module")
def written(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return write_document(document, tmp_path_factory.mktemp("report") / "new" / "folder")


class Page(html.parser.HTMLParser):
    VOID = frozenset({"meta", "br", "link", "img", "path", "use"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.urls: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.urls.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_document_is_json_and_has_every_model_and_tensor(document: dict[str, Any]) -> None:
    again = json.loads(json.dumps(document, allow_nan=False))
    assert [m["name"] for m in again["comparison"]["models"]] == ["fp32", *ALGORITHMS, EVIL]
    assert [t["name"] for t in again["calibration"]["tensors"]] == ["image", "r", "t", "f"]
    for tensor in again["calibration"]["tensors"]:
        assert list(tensor["amax"]) == list(ALGORITHMS)
        assert all(0 < amax <= tensor["range"] * (1 + 2**-24) for amax in tensor["amax"].values())  # amax is float32
    image = next(t for t in again["calibration"]["tensors"] if t["name"] == "image")
    x = np.concatenate([batch["image"] for batch in image_batches()])
    assert sum(image["counts"]) == x.size
    assert image["amax"]["minmax"] == pytest.approx(np.abs(x).max(), rel=1e-7)
    assert again["provenance"]["calibration"]["samples"] == 24


def test_html_is_well_formed_self_contained_and_escaped(document: dict[str, Any], written: ReportPaths) -> None:
    page = Page()
    text = written.html.read_text()
    page.feed(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert all(url.startswith("#") for url in page.urls)
    assert page.tags.count("script") == 1  # sorting; EVIL is not a second one
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text).replace("http://www.w3.org/", "")
    assert text.count("<svg") == 5  # quality, error along the network, weights, amax, histograms
    assert "currentColor" in text
    for model in document["comparison"]["models"][:-1]:
        assert f">{model['name']}<" in text


def test_markdown_rows_have_equal_cells_and_names_cannot_break_them(document: dict[str, Any]) -> None:
    text = render_markdown(document)
    assert "<script>" not in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 5  # models, outputs, samples, layers, what they are made from
    for block in tables:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.strip().splitlines()}
        assert len(widths) == 1, block


def test_pages_come_from_the_json_alone(written: ReportPaths) -> None:
    loaded = json.loads(written.json.read_text())
    assert render_html(loaded) == written.html.read_text()
    assert render_markdown(loaded) == written.markdown.read_text()
    assert render_csv(loaded) == written.csv.read_text()
    assert [path.name for path in vars_of(written)] == [
        "report.json", "report.md", "report.html", "report.csv", "report.samples.csv",
    ]  # fmt: skip


def vars_of(paths: ReportPaths) -> list[Path]:
    return [getattr(paths, field.name) for field in dataclasses.fields(paths)]


def numbers(row: str) -> list[str]:
    """The cells of a row of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_markdown_shows_the_figures_of_the_document(document: dict[str, Any]) -> None:
    document = copy.deepcopy(document)
    document["comparison"]["models"][1]["size_bytes"] = 123_456_789  # 120,563.3 KiB
    text = render_markdown(document)
    fp32, minmax = (next(r for r in text.splitlines() if r.startswith(f"| {name} |")) for name in ("fp32", "minmax"))
    model = document["comparison"]["models"][1]
    assert numbers(fp32) == ["fp32", *["–"] * 4, "100.00 %", "–", "–", "∞", "4"]
    assert numbers(minmax)[5] == f"{100 * model['agreement']:.2f} %"
    assert numbers(minmax)[8:] == [f"{model['sqnr_db']:.2f}", "120,563"]
    output = model["outputs"]["logits"]
    expected = ["minmax", "logits", f"{output['cosine']:.6f}", f"{output['sqnr_db']:.2f}"]
    assert [*expected, f"{output['max_abs']:.5f}", f"{output['mean_abs']:.5f}"] in map(numbers, text.splitlines())


def test_markdown_shows_the_accuracy_with_its_interval() -> None:
    model = quantized(conv_net(), image_batches()).model  # of noise: bad for the colours that it is compared on
    labels = np.concatenate([labels for _, labels in labelled().labeled()])
    labels[::9] = (labels[::9] + 1) % 5  # FP32 is not always right
    result = quantlab.compare(conv_net(), {"int8": model}, list(labelled()), labels)
    text = render_markdown(build_document("t", result))
    cells = numbers(next(row for row in text.splitlines() if row.startswith("| int8 |")))
    row, change = result.results[1], result.results[1].difference
    assert change.low < change.points < change.high
    assert cells[1:6] == [
        f"{100 * row.top1:.2f} %", f"{change.points:+.2f} ({change.low:+.2f} to {change.high:+.2f})", f"{change.p:.2g}",
        f"{100 * row.top5:.2f} %", f"{100 * row.agreement:.2f} %",
    ]  # fmt: skip
    assert cells[7] == f"{100 * row.top1 / result.fp32.top1:.2f} %"
    assert len(set(cells[1:6])) == 5


def test_report_without_calibration_has_the_equal_outputs_as_infinite() -> None:
    session = Session(conv_net(), optimize=False)
    result = quantlab.compare(conv_net(), {"same": session.run}, image_batches(1))
    text = render_html(build_document("t", result))
    assert "infinite (equal outputs)" in text
    assert "∞" in text
    assert text.count("<svg") == 1  # quality; no sample suffers


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ({}, "There is no quantized model in this comparison."),
        ({"float": conv_net()}, "There is no quantized model in this comparison."),
        ({"broken": lambda batch: {}}, "Every quantized model failed."),
    ],
)
def test_report_without_a_sound_model_is_written_and_says_so(
    models: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    paths = write_report(quantlab.compare(conv_net(), models, image_batches(1)), tmp_path, "A title")
    for path in (paths.html, paths.markdown):
        assert sentence in path.read_text()
        assert "A title" in path.read_text()


def test_interrupted_comparison_says_so_on_every_page() -> None:
    class Stream:
        def __iter__(self) -> Iterator[Any]:
            yield from image_batches(1)
            raise KeyboardInterrupt

    document = build_document("t", quantlab.compare(conv_net(), {}, Stream()))
    assert "Interrupted: the first 6 samples only" in render_markdown(document)
    assert "it covers the first 6 samples only" in render_html(document)


def test_what_is_no_comparison_is_not_reported(document: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="comparison is a dict.*, expected Comparison"):
        write_report(document, tmp_path / "new")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_infinite_and_minus_infinite_sqnr_are_told_apart() -> None:
    zero = parse("m (float[N,4] x) => (float[N,4] y) { t = Sub (x, x)  y = Identity (t) }")
    one = parse("m (float[N,4] x) => (float[N,4] y) { t = Sub (x, x)  y = Exp (t) }")
    result = quantlab.compare(zero, {"wrong": one, "right": zero}, [{"x": np.ones((2, 4), np.float32)}])
    document = build_document("t", result)
    assert [m["sqnr_db"] for m in document["comparison"]["models"]] == ["inf", "-inf", "inf"]
    assert "-∞" in render_markdown(document)
    assert "-∞" in render_html(document)


def test_pictures_are_drawn_whatever_the_users_matplotlib_is_set_to(
    document: dict[str, Any],
) -> None:
    """LaTeX that is not there, colours and sizes of slides, a window system of a notebook."""
    import matplotlib

    from quantlab.report.plots.page import looks, plot_quality

    models, look_of = document["comparison"]["models"], looks(document)
    plain = plot_quality(models, look_of, None)
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40, "figure.facecolor": "red"}):
        assert plot_quality(models, look_of, None) == plain
    code = "import quantlab.report.plots.page, os; print(os.environ['MPLBACKEND'])"
    shown = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"MPLBACKEND": "no such"}, capture_output=True, text=True
    )
    assert (shown.stdout, shown.stderr) == ("no such\n", "")


def test_names_with_dollar_signs_are_drawn_as_they_are() -> None:
    result = quantlab.compare(conv_net(), {"a$b_{$": conv_net()}, image_batches(1))
    assert "a$b_{$" in render_html(build_document("t", result))
