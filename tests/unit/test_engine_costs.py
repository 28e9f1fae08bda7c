"""What costs time in engines, by rows made up one at a time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantlab.engines.costs import (
    CONVERSION,
    FLOAT,
    INT8_LAYOUT,
    KINDS,
    LAYOUT,
    NOT_FUSED,
    NOT_FUSED_INT8,
    WEIGHTS,
    costs,
)
from quantlab.engines.inspector import Inspection
from quantlab.qdq.codes import CODES

INT8 = "Thirty-two wide channel vectorized row major Int8 format"
FP16 = "Channel major FP16 format where channel % 8 == 0"
FP32 = "Row major linear FP32"
COPY = "Reformatting CopyNode for"


def tensors(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Format/Datatype": datatype} for name, datatype in given.items()]


def row(name: str, kind: str, reads: dict[str, str], writes: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"Name": name, "LayerType": kind, "Inputs": tensors(reads), "Outputs": tensors(writes)} | more


def net(tail: str, *, before: str = "") -> onnx.ModelProto:
    """A quantized convolution of the quantized input, and what follows; nodes are called by their output."""
    text = f"""
        <ir_version: 8, opset_import: ["" : 14]>
        net (float[1,8,8,8] x) => (float[1,8,8,8] y)
        {{
            {before}
            x_q = QuantizeLinear(x, s, z)
            x_dq = DequantizeLinear(x_q, s, z)
            w_dq = DequantizeLinear(w_codes, s, z)
            conv = Conv(x_dq, w_dq)
            {tail}
        }}"""
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.name = f"/{node.output[0]}"
    shapes = {"s": (), "z": (), "half": (), "b": (8,), "w_float": (8, 8, 1, 1), "w_codes": (8, 8, 1, 1)}
    for name, shape in shapes.items():
        value = np.ones(shape, np.int8 if name in ("z", "w_codes") else np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


RELU = "y = Relu(conv)"
PAIR = "act = Relu(conv)\n a_q = QuantizeLinear(act, s, z)\n a_dq = DequantizeLinear(a_q, s, z)\n"
SUM = PAIR + "next = Conv(a_dq, w_dq)\n y = Add(next, a_dq)"


def found_in(model: onnx.ModelProto, *rows: dict[str, Any], **times_ms: float) -> list[tuple[str, str, str]]:
    return [(cost.kind, cost.layer, cost.node) for cost in costs(Inspection(rows, times_ms), model)]


@pytest.mark.parametrize("datatype", [INT8, FP16])
def test_convolution_with_a_fused_residual_add_costs_nothing(datatype: str) -> None:
    fused = row("w_codes + /next + /y", "CaskConvolution", {"b_q": datatype, "a_q": datatype}, {"y": FP32})
    assert found_in(net(SUM), fused) == []


def test_convolution_with_its_weights_as_second_input_runs_in_float() -> None:
    float_conv = row("/conv + /y", "CaskConvolution", {"x_dq": FP32, "w_dq": FP32}, {"y": FP32})
    assert found_in(net(RELU), float_conv) == [(FLOAT, "/conv + /y", "/conv")]
    sum_too = row("/next + /y", "CaskConvolution", {"a_dq": FP16, "w_dq": FP16, "a": FP16}, {"y": FP32})
    assert [kind for kind, _, _ in found_in(net(SUM), sum_too)] == [FLOAT]
    only_weights_named = row("/conv + /y", "CaskConvolution", {"w_dq": INT8, "x_q": INT8}, {"y": FP32})
    assert found_in(net(RELU), only_weights_named) == []
    cloned = row("/conv + /y", "CaskConvolution", {"x_dq": FP32, "w_dq_clone_1": FP32}, {"y": FP32})
    assert found_in(net(RELU), cloned) == [(FLOAT, "/conv + /y", "/conv")]


def test_convolution_that_took_up_its_weights_and_pairs_costs_nothing() -> None:
    fused = row("w_codes + /w_dq + /conv + /y", "CaskConvolution", {"x_q": INT8}, {"y": FP32})
    assert found_in(net(RELU), fused) == []


def test_weights_are_followed_through_copies_to_the_layer_that_takes_them() -> None:
    rows = [
        row("w_codes", "Constant", {}, {"stored": INT8}),
        row("/w_dq", "Scale", {"stored": INT8}, {"w_dq": FP32}),
        row(f"{COPY} Input Tensor 1 to /conv + /y", "Reformat", {"w_dq": FP32}, {"copy": FP16}),
        row(f"{COPY} Input Tensor 1 to /conv + /y again", "NoOp", {"copy": FP16}, {"view": FP16}),
        row("(Unnamed Layer* 7) [Shuffle]", "Shuffle", {"view": FP16}, {"turned_clone_2": FP16}),
        row("/conv + /y", "CaskConvolution", {"x_dq": FP16, "turned_clone_2": FP16}, {"y": FP16}),
    ]
    assert sorted(found_in(net(RELU), *rows)) == [
        (FLOAT, "/conv + /y", "/conv"),
        (WEIGHTS, "(Unnamed Layer* 7) [Shuffle]", "/conv"),
        (WEIGHTS, "/w_dq", "/conv"),
        (WEIGHTS, f"{COPY} Input Tensor 1 to /conv + /y", "/conv"),
    ]


@pytest.mark.parametrize("name", ["/f_dq", "/f_q", "w_float + /f_q", "/f_turned", "node_of_f_dq", "/f_dq_clone_0"])
def test_float_weights_behind_a_pair_are_weights_as_well(name: str) -> None:
    tail = (
        "f_turned = Transpose(w_float)\n f_q = QuantizeLinear(f_turned, s, z)\n f_dq = DequantizeLinear(f_q, s, z)\n"
        "f_back = Transpose(f_dq)\n y = Conv(x_dq, f_back)"
    )
    found = found_in(net(tail), row(name, "Scale", {"something": FP32}, {"f_made": FP32}))
    assert found == ([] if name == "/f_turned" else [(WEIGHTS, name, "/y")])
    back = row("/f_back", "Shuffle", {"f_dq": FP32}, {"f_back": FP32})
    assert found_in(net(tail), back) == [(WEIGHTS, "/f_back", "/y")]


def test_weights_in_a_constant_node_are_stored_too() -> None:
    model = net(
        "k = Constant <value: tensor = int8[1] {3}> ()\n k_dq = DequantizeLinear(k, s, z)\n y = Mul(conv, k_dq)"
    )
    rows = row("/k_dq", "Scale", {"k": INT8}, {"k_dq": FP32}), row("k + /k_dq", "Constant", {}, {"k_dq": FP32})
    assert found_in(model, *rows) == [(WEIGHTS, "/k_dq", "/y")]


def test_weights_dequantized_at_build_time_cost_nothing_but_their_layer_is_float() -> None:
    rows = [
        row("w_codes + /w_dq", "Constant", {}, {"folded": FP32}),
        row("/conv + /y", "CaskConvolution", {"x_dq": FP32, "folded": FP32}, {"y": FP32}),
    ]
    assert found_in(net(RELU), *rows) == [(FLOAT, "/conv + /y", "/conv")]


def test_scale_layer_of_a_batch_normalization_costs_nothing() -> None:
    model = net("act = Relu(conv)\n y = BatchNormalization(act, b, b, b, b)")
    assert found_in(model, row("/y", "Scale", {"act": FP16}, {"y": FP16})) == []
    assert found_in(model, row("/y", "Scale", {"act": INT8}, {"y": FP16})) == []
    assert found_in(model, row("/y + /x_dq", "Scale", {"act": INT8}, {"n": FP16})) == []


@pytest.mark.parametrize("kind", ["Scale", "Reformat", "Dequantize"])
def test_pair_in_the_middle_is_a_conversion_whatever_its_layer_is(kind: str) -> None:
    back = row("/a_dq", kind, {"a_q": INT8}, {"a_dq": FP16})
    assert found_in(net(SUM), back) == [(CONVERSION, "/a_dq", "")]
    assert found_in(net(SUM), back | {"Inputs": tensors({"a_q": INT8, "other": INT8})}) == []
    odd = net(SUM)
    next(node for node in odd.graph.node if node.name == "/a_dq").name = "pair, (1)"
    assert found_in(odd, back | {"Name": "pair, (1)"}) == [(CONVERSION, "pair, (1)", "")]


def test_pair_on_what_is_made_at_run_time_is_no_weight() -> None:
    pair = "r_q = QuantizeLinear(r, s, z)\n r_dq = DequantizeLinear(r_q, s, z)\n y = Mul(conv, r_dq)"
    model = net("r = RandomNormal <shape = [1]> ()\n" + pair)
    assert found_in(model, row("/r_dq", "Scale", {"r_q": INT8}, {"r_dq": FP16})) == [(CONVERSION, "/r_dq", "")]


def test_quantization_of_the_input_is_necessary() -> None:
    quantize = row("/x_q", "Reformat", {"x": FP32}, {"x_q": INT8})
    assert found_in(net(RELU), quantize) == []
    for kind in ("Reformat", "NoOp", "Shuffle", "Slice"):
        moved = row("moved", kind, {"x": FP32}, {"m": FP16})
        assert found_in(net(RELU), moved, row("/x_q", "Scale", {"m": FP16}, {"x_q": INT8})) == []
    computed = row("/pre", "PointWise", {"x": FP32}, {"m": FP16})
    assert found_in(
        net(RELU, before="pre = Exp(x)"), computed, row("/x_q", "Reformat", {"m": FP16}, {"x_q": INT8})
    ) == [(CONVERSION, "/x_q", "/pre")]
    unknown = row("moved", "Shuffle", {}, {"m": FP16})
    assert found_in(net(RELU), unknown, row("/x_q", "Scale", {"m": FP16}, {"x_q": INT8})) == [(CONVERSION, "/x_q", "")]
    # back to float right behind it is not necessary
    back = row("/x_dq", "Reformat", {"x_q": INT8}, {"x_dq": FP16})
    conv = row("/conv + /y", "CaskConvolution", {"x_dq": FP16}, {"y": FP32})
    assert found_in(net(RELU), quantize, back, conv) == [(CONVERSION, "/x_dq", "/conv")]


def test_conversion_that_makes_an_output_is_necessary() -> None:
    last = row(f"{COPY} Output Tensor 0 to /conv + /y", "Reformat", {"made": INT8}, {"y": FP32})
    assert found_in(net(RELU), last) == []
    first = row(f"{COPY} Output Tensor 0 to /conv + /y", "Reformat", {"made": INT8}, {"half": FP16})
    second = row(f"{COPY} for the output", "Reformat", {"half": FP16}, {"y": FP32})
    assert found_in(net(RELU), first, second) == []
    assert found_in(net(RELU), first) == [(CONVERSION, first["Name"], "")]


def test_conversion_names_who_reads_in_float_else_who_wrote() -> None:
    model = net(PAIR + "other = Elu(act)\n twice = Elu(a_dq)\n next = Conv(a_dq, w_dq)\n y = Sum(next, other, twice)")
    write = row("/conv + /act", "CaskConvolution", {"x_q": INT8}, {"act": FP16})
    quantize = row("/a_q", "Reformat", {"act": FP16}, {"a_q": INT8})
    conv = row("/next", "CaskConvolution", {"a_q": INT8}, {"next": FP16})
    # (what else reads, the node)
    assert found_in(model, write, quantize, conv) == [(CONVERSION, "/a_q", "/act")]
    elu = row("PWN(/other, /y)", "PointWise", {"next": FP16, "act": FP16}, {"y": FP32})
    assert found_in(model, write, quantize, conv, elu) == [(CONVERSION, "/a_q", "/other")]
    copy = row(f"{COPY} Input Tensor 1 to PWN(/other, /y)", "Reformat", {"act": FP16}, {"act_copy": FP16})
    elu = row("PWN(/y, /other)", "PointWise", {"next": FP16, "act_copy": FP16}, {"y": FP32})
    assert found_in(model, write, quantize, conv, copy, elu) == [(CONVERSION, "/a_q", "/other")]
    dequantize = row("/a_dq_clone_1", "Reformat", {"a_q": INT8}, {"a_dq_clone_1": FP16})
    elu = row("PWN(/y, /twice)", "PointWise", {"next": FP16, "a_dq_clone_1": FP16}, {"y": FP32})
    assert found_in(model, dequantize, conv, elu) == [(CONVERSION, "/a_dq_clone_1", "/twice")]
    assert found_in(model, quantize) == [(CONVERSION, "/a_q", "")]
    # a view of the tensor, which runs nothing, is no reader
    view = row("/other", "NoOp", {"act": FP16}, {"view": FP16})
    elu = row("PWN(/y)", "PointWise", {"next": FP16, "view": FP16}, {"y": FP32})
    assert found_in(model, write, quantize, view, elu) == [(CONVERSION, "/a_q", "/y")]


def test_copies_between_layouts_cost_only_in_int8_or_beside_a_layer_in_float() -> None:
    model = net(SUM)
    conv = row("/conv + /act", "CaskConvolution", {"c_in": FP16, "w_dq": FP16}, {"c_out": FP16})
    before = row(f"{COPY} Input Tensor 0 to /conv + /act", "Reformat", {"x_dq": FP16}, {"c_in": FP16})
    after = row(f"{COPY} Output Tensor 0 to /conv + /act", "Reformat", {"view": FP16}, {"act": FP16})
    view = row(f"{COPY} Output Tensor 0 to /conv + /act, too", "NoOp", {"c_out": FP16}, {"view": FP16})
    far = row(f"{COPY} Input Tensor 0 to /y", "Reformat", {"next": FP16}, {"next_copy": FP16})
    assert set(found_in(model, before, conv, view, after, far)) == {
        (LAYOUT, before["Name"], "/conv"),
        (LAYOUT, after["Name"], "/conv"),
        (FLOAT, "/conv + /act", "/conv"),
    }
    for reads, writes in ((FP16, "N/A"), ("N/A", FP16), ("N/A", "N/A")):
        unknown = row(before["Name"], "Reformat", {"x_dq": reads}, {"c_in": writes})
        assert found_in(model, unknown, conv) == [(FLOAT, "/conv + /act", "/conv")]
    copy = row(f"{COPY} Input Tensor 0 to w_codes + /next + /y", "Reformat", {"a_q": INT8}, {"a_copy": INT8})
    reader = row("w_codes + /next + /y", "CaskConvolution", {"a_copy": INT8, "a_q": INT8}, {"y": FP32})
    assert found_in(model, copy, reader) == [(INT8_LAYOUT, copy["Name"], "/next")]
    # a Concat copies its inputs by Reformat layers of its own
    assert found_in(model, copy | {"Name": "/concat_a_q copy"}, reader) == []
    shape = row(f"{COPY} Input Tensor 0 to /y", "Reformat", {"n": "Row major INT32"}, {"m": "Row major INT32"})
    assert found_in(model, shape, shape | {"Outputs": tensors({"m": INT8})}) == []


ACTIVATION = [
    ("y = HardSwish(conv)", "PWN(/y, /y_12)", "conv", True),
    ("y = HardSwish(conv)", "PWN(/y_12)", "conv", True),
    ("gate = Sigmoid(conv)\n y = Mul(conv, gate)", "PWN(/gate, /y)", "conv", True),
    ("up = Add(conv, half)\n clip = Clip(up)\n y = Mul(clip, conv)", "PWN(PWN(/up, /clip), /y)", "conv", True),
    ("n = BatchNormalization(conv, b, b, b, b)\n y = Relu(n)", "PWN(/y)", "n", True),
    ("t = ConvTranspose(x_dq, w_dq)\n y = Relu(t)", "PWN(/y)", "t", True),
    # not behind a convolution, or no activation of it alone
    ("up = Add(conv, x_dq)\n y = Relu(up)", "PWN(/y)", "up", False),
    ("act = Relu(conv)\n y = Elu(act)", "PWN(/y)", "act", False),
    ("gate = Sigmoid(x_dq)\n y = Mul(conv, gate)", "PWN(/gate, /y)", "conv", False),
    ("pool = MaxPool <kernel_shape = [1, 1]> (x_dq)\n y = Relu(pool)", "PWN(/y)", "pool", False),
    ("y = Mul(conv, half)", "PWN(/y)", "conv", False),
    ("y = Softmax(conv)", "/y", "conv", False),
    ("y = Exp(x)", "PWN(/y)", "x", False),
    # a convolution whose input has no Q/DQ is float by choice
    ("free = Conv(x, w_dq)\n y = Relu(free)", "PWN(/y)", "free", False),
]


@pytest.mark.parametrize(("tail", "layer", "reads", "costly"), ACTIVATION)
@pytest.mark.parametrize(("datatype", "kind"), [(FP16, NOT_FUSED), (INT8, NOT_FUSED_INT8)])
def test_activation_right_behind_a_convolution_is_not_fused(
    tail: str, layer: str, reads: str, costly: bool, datatype: str, kind: str
) -> None:
    conv = "/t" if "ConvTranspose" in tail else "/conv"
    found = found_in(net(tail), row(layer, "PointWiseV2", {reads: datatype}, {"y": FP16}))
    assert found == ([(kind, layer, conv)] if costly else [])


def test_activation_behind_a_pair_or_found_by_its_metadata_is_not_fused() -> None:
    pair = "c_q = QuantizeLinear(conv, s, z)\n c_dq = DequantizeLinear(c_q, s, z)\n"
    model = net(pair + "gate = Sigmoid(c_dq)\n y = Mul(c_dq, gate)")
    shown = row("PWN(1)", "PointWise", {"c_q": INT8}, {"y": FP16}, Metadata="[ONNX Layer: /gate]\x1e[ONNX Layer: /y]")
    assert found_in(model, shown) == [(NOT_FUSED_INT8, "PWN(1)", "/conv")]
    fused = row("w_codes + /conv + PWN(/gate, /y)", "CaskConvolution", {"x_q": INT8}, {"y": FP16})
    assert found_in(model, fused) == []


@pytest.mark.parametrize(("name", "kind"), [("{ForeignNode[/w_dq.../y]}", "Myelin"), ("/w_dq", "Myelin")])
def test_nothing_is_claimed_about_regions(name: str, kind: str) -> None:
    region = row(name, kind, {"x_dq": FP16, "w_dq": FP16}, {"y": FP16})
    prepared = row(name, kind, {"w_dq": FP16}, {"y": FP16})
    assert found_in(net(RELU), region) == found_in(net(RELU), prepared) == []
    back = row("/x_dq", "Reformat", {"x_q": INT8}, {"x_dq": FP16})
    assert found_in(net(RELU), back, region) == [(CONVERSION, "/x_dq", "")]


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"Name": "/w_dq"},
        {"Name": "/x_dq", "LayerType": "Reformat"},
        {"Name": "/x_dq", "LayerType": "Reformat", "Inputs": ["Half"], "Outputs": ["Int8"]},
        {"Name": "/x_dq", "LayerType": "Reformat", "Inputs": [{}], "Outputs": [{"Name": "x_dq"}]},
        {"Name": "/conv", "LayerType": "CaskConvolution", "Inputs": [{"Name": "x"}], "Outputs": []},
    ],
)
def test_rows_with_missing_fields_claim_nothing(shown: dict[str, Any]) -> None:
    assert found_in(net(RELU), {"Name": "before"}, shown, {"Name": "behind"}) == []


def test_model_without_pairs_has_no_costs() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 14]> net (float[1] x) => (float[1] y) { y = Relu(x) }""")
    assert costs(Inspection([row("r", "Reformat", {"a": INT8}, {"b": FP16})], {}), model) == ()


def test_costs_come_with_their_time_the_most_expensive_first() -> None:
    rows = [row(name, "Reformat", {f"{name}_in": INT8}, {f"{name}_out": FP16}) for name in ("a", "c", "b", "d")]
    found = costs(Inspection(rows, {"a": 0.001, "b": 0.03, "c": 0.03}), net(RELU))
    assert [(cost.layer, cost.time_ms) for cost in found] == [("b", 0.03), ("c", 0.03), ("a", 0.001), ("d", 0.0)]


def test_every_kind_of_cost_has_a_meaning_and_a_remedy_with_codes_that_exist() -> None:
    assert {kind for kind, what in KINDS.items() if what.extra} == {WEIGHTS, LAYOUT, CONVERSION}
    assert len(KINDS) == 7
    for what in KINDS.values():
        named = re.findall(r"Q\d\d", what.remedy)
        assert what.meaning and named and set(named) <= set(CODES)
