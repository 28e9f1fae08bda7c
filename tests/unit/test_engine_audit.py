"""What runs in INT8, from rows as TensorRT's inspector writes them."""

from __future__ import annotations

import json
from typing import Any

import onnx
import pytest

from models import conv_net, image_batches, quantized
from quantlab.engines.audit import Audit, Fallback, audit_inspection, precision_of_node
from quantlab.engines.costs import CONVERSION, FLOAT, Cost
from quantlab.engines.engine import EXPLICIT, Engine, EngineRecord
from quantlab.engines.inspector import Inspection, LayerAudit, layer_audit, layer_rows, nodes_from_name, precision_of
from quantlab.engines.messages import Warned, explain
from quantlab.errors import BuildError
from quantlab.onnx_model import node_label

INT8 = "Thirty-two wide channel vectorized row major Int8 format"
FP16 = "Two wide channel vectorized row major FP16 format"
FP32 = "Row major linear FP32"


def row(name: str, kind: str = "CaskConvolution", reads: str = INT8, writes: str = INT8, **more: Any) -> dict[str, Any]:
    """A layer as the inspector of TensorRT 8.6 shows it, without the fields that are not read."""
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [{"Name": "in", "Location": "Device", "Dimensions": [8, 3, 8, 8], "Format/Datatype": reads}],
        "Outputs": [{"Name": "out", "Location": "Device", "Dimensions": [8, 8, 8, 8], "Format/Datatype": writes}],
        "TacticName": "sm90_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32",
        "StreamId": 0,
        "Metadata": "",
    } | more


def engine(int8: str = "EntropyCalibration2", warnings: tuple[Warned, ...] = ()) -> Engine:
    return Engine(b"", EngineRecord("8.6.0", "GPU", (9, 0), "", {}, int8), warnings)


def net() -> onnx.ModelProto:
    """`conv_net` with named nodes: conv_a, conv_c and gemm have weights."""
    model = conv_net()
    for node, name in zip(model.graph.node, ("conv_a", "", "conv_c", "add", "", "pool", "flat", "gemm"), strict=True):
        node.name = name
    return model


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("/a/Conv", ["/a/Conv"]),
        ("/a/Conv + /b/Relu", ["/a/Conv", "/b/Relu"]),
        ("/a/Conv + /b/Add + /c/Relu", ["/a/Conv", "/b/Add", "/c/Relu"]),
        ("/a/Conv || /b/Conv", ["/a/Conv", "/b/Conv"]),
        ("/a/Conv||/b/Conv", ["/a/Conv", "/b/Conv"]),
        ("PWN(/a/Relu)", ["/a/Relu"]),
        ("PWN(/a/Sigmoid, /b/Mul)", ["/a/Sigmoid", "/b/Mul"]),
        ("PWN(PWN(/a/Sigmoid), /b/Mul)", ["/a/Sigmoid", "/b/Mul"]),
        ("/a/Conv + PWN(/b/Sigmoid, /c/Mul)", ["/a/Conv", "/b/Sigmoid", "/c/Mul"]),
        ("{ForeignNode[/a/MatMul.../z/Add]}", ["/a/MatMul", "/z/Add"]),
        ("/a+b/Conv", ["/a+b/Conv"]),
        ("/a|b/Conv", ["/a|b/Conv"]),
        ("(Unnamed Layer* 61) [Constant]", ["Unnamed Layer* 61  [Constant]"]),
        ("(Unnamed Layer* 7) [Matrix Multiply] + fc/bias", ["Unnamed Layer* 7  [Matrix Multiply]", "fc/bias"]),
        ("", []),
    ],
)
def test_layer_name_is_taken_apart_into_the_nodes_it_was_fused_from(name: str, nodes: list[str]) -> None:
    assert nodes_from_name(name) == nodes


def test_layer_with_metadata_has_its_nodes_from_there() -> None:
    metadata = "[ONNX Layer: /a/Conv]\x1e[ONNX Layer: /b/Relu, 2]"
    found = layer_audit(row("myl0_0 + x", Metadata=metadata), {"myl0_0 + x": 0.25})
    assert found == LayerAudit("myl0_0 + x", "CaskConvolution", "int8", 0.25, ("/a/Conv", "/b/Relu, 2"))
    assert layer_audit(row("a + b"), {}) == LayerAudit("a + b", "CaskConvolution", "int8", 0.0, ("a", "b"))


@pytest.mark.parametrize(
    ("found", "precision"),
    [
        (row("c"), "int8"),
        (row("c", reads=FP16), "fp16"),
        (row("c", reads=FP32), "fp32"),
        (row("c", reads="Row major linear Half"), "fp16"),
        (row("c", reads="Row major Float"), "fp32"),
        (row("c", reads="Row major linear INT32", writes=FP16), "fp16"),
        (row("c", Inputs=[], writes=FP32), "fp32"),
        (row("c", Inputs=["N/A"], Outputs=["Int8"]), "int8"),
        ({}, "other"),
        ({"Name": "c", "Inputs": [{}]}, "other"),
    ],
)
def test_precision_of_a_layer_is_that_of_its_first_tensor_with_one(found: dict[str, Any], precision: str) -> None:
    assert precision_of(found) == precision
    assert layer_audit(found, {}).precision == precision


