"""The whole way of `quantlab compare`, called as a library: requests, evidence, and what cannot be shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import quantlab
from models import conv_net, floats, image_batches, parse, quantized
from quantlab.comparison import activation_ranges, trace_error
from quantlab.engines.trtexec import TrtexecOptions, trtexec_command
from quantlab.errors import ConfigError, DataError, GraphError
from quantlab.qdq import Stripped
from quantlab.report import ComparisonRequest, evidence, report_comparison

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(quantized(conv_net(), image_batches(2)).model, tmp_path / "q.onnx")
    return tmp_path / "q.onnx"


def test_request_without_anything_to_compare_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to compare with"):
        ComparisonRequest(conv_net(), {}, image_batches())


def test_report_of_files_has_ranges_and_traces_of_each(model: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    request = ComparisonRequest(conv_net(), {"a": model, "b": model}, image_batches(3), title="Mine", command=["x"])
    done = report_comparison(request, tmp_path / "new" / "report", seen.append)
    assert seen == [6, 12, 18]
    assert (done.skipped, done.untraced, done.left_out) == ((), (), ())
    document = quantlab.report.load_document(done.paths.json)
    assert (document["title"], document["provenance"]["command"]) == ("Mine", "x")
    assert document["error_trace"]["models"] == ["a", "b"]
    expected = quantlab.qdq.import_scales(model).amax
    for tensor in document["calibration"]["tensors"]:
        assert tensor["amax"]["a"] == tensor["amax"]["b"] == pytest.approx(float(expected[tensor["name"]]), rel=1e-6)
    assert done.comparison.results == quantlab.compare(conv_net(), {"a": model, "b": model}, image_batches(3)).results


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("float[N,4] x", ["--batch", "4"]),
        ("float[2,4] x", []),
        ("float[N,L] x", ["--shapes", "x:<N>x<L>"]),
    ],
)
def test_command_that_comes_next_is_one_that_works(tmp_path: Path, text: str, options: list[str]) -> None:
    fp32 = parse(f"m ({text}) => ({text.replace('x', 'y')}) {{ y = MatMul (x, v) }}", {"v": floats(4, 4)})
    onnx.save(quantized(fp32, [{"x": floats(2, 4)}]).model, tmp_path / "q.onnx")
    data = quantlab.data.ArrayBatches({"x": floats(8, 4)}, batch_size=2 if text == "float[2,4] x" else 4)
    done = report_comparison(ComparisonRequest(fp32, {"q": tmp_path / "q.onnx"}, data), tmp_path / "report")
    (line,) = [row["text"] for row in quantlab.report.load_document(done.paths.json)["next"] if row["term"] == "next"]
    command = line.removesuffix(" prints the command that builds its engine").split()
    assert command == ["quantlab", "trtexec", "q.onnx", *options]
    given = TrtexecOptions(batch=4 if "--batch" in options else None, shapes={"x": (2, 4)} if "L" in text else {})
    assert trtexec_command(tmp_path / "q.onnx", None, given)[0] == "trtexec"


def test_data_without_batches_are_refused_and_nothing_is_written(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no batches to compare on"):
        report_comparison(ComparisonRequest(conv_net(), {"a": model}, []), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_model_whose_error_cannot_be_traced_is_compared_all_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> Any:
        raise GraphError("an operator is not known", hint="none")

    monkeypatch.setattr(evidence, "trace_error", fails)
    done = report_comparison(ComparisonRequest(conv_net(), {"a": model}, image_batches(1)), tmp_path / "report")
    assert done.untraced == ("where the error of 'a' comes from cannot be shown: an operator is not known",)
    assert done.comparison.best.name == "a"


MASK = """m (float[N,4] x) => (float[N,4] y) <float zero = {0.0}, float low = {-inf}> {
    positive = Greater (x, zero)
    a = Where (positive, x, low)
    s = Softmax (a)
    y = Add (s, %s)
}"""


@pytest.mark.parametrize(
    ("read", "said"),
    [
        ("xd", "the range of 'a' cannot be shown: FP32's values are not finite"),
        ("x", "the ranges of activations cannot be shown: .*tensor 'a': values contain infinity"),
    ],
)
def test_mask_of_infinities_that_another_tool_quantizes_is_compared_all_the_same(
    tmp_path: Path, read: str, said: str
) -> None:
    fp32 = parse(MASK.replace("-inf", "-1") % "x")
    qdq = parse(MASK.replace("-inf", "-1") % read)
    for model in (fp32, qdq):
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.float32(-np.inf), "low"))
    pairs = [("a", "ad"), *([("x", "xd")] if read == "xd" else [])]
    for before, after in pairs:
        made = [
            helper.make_node("QuantizeLinear", [before, "scale", "code"], [f"{before}q"]),
            helper.make_node("DequantizeLinear", [f"{before}q", "scale", "code"], [after]),
        ]
        at = next((k + 1 for k, node in enumerate(qdq.graph.node) if before in node.output), 0)
        nodes = [*qdq.graph.node[:at], *made, *qdq.graph.node[at:]]
        del qdq.graph.node[:]
        qdq.graph.node.extend(nodes)
    next(node for node in qdq.graph.node if node.op_type == "Softmax").input[0] = "ad"
    for name, value in (("scale", np.float32(0.05)), ("code", np.int8(0))):
        qdq.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    batch = np.abs(floats(8, 4)) * np.array([1, -1, 1, -1], np.float32)
    request = ComparisonRequest(fp32, {}, [{"x": batch}], models={"q": qdq})
    done = report_comparison(request, tmp_path / "report")
    assert [r.failed for r in done.comparison.results] == ["", ""]
    assert re.fullmatch(said, next(line for line in done.untraced if "range" in line))


def test_scale_beyond_all_values_is_compared_all_the_same(tmp_path: Path) -> None:
    fp32 = parse("m (float[N,4] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": floats(4, 4)})
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        y = MatMul (d, w)
    }"""
    scales = {"s": np.asarray(np.float32(1e38)), "z": np.asarray(np.int8(0)), "w": floats(4, 4)}
    request = ComparisonRequest(fp32, {}, [{"x": floats(8, 4)}], models={"q": parse(text, scales)})
    done = report_comparison(request, tmp_path / "report")
    (read,) = quantlab.report.load_document(done.paths.json)["layers"]["rows"][0]["reads"]
    assert read["scale"] == pytest.approx(1e38)
    assert read["amax"] == pytest.approx(127e38)


