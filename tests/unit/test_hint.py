"""Layers to leave in float where a model is far from FP32, and what that is measured to bring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import quantlab
from models import conv_net, image_batches
from quantlab.comparison import trace_error
from quantlab.report import ComparisonRequest, load_document, render_html, report_comparison
from quantlab.tune.exclusion import LOW_DB, propose_exclusion

pytestmark = pytest.mark.usefixtures("no_plots")


def spoiled(*tensors: str) -> onnx.ModelProto:
    """A Q/DQ model in which the ranges of some tensors are far too large."""
    table = quantlab.calibrate(conv_net(), image_batches(), "minmax")
    amax = {name: value * (500 if name in tensors else 1) for name, value in table.amax.items()}
    everything = quantlab.Selection(include=("*",))
    return quantlab.quantize(conv_net(), replace(table, amax=amax), selection=everything).model


def reader_of(tensor: str) -> str:
    """The layer that reads a tensor, as placements call it."""
    activations = quantlab.quantize(
        conv_net(), quantlab.calibrate(conv_net(), image_batches(), "minmax")
    ).placement.activations
    return next(node for node, _, read in activations if read == tensor)


def test_layer_that_reads_a_bad_range_is_the_one_to_leave_in_float() -> None:
    model, few = spoiled("r"), list(image_batches(2))
    found = propose_exclusion(conv_net(), model, trace_error(conv_net(), model, few), few)
    assert found is not None
    assert found.layers[0] == reader_of("r")
    assert all(layer.startswith("Add") for layer in found.layers[1:])  # its other branch has no range in the table
    assert found.sqnr_db < LOW_DB < found.without_db
    kept = quantlab.Selection(include=("*",), exclude=found.layers)
    float_there = quantlab.quantize(conv_net(), quantlab.qdq.import_scales(model), selection=kept)
    result = quantlab.compare(conv_net(), {"as it is": model, "without": float_there}, few)
    assert [row.worst_sqnr_db for row in result.results[1:]] == pytest.approx([found.sqnr_db, found.without_db])
    assert found.samples == result.samples


def test_model_that_no_layer_explains_gets_no_hint() -> None:
    model, few = spoiled(), list(image_batches(1))
    blind = replace(trace_error(conv_net(), model, few), tensors={})
    assert propose_exclusion(conv_net(), model, blind, []) is None


def test_report_of_a_bad_model_says_which_layer_and_of_a_good_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plots = ("quality", "tradeoff", "latency", "error_trace", "weights", "classes", "amax", "histograms")
    monkeypatch.setattr("quantlab.report.plots.page.draw", lambda *given: dict.fromkeys(plots, ""))
    for name, model in (("bad", spoiled("r")), ("good", spoiled())):
        onnx.save(model, tmp_path / f"{name}.onnx")
        request = ComparisonRequest(conv_net(), {name: tmp_path / f"{name}.onnx"}, image_batches(2))
        done = report_comparison(request, tmp_path / name)
        document = load_document(done.paths.json)
        pages = done.paths.markdown.read_text(), render_html(document)
        if name == "good":
            assert (done.hint, document["hint"]) == ("", None)
            assert not any("in float:" in page or "What would help" in page for page in pages)
        else:
            assert document["hint"]["layers"][0] == reader_of("r")
            assert document["hint"]["options"] in done.hint == document["hint"]["text"]
            assert all("in float:" in page for page in pages)