@pytest.mark.parametrize(
    "found", [row("{ForeignNode[a...z]}", "Myelin"), row("x", "Myelin"), row("{ForeignNode[a...z]}", "Other")]
)
def test_region_that_tensorrt_compiles_as_a_whole_is_hidden(found: dict[str, Any]) -> None:
    assert layer_audit(found, {}).precision == "hidden"


def node(name: str, output: str = "y") -> onnx.NodeProto:
    return onnx.helper.make_node("MatMul", ["x", "w"], [output], name=name)


def layer(nodes: str, precision: str = "int8", time_ms: float = 0.0, kind: str = "Conv") -> LayerAudit:
    return LayerAudit(nodes, kind, precision, time_ms, tuple(nodes.split()))


@pytest.mark.parametrize(
    ("layers", "may_hide", "precision"),
    [
        ([layer("m")], True, "int8"),
        ([layer("a m b", "fp16")], True, "fp16"),
        ([layer("m", "fp16", 0.1), layer("m", "int8", 0.2)], True, "int8"),
        ([layer("m", "fp16", 0.3), layer("m", "int8", 0.2)], True, "fp16"),
        ([layer("m", "fp16"), layer("m", "int8")], True, "int8"),
        ([layer("m", "fp16", 0.3, "Reformat"), layer("m", "int8", 0.2)], True, "int8"),
        ([layer("node_of_y", "fp32")], True, "fp32"),
        ([layer("a")], True, "removed"),
        ([], True, "removed"),
        ([layer("a"), layer("m", "hidden")], True, "hidden"),
        ([layer("a"), layer("m", "hidden")], False, "float"),
        ([layer("m", "fp16"), layer("b", "hidden")], True, "fp16"),
    ],
)
def test_precision_of_a_node_is_that_of_the_layer_with_its_work(
    layers: list[LayerAudit], may_hide: bool, precision: str
) -> None:
    assert precision_of_node(node("m"), layers, may_hide) == precision


def test_node_without_a_name_is_found_by_its_output() -> None:
    assert precision_of_node(node("", "out"), [layer("out", "fp16")], True) == "fp16"


def test_audit_of_a_whole_engine_has_layers_nodes_and_reasons() -> None:
    rows = [
        row("Reformatting CopyNode for Input Tensor 0 to conv_a + r", "Reformat", FP32),
        row("conv_a + r"),
        row("conv_c + add + t", reads=FP16),
        row("PWN(pool)", "PointWise"),
    ]
    times = {"conv_a + r": 0.3, "conv_c + add + t": 0.1, rows[0]["Name"]: 0.05, "PWN(pool)": 0.05, "gone": 9.0}
    warnings = (explain("Missing scale and zero-point for tensor c, expect fall back to non-int8"),)
    found = audit_inspection(Inspection(rows, times), engine(warnings=warnings), net())
    assert [one.precision for one in found.layers] == ["fp32", "int8", "fp16", "int8"]
    assert found.weighted == {"conv_a": "int8", "conv_c": "fp16", "gemm": "removed"}
    assert found.fallbacks == (
        Fallback("conv_c", "Conv", "fp16", "tensor 'c' has no INT8 scale"),
        Fallback("gemm", "Gemm", "removed", "TensorRT computed it at build time, or fused it beyond recognition"),
    )
    assert (found.in_int8, found.hidden, found.hidden_note) == (("conv_a",), (), "")
    assert found.int8_share == pytest.approx(1 / 3)
    assert found.total_ms == pytest.approx(0.5)
    assert found.int8_time_share == pytest.approx(0.35 / 0.5)
    assert found.summary == "1 of 3 Conv, Gemm and MatMul nodes, 70% of the time"
    assert dict(found.kinds) == {"Reformat": 1, "CaskConvolution": 2, "PointWise": 1}
    assert [str(fallback) for fallback in found.fallbacks] == [
        "Conv 'conv_c' runs in fp16: tensor 'c' has no INT8 scale",
        "Gemm 'gemm': TensorRT computed it at build time, or fused it beyond recognition",
    ]


def test_reason_comes_from_the_kind_of_a_warning_not_from_its_words() -> None:
    inspection = Inspection([row("conv_c", reads=FP16)], {})

    def reason(warned: Warned) -> str:
        found = audit_inspection(inspection, engine(warnings=(warned,)), net())
        return {fallback.node: fallback.reason for fallback in found.fallbacks}["conv_c"]

    assert reason(Warned("c", "", "anything", "", 1, "no_int8_scale")) == "tensor 'c' has no INT8 scale"
    assert reason(Warned("c", "", "no INT8 scale", "", 1)).startswith("TensorRT measured this precision to be faster")