def test_ranges_are_read_off_models_that_can_be_taken_apart(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = activation_ranges(conv_net(), {"q": model, "float": conv_net()}, image_batches(1))
    assert run is not None
    assert {name: list(table.amax) for name, table in run.tables.items()} == {"q": ["image", "r", "t", "f"]}
    assert list(run.histograms) == ["image", "r", "t", "f"]
    assert activation_ranges(conv_net(), {"float": conv_net()}, image_batches(1)) is None
    assert activation_ranges(conv_net("4"), {"q": model}, image_batches(1, size=4)) is not None

    def fails(proto: onnx.ModelProto) -> Stripped:
        raise GraphError("no", hint="none")

    monkeypatch.setattr("quantlab.comparison.ranges.strip", fails)
    assert activation_ranges(conv_net(), {"q": model}, image_batches(1)) is None


def test_trace_without_a_shared_tensor_or_a_batch_is_empty(model: Path) -> None:
    assert trace_error(conv_net(), model, []).tensors == {}
    assert len(trace_error(conv_net(), model, []).weights) == 3


@pytest.mark.parametrize("zero", [np.uint8(0), np.int8(3)], ids=["unsigned", "asymmetric"])
def test_weight_that_is_no_symmetric_int8_is_counted(zero: np.generic) -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { w = DequantizeLinear (c, s, z)  y = MatMul (x, w) }"
    codes = np.ones((6, 4), zero.dtype)
    qdq = parse(text, {"c": codes, "s": np.asarray(np.float32(0.1)), "z": np.asarray(zero)})
    fp32 = parse("m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": floats(6, 4)})
    trace = trace_error(fp32, qdq, [{"x": floats(3, 6)}])
    assert (trace.weights, trace.unmatched, list(trace.tensors)) == ((), 1, ["y"])


def test_weight_with_a_scale_per_block_is_counted() -> None:
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    body = "{ w = DequantizeLinear <axis = 0, block_size = 3> (c, s)  y = MatMul (x, w) }"
    text = f"m (float[N,6] x) => (float[N,4] y) {body}"
    qdq = parse(text, {"c": np.ones((6, 4), np.int8), "s": np.ones((2, 4), np.float32)}, header)
    fp32 = parse("m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": floats(6, 4)}, header)
    trace = trace_error(fp32, qdq, [])
    assert (trace.weights, trace.unmatched) == ((), 1)


def test_what_was_left_out_of_the_calibration_data_is_told_once(tmp_path: Path) -> None:
    data = [*image_batches(2, size=4), {"image": image_batches(1)[0]["image"][:1]}]
    names = ["ort:qdq:minmax", "ort:qdq:percentile-50"]
    done = report_comparison(ComparisonRequest(conv_net("4"), {}, data, data, names), tmp_path / "report")
    assert done.left_out == ("the last 1 samples do not fill a batch of 4 and were left out",)
    assert done.comparison.samples == 9
    warnings = quantlab.report.load_document(done.paths.json)["warnings"]
    assert any("percentile-50 saturates" in line for line in warnings)  # of the scales, not of the data


def test_trace_of_a_quantized_reference_is_refused(model: Path) -> None:
    with pytest.raises(GraphError, match="an error trace needs the FP32 model"):
        trace_error(model, model, image_batches(1))
