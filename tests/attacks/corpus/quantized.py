"""Models that are quantized already, or in part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from corpus.control_flow import with_if
from corpus.nets import FLOW, IMAGES, WEIGHTS, Case, changed, text


def _constant_pair(m: ModelProto, name: str, values: NDArray[Any], scale: float, zero: NDArray[Any], q: bool) -> None:
    """A constant in codes behind a DequantizeLinear, or behind a pair, in place of an initializer."""
    kept = [t for t in m.graph.initializer if t.name != name]
    del m.graph.initializer[:]
    m.graph.initializer.extend(kept)
    info = np.iinfo(zero.dtype)
    codes = np.clip(np.rint(values / scale) + zero, info.min, info.max).astype(zero.dtype)
    m.graph.initializer.extend([
        numpy_helper.from_array(np.float32(scale), f"{name}_scale"), numpy_helper.from_array(zero, f"{name}_zero"),
        numpy_helper.from_array(values if q else codes, f"{name}_stored")])  # fmt: skip
    made = f"{name}_stored"
    nodes = []
    if q:
        nodes.append(helper.make_node("QuantizeLinear", [made, f"{name}_scale", f"{name}_zero"], [f"{name}_q"]))
        made = f"{name}_q"
    nodes.append(helper.make_node("DequantizeLinear", [made, f"{name}_scale", f"{name}_zero"], [name]))
    for k, node in enumerate(nodes):
        m.graph.node.insert(k, node)


def _bias_only(m: ModelProto) -> None:
    for name in ("b1", "b3"):
        _constant_pair(m, name, WEIGHTS[name], 1e-4, np.array(0, np.int32), q=False)


def _weight_only(m: ModelProto, q: bool = False) -> None:
    for name in ("w1", "w2", "w3"):
        amax = float(np.abs(WEIGHTS[name]).max())
        _constant_pair(m, name, WEIGHTS[name], amax / 127, np.array(0, np.int8), q=q)


def pair_on(m: ModelProto, tensor: str, scale: float = 0.05, zero: int = 0, kind: Any = np.int8) -> None:
    """A Q/DQ pair behind a tensor, for all its readers."""
    for node in m.graph.node:
        for k, name in enumerate(node.input):
            if name == tensor:
                node.input[k] = f"{tensor}_dq"
    m.graph.initializer.extend([
        numpy_helper.from_array(np.float32(scale), f"{tensor}_s"),
        numpy_helper.from_array(np.array(zero, kind), f"{tensor}_z")])  # fmt: skip
    index = next((k + 1 for k, n in enumerate(m.graph.node) if tensor in n.output), 0)
    parameters = [f"{tensor}_s", f"{tensor}_z"]
    m.graph.node.insert(index, helper.make_node("QuantizeLinear", [tensor, *parameters], [f"{tensor}_q"]))
    m.graph.node.insert(index + 1, helper.make_node("DequantizeLinear", [f"{tensor}_q", *parameters], [f"{tensor}_dq"]))


def _full_qdq(m: ModelProto) -> None:
    _weight_only(m)
    for tensor in ("image", "r", "f"):
        pair_on(m, tensor)


def _dynamic(m: ModelProto) -> None:
    """As onnxruntime.quantization.quantize_dynamic writes a Gemm."""
    codes = np.clip(np.rint(WEIGHTS["w3"] / 0.01), -127, 127).astype(np.int8)
    del m.graph.node[-1]
    m.graph.initializer.extend([
        numpy_helper.from_array(codes, "w3_q"), numpy_helper.from_array(np.array(0, np.int8), "w3_z"),
        numpy_helper.from_array(np.float32(0.01), "w3_s")])  # fmt: skip
    m.graph.node.extend(
        [
            helper.make_node("DynamicQuantizeLinear", ["f"], ["f_q", "f_s", "f_z"]),
            helper.make_node("MatMulInteger", ["f_q", "w3_q", "f_z", "w3_z"], ["g_i"], name="gemm_int"),
            helper.make_node("Cast", ["g_i"], ["g_f"], to=1),
            helper.make_node("Mul", ["f_s", "w3_s"], ["fw_s"]),
            helper.make_node("Mul", ["g_f", "fw_s"], ["g_m"]),
            helper.make_node("Add", ["g_m", "b3"], ["logits"]),
        ]
    )


def _speech(m: ModelProto) -> None:
    """Dynamic products, biases behind DequantizeLinear: a quantized speech model."""
    _dynamic(m)
    _constant_pair(m, "b3", WEIGHTS["b3"], 1e-4, np.array(0, np.int32), q=False)


def _qlinear() -> ModelProto:
    names = {"xs": np.float32(0.02), "xz": np.array(0, np.int8), "wq": np.ones((4, 3, 1, 1), np.int8),
             "ws": np.float32(0.1), "ys": np.float32(0.05)}  # fmt: skip
    return text("""qop (float[N,3,8,8] image) => (float[N,4,8,8] y) {
        q = QuantizeLinear (image, xs, xz)
        c = QLinearConv (q, xs, xz, wq, ws, xz, ys, xz)
        y = DequantizeLinear (c, ys, xz)
    }""", names)  # fmt: skip


def _qdq_in_if(m: ModelProto) -> None:
    with_if(m)
    node = next(n for n in m.graph.node if n.op_type == "If")
    m.graph.initializer.extend([numpy_helper.from_array(np.float32(0.1), "is"),
                                numpy_helper.from_array(np.array(0, np.int8), "iz")])  # fmt: skip
    for k, attribute in enumerate(node.attribute):
        last = attribute.g.node[-1]
        wanted, last.output[0] = last.output[0], f"pre{k}"
        attribute.g.node.append(helper.make_node("QuantizeLinear", [f"pre{k}", "is", "iz"], [f"iq{k}"]))
        attribute.g.node.append(helper.make_node("DequantizeLinear", [f"iq{k}", "is", "iz"], [wanted]))


def quantized() -> Iterator[Case]:
    yield Case("qdq_biases_only", changed(_bias_only), IMAGES, f"{FLOW} lint inspect fp16")
    yield Case("qdq_weights_only", changed(_weight_only), IMAGES, "lint inspect")
    yield Case("qdq_weights_only_pairs", changed(lambda m: _weight_only(m, q=True)), IMAGES, "lint inspect")
    yield Case("qdq_full", changed(_full_qdq), IMAGES, "lint inspect requantize repair fp16")
    yield Case("qdq_part", changed(lambda m: pair_on(m, "r")), IMAGES, "lint inspect")
    yield Case("qdq_on_output", changed(lambda m: pair_on(m, "f")), IMAGES, "lint inspect")
    yield Case("qdq_uint8", changed(lambda m: pair_on(m, "r", zero=0, kind=np.uint8)), IMAGES, "lint inspect repair")
    yield Case("qdq_in_if", changed(_qdq_in_if), IMAGES, FLOW)
    yield Case("dynamic_quantized", changed(_dynamic), IMAGES, FLOW)
    yield Case("speech_quantized", changed(_speech), IMAGES, FLOW)
    yield Case("qlinear", _qlinear(), IMAGES, "inspect lint")
    yield Case("qdq_scale_empty", changed(lambda m: _scale(m, np.zeros(0, np.float32))), IMAGES)
    yield Case("qdq_scale_nan", changed(lambda m: _scale(m, np.float32("nan"))), IMAGES, "lint")
    yield Case("qdq_scale_zero", changed(lambda m: _scale(m, np.float32(0))), IMAGES, "lint")
    yield Case("qdq_scale_wrong_count", changed(lambda m: _scale(m, np.ones(7, np.float32))), IMAGES)
    yield Case("qdq_scale_matrix", changed(lambda m: _scale(m, np.ones((2, 2), np.float32))), IMAGES)
    yield Case("qdq_axis_out_of_range", changed(_axis_out_of_range), IMAGES)
    yield Case("qdq_axis_negative", changed(lambda m: _axis_out_of_range(m, -9)), IMAGES)
    yield Case("qdq_zero_point_empty", changed(lambda m: _zero(m, np.zeros(0, np.int8))), IMAGES)
    yield Case("qdq_zero_point_float", changed(lambda m: _zero(m, np.zeros((), np.float32))), IMAGES)
    yield Case("qdq_scale_computed", changed(_scale_computed), IMAGES, "lint")
    yield Case("qdq_one_input", changed(_one_input), IMAGES)


def _scale(m: ModelProto, scale: Any) -> None:
    _full_qdq(m)
    next(t for t in m.graph.initializer if t.name == "r_s").CopyFrom(numpy_helper.from_array(np.asarray(scale), "r_s"))


def _zero(m: ModelProto, zero: Any) -> None:
    _full_qdq(m)
    next(t for t in m.graph.initializer if t.name == "r_z").CopyFrom(numpy_helper.from_array(np.asarray(zero), "r_z"))


def _axis_out_of_range(m: ModelProto, axis: int = 7) -> None:
    _scale(m, np.full(16, 0.05, np.float32))
    _zero_like = numpy_helper.from_array(np.zeros(16, np.int8), "r_z")
    next(t for t in m.graph.initializer if t.name == "r_z").CopyFrom(_zero_like)
    for node in m.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and "r_s" in node.input:
            node.attribute.append(helper.make_attribute("axis", axis))


def _scale_computed(m: ModelProto) -> None:
    _full_qdq(m)
    for node in m.graph.node:
        for k, name in enumerate(node.input):
            if name == "r_s":
                node.input[k] = "r_s2"
    m.graph.node.insert(0, helper.make_node("ReduceMax", ["image"], ["r_s0"], keepdims=0))
    m.graph.node.insert(1, helper.make_node("Abs", ["r_s0"], ["r_s2"]))


def _one_input(m: ModelProto) -> None:
    _full_qdq(m)
    node = next(n for n in m.graph.node if n.op_type == "QuantizeLinear")
    del node.input[1:]