def test_reason_in_an_engine_without_int8_is_that() -> None:
    found = audit_inspection(Inspection([row("conv_c", reads=FP16)], {}), engine(""), net())
    assert {fallback.reason for fallback in found.fallbacks} == {"the engine was built without INT8"}


def test_reason_in_an_explicit_engine_is_the_input_without_qdq_or_no_kernel() -> None:
    model = quantized(conv_net(), image_batches(1)).model
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    inspection = Inspection([row(node_label(conv), reads=FP16)], {})
    found = audit_inspection(inspection, engine(EXPLICIT), model)
    reasons = {fallback.node: fallback.reason for fallback in found.fallbacks}
    assert reasons[node_label(conv)] == "its inputs have Q/DQ, but TensorRT found no INT8 kernel for it"
    conv.input[0] = "image"
    found = audit_inspection(inspection, engine(EXPLICIT), model)
    reasons = {fallback.node: fallback.reason for fallback in found.fallbacks}
    assert reasons[node_label(conv)] == "its input 'image' has no Q/DQ"


def test_audit_with_hidden_nodes_has_no_shares() -> None:
    rows = [row("conv_a"), row("{ForeignNode[conv_c...gemm]}", "Myelin")]
    found = audit_inspection(Inspection(rows, {"conv_a": 1.0}), engine(), net())
    assert found.weighted == {"conv_a": "int8", "conv_c": "hidden", "gemm": "hidden"}
    assert found.fallbacks == ()
    assert (found.int8_share, found.int8_time_share) == (None, None)
    note = "2 of 3 Conv, Gemm and MatMul nodes do not show, in an engine with regions that TensorRT compiles as a whole"
    assert found.hidden_note == note
    assert found.summary == f"cannot be told, {note}"
    assert audit_inspection(Inspection(rows, {}), engine(""), net()).weighted["gemm"] == "float"


@pytest.mark.parametrize(
    ("weighted", "minimum", "shortfall"),
    [
        ({"a": "int8", "b": "fp16"}, 0.5, ""),
        ({"a": "int8", "b": "fp16"}, 0.9, "0.500 < 0.9"),
        ({"a": "hidden"}, 0.0, "the share cannot be told"),
        ({}, 1.0, ""),
    ],
)
def test_audit_that_falls_short_of_a_minimum_says_by_how_much(
    weighted: dict[str, str], minimum: float, shortfall: str
) -> None:
    assert Audit((), weighted, ()).shortfall(minimum) == shortfall


def test_audit_without_times_spends_none_in_int8() -> None:
    found = Audit((layer("a"),), {"a": "int8"}, ())
    assert (found.int8_share, found.int8_time_share) == (1.0, 0.0)
    assert json.loads(json.dumps(found.to_dict())) == {
        "format": "quantlab.audit",
        "layers": [{"name": "a", "kind": "Conv", "precision": "int8", "time_ms": 0.0, "nodes": ["a"]}],
        "weighted": {"a": "int8"}, "fallbacks": [], "int8_share": 1.0, "int8_time_share": 0.0,
        "costs": [], "provenance": {}, "extra_us": 0.0, "slower_us": 0.0,
    }  # fmt: skip


def test_audit_of_a_qdq_engine_has_its_costs() -> None:
    model = quantized(conv_net(), image_batches(1)).model
    dq = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and "image" in n.input[0])
    back = row(node_label(dq), "Reformat", INT8, FP16)
    found = audit_inspection(Inspection([back], {node_label(dq): 0.004}), engine(EXPLICIT), model)
    assert found.costs == (Cost(CONVERSION, node_label(dq), "", 0.004),)
    assert (found.extra_us, found.slower_us) == (4.0, 0.0)
    assert found.to_dict()["costs"] == ({"kind": "conversion", "layer": node_label(dq), "node": "", "time_ms": 0.004},)
    slower = Audit((), {}, (), (Cost(FLOAT, "a", "", 0.002), Cost(CONVERSION, "b", "", 0.001)))
    assert (slower.extra_us, slower.slower_us) == (1.0, 2.0)
    assert [slower.to_dict()[name] for name in ("extra_us", "slower_us")] == [1.0, 2.0]


def test_inspectors_json_is_read_with_its_raw_control_characters() -> None:
    text = '{"Layers": [{"Name": "a", "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]"}], "Bindings": ["x"]}'
    assert layer_rows(text) == [{"Name": "a", "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]"}]
    assert layer_rows('{"Layers": []}') == []


def test_engine_built_without_details_cannot_be_audited() -> None:
    with pytest.raises(BuildError, match="built without details.*profiling verbosity 'detailed'"):
        layer_rows('{"Layers": ["conv_a + r", "gemm"]}')
