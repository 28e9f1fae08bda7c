"""Pages from the JSON: complete, self-contained, escaped."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pytest

import quantlab
from models import conv_net, image_batches
from quantlab.ort import Session
from quantlab.report import Evidence, build_document, render_html, render_markdown, write_report

EVIL = '<script>alert("x")</script>|`'


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    run = quantlab.calibrate_all(conv_net(), image_batches(), quantlab.OBSERVERS)
    quantized = {name: quantlab.quantize(conv_net(), table) for name, table in run.tables.items()}
    models = {n: q.model for n, q in quantized.items()} | {EVIL: quantized["mse"].model}
    result = quantlab.compare(conv_net(), models, image_batches(2, seed=9))
    traces = {n: quantlab.trace_error(conv_net(), q.model, image_batches(1)) for n, q in quantized.items()}
    evidence = Evidence(run, quantized["mse"].placement, traces)
    return build_document("A title", result, evidence, ["quantlab", "x"], [EVIL])


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
    assert [m["name"] for m in again["comparison"]["models"]] == ["fp32", *quantlab.OBSERVERS, EVIL]
    assert [t["name"] for t in again["calibration"]["tensors"]] == ["image", "r", "t", "f"]
    for tensor in again["calibration"]["tensors"]:
        assert set(tensor["amax"]) == set(quantlab.OBSERVERS)
    image = next(t for t in again["calibration"]["tensors"] if t["name"] == "image")
    assert sum(image["counts"]) == 4 * 6 * 3 * 8 * 8
    assert again["provenance"]["calibration"]["samples"] == 24


def test_html_is_well_formed_self_contained_and_escaped(document: dict[str, Any]) -> None:
    page = Page()
    text = render_html(document)
    page.feed(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert all(url.startswith("#") for url in page.urls)
    assert page.tags.count("script") == 1  # sorting; EVIL is not a second one
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text).replace("http://www.w3.org/", "")
    assert text.count("<svg") == 6  # quality, error along the network, weights, classes, amax, histograms
    assert "currentColor" in text
    for model in document["comparison"]["models"][:-1]:
        assert f">{model['name']}<" in text


def test_markdown_rows_have_equal_cells_and_names_cannot_break_them(document: dict[str, Any]) -> None:
    text = render_markdown(document)
    assert "<script>" not in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for block in tables:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.strip().splitlines()}
        assert len(widths) == 1, block


def test_pages_come_from_the_json_alone(document: dict[str, Any], tmp_path: Path) -> None:
    paths = write_report(document, tmp_path / "new" / "folder")
    loaded = json.loads(paths.json.read_text())
    assert render_html(loaded) == paths.html.read_text()
    assert render_markdown(loaded) == paths.markdown.read_text()


def test_report_without_calibration_or_candidates(tmp_path: Path) -> None:
    session = Session(conv_net(), optimize=False)
    result = quantlab.compare(conv_net(), {"same": session.run}, image_batches(1))
    text = render_html(build_document("t", result))
    assert "infinite (equal outputs)" in text
    assert "∞" in text
    alone = quantlab.compare(conv_net(), {}, image_batches(1))
    assert "no quantized model" in build_document("t", alone)["verdict"]
    floats_only = quantlab.compare(conv_net(), {"float": conv_net()}, image_batches(1))
    assert "no quantized model" in build_document("t", floats_only)["verdict"]
    broken = quantlab.compare(conv_net(), {"broken": lambda batch: {}}, image_batches(1))
    document = build_document("t", broken)
    assert document["verdict"] == "Every quantized model failed."
    write_report(document, tmp_path)


def test_infinite_and_minus_infinite_sqnr_are_told_apart() -> None:
    from models import parse

    zero = parse("m (float[N,4] x) => (float[N,4] y) { t = Sub (x, x)  y = Identity (t) }")
    one = parse("m (float[N,4] x) => (float[N,4] y) { t = Sub (x, x)  y = Exp (t) }")
    import numpy as np

    result = quantlab.compare(zero, {"wrong": one, "right": zero}, [{"x": np.ones((2, 4), np.float32)}])
    document = build_document("t", result)
    assert [m["sqnr_db"] for m in document["comparison"]["models"]] == ["inf", "-inf", "inf"]
    assert "-∞" in render_markdown(document)
    assert "-∞" in render_html(document)


def test_names_with_dollar_signs_are_drawn_as_they_are() -> None:
    result = quantlab.compare(conv_net(), {"a$b_{$": conv_net()}, image_batches(1))
    assert "a$b_{$" in render_html(build_document("t", result))
