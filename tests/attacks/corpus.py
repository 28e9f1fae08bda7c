"""Models as no tutorial has them: every kind that an exporter, a tool or an accident writes. Seeded and small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOW = "calibrate quantize compare"
"""The way from a float model to its comparison."""
NAMED = r"'[^']+'|model\.onnx|\bModel\b"
"""What an error that names its thing matches."""


@dataclass(frozen=True)
class Case:
    """A model and what must come of it.

    Attributes:
        name: Of its folder.
        model: Its content.
        data: What it is fed.
        works: The commands that end with 0, see `models.py`; the others may refuse it.
        says: What those of FLOW print; where none of these works, the error of `calibrate`, and of every command where
            nothing works.
        files: What else lies beside it.
    """

    name: str
    model: ModelProto | bytes
    data: Mapping[str, NDArray[Any]]
    works: str = ""
    says: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """The model, its data and its files into a new folder."""
        folder.mkdir()
        content = self.model if isinstance(self.model, bytes) else self.model.SerializeToString()
        (folder / "model.onnx").write_bytes(content)
        np.savez(folder / "data.npz", **self.data)
        for name, text in self.files.items():
            (folder / name).write_bytes(text)


def floats(*shape: int, seed: int = 0, scale: float = 0.3) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


IMAGES = {"image": floats(8, 3, 8, 8, scale=1.0)}
WEIGHTS = {
    "w1": floats(16, 3, 3, 3, seed=1), "b1": floats(16, seed=2), "w2": floats(16, 16, 3, 3, seed=3),
    "w3": floats(16, 5, seed=4), "b3": floats(5, seed=5),
}  # fmt: skip
BODY = """
    a = Conv <pads = [1,1,1,1]> (image, w1, b1)
    r = Relu (a)
    c = Conv <pads = [1,1,1,1]> (r, w2)
    s = Add (c, r)
    p = GlobalAveragePool (s)
    f = Flatten (p)
"""
HEAD = "    logits = Gemm (f, w3, b3)\n"


def text(graph: str, weights: Mapping[str, NDArray[Any]] | None = None, opset: int = 13, ir: int = 8,
         domains: str = "", functions: str = "") -> ModelProto:  # fmt: skip
    """A model from ONNX text."""
    proto = onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}{domains}]>\n{graph}\n{functions}')
    proto.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in (weights or {}).items())
    return proto


def net(head: str = HEAD, outputs: str = "float[N,5] logits", inputs: str = "float[N,3,8,8] image",
        more: Mapping[str, NDArray[Any]] | None = None, body: str = BODY, **other: Any) -> ModelProto:  # fmt: skip
    """The usual small network with another head, interface or body."""
    return text(f"net ({inputs}) => ({outputs}) {{{body}{head}}}", {**WEIGHTS, **(more or {})}, **other)


def changed(change: Callable[[ModelProto], object], proto: ModelProto | None = None) -> ModelProto:
    """A model after a change."""
    proto = proto or net()
    change(proto)
    return proto


def subgraph(nodes: list[NodeProto], inputs: str = "", outputs: str = "", name: str = "inner") -> GraphProto:
    def values(names: str) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names.split()]

    return helper.make_graph(nodes, name, values(inputs), values(outputs))


def corpus() -> Iterator[Case]:
    """All of it."""
    for family in (plugins, control_flow, functions, quantized, inputs, names, structure, values, versions, tasks):
        yield from family()


# --- operators that ONNX Runtime does not know ---------------------------------------------------------------------
NMS_OUTPUTS = "int32[N,1] num, float[N,10,4] boxes, float[N,10] scores, int32[N,10] classes"
DETECT = """
    boxes_in = Conv <pads = [1,1,1,1]> (s, wb)
    scores_in = Conv <pads = [1,1,1,1]> (s, ws)
    b4 = Reshape (boxes_in, box_shape)
    s4 = Reshape (scores_in, score_shape)
"""
DETECT_WEIGHTS = {
    "wb": floats(4, 16, 3, 3, seed=6), "ws": floats(2, 16, 3, 3, seed=7),
    "box_shape": np.array([0, -1, 4], np.int64), "score_shape": np.array([0, -1, 2], np.int64),
}  # fmt: skip


def detector(domain: str, imported: bool = True, tail: str = "", opset: int = 13) -> ModelProto:
    """As detectors are exported for TensorRT."""
    plugin = helper.make_node(
        "EfficientNMS_TRT", ["b4", "s4"], ["num", "boxes", "scores", "classes"], name="nms", domain=domain,
        background_class=-1, max_output_boxes=10, score_threshold=0.25, iou_threshold=0.6, plugin_version="1",
    )  # fmt: skip
    proto = net(DETECT, NMS_OUTPUTS, more=DETECT_WEIGHTS, opset=opset)
    proto.graph.node.append(plugin)
    if imported and domain:
        proto.opset_import.add(domain=domain, version=1)
    return proto


def plugin_between(op: str = "DCNv2_TRT", domain: str = "", inputs: tuple[str, ...] = ("s",)) -> ModelProto:
    """A plugin with layers behind it."""
    proto = net("    h = Conv <pads = [1,1,1,1]> (g, w2)\n    hp = GlobalAveragePool (h)\n    hf = Flatten (hp)\n"
                "    logits = Gemm (hf, w3, b3)\n", body=BODY)  # fmt: skip
    index = next(i for i, n in enumerate(proto.graph.node) if n.output[0] == "h")
    proto.graph.node.insert(index, helper.make_node(op, list(inputs), ["g"], name="plug", domain=domain))
    if domain:
        proto.opset_import.add(domain=domain, version=1)
    return proto


def plugins() -> Iterator[Case]:
    for name, domain in (("default", ""), ("trt", "TRT"), ("trt_plugins", "trt.plugins")):
        yield Case(f"nms_{name}", detector(domain), IMAGES, f"{FLOW} inspect lint fp16 check-data", "nms|EfficientNMS")
    yield Case("nms_domain_not_imported", detector("TRT", imported=False), IMAGES, FLOW)
    yield Case("nms_opset_11", detector("", opset=11), IMAGES, FLOW)
    yield Case("plugin_between", plugin_between(), IMAGES, FLOW, "plug")
    yield Case("plugin_between_domain", plugin_between(domain="my.ops"), IMAGES, FLOW, "plug")
    yield Case("plugin_first", changed(_plugin_first), IMAGES, "inspect lint", "plug|Plug")
    only = helper.make_model(helper.make_graph(
        [helper.make_node("MyOp", ["image"], ["y"], name="plug")], "g",
        [helper.make_tensor_value_info("image", 1, ["N", 3])], [helper.make_tensor_value_info("y", 1, ["N", 3])],
    ), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)  # fmt: skip
    yield Case("plugin_only", only, {"image": floats(4, 3)}, "inspect lint", "MyOp")
    yield Case("plugin_branch", changed(_plugin_branch), IMAGES, FLOW, "plug")
    yield Case("plugin_constant", changed(_plugin_of_constants), IMAGES, FLOW, "prior")
    yield Case("plugin_input", changed(_plugin_reads_input), IMAGES, FLOW, "plug")
    yield Case("plugin_in_if", changed(_plugin_in_if), IMAGES, FLOW)
    yield Case("plugin_name_of_rule", plugin_between("Conv", "my.ops"), IMAGES, FLOW, "plug")
    yield Case("plugin_two", changed(_plugin_twice), IMAGES, FLOW, "Plug")
    gelu = net("    g = com.microsoft.FastGelu (f)\n" + HEAD.replace("(f", "(g"), domains=', "com.microsoft" : 1')
    yield Case("contrib_fast_gelu", gelu, IMAGES, FLOW)
    fused = net("", "float[N,16,8,8] logits", body="""
        logits = com.microsoft.FusedConv <pads = [1,1,1,1], activation = "Relu"> (image, w1, b1)
    """, domains=', "com.microsoft" : 1')  # fmt: skip
    yield Case("contrib_fused_conv", fused, IMAGES)
    cuda_only = changed(lambda m: m.graph.node.insert(6, helper.make_node(
        "GroupNorm", ["s", "gm", "bt"], ["gn"], name="plug", domain="com.microsoft", groups=2, epsilon=1e-5,
        activation=0, channels_last=1)), net(more={"gm": floats(16), "bt": floats(16)},
        domains=', "com.microsoft" : 1', outputs="float[N,5] logits, gn"))  # fmt: skip
    yield Case("contrib_without_kernel", cuda_only, IMAGES, FLOW)


def _plugin_first(m: ModelProto) -> None:
    m.graph.node.insert(0, helper.make_node("Plug_TRT", ["image"], ["image2"], name="plug"))
    m.graph.node[1].input[0] = "image2"


def _plugin_branch(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("Plug_TRT", ["r"], ["extra"], name="plug"))
    m.graph.output.append(helper.make_tensor_value_info("extra", 1, None))


def _plugin_of_constants(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("PriorBox_TRT", ["w1", "r"], ["extra"], name="prior"))
    m.graph.node.append(helper.make_node("Anchors_TRT", ["w1"], ["anchors"], name="prior2"))
    for name in ("extra", "anchors"):
        m.graph.output.append(helper.make_tensor_value_info(name, 1, None))


def _plugin_reads_input(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("Plug_TRT", ["image", "f"], ["extra"], name="plug"))
    m.graph.output.append(helper.make_tensor_value_info("extra", 1, None))


def _plugin_twice(m: ModelProto) -> None:
    for k, source in enumerate(("logits", "extra0")):
        m.graph.node.append(helper.make_node("Plug_TRT", [source], [f"extra{k}"]))
        m.graph.output.append(helper.make_tensor_value_info(f"extra{k}", 1, None))


def _plugin_in_if(m: ModelProto) -> None:
    branches = {k: subgraph([helper.make_node("Plug_TRT", ["f"], [f"{k}_y"], name=f"{k}_plug")], "", f"{k}_y")
                for k in ("then_branch", "else_branch")}  # fmt: skip
    m.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    m.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "zero"))
    m.graph.node.append(helper.make_node("ReduceMax", ["f"], ["top"], keepdims=0))
    m.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nil"))
    m.graph.node.append(helper.make_node("Greater", ["top", "nil"], ["is_on"]))
    m.graph.node.append(helper.make_node("If", ["is_on"], ["extra"], name="plug_if", **branches))
    m.graph.output.append(helper.make_tensor_value_info("extra", 1, None))


# --- If, Loop, Scan, functions -------------------------------------------------------------------------------------
def _branches(op: str = "Conv", **attrs: Any) -> dict[str, GraphProto]:
    made = {}
    for k, weight in (("then_branch", "w2"), ("else_branch", "w2b")):
        made[k] = subgraph([helper.make_node(op, ["r", weight], [f"{k}_y"], **attrs)], "", f"{k}_y", k)
    return made


def _with_if(m: ModelProto) -> None:
    m.graph.initializer.append(numpy_helper.from_array(floats(16, 16, 3, 3, seed=9), "w2b"))
    m.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nil"))
    found = next(n for n in m.graph.node if n.output[0] == "c")
    index = list(m.graph.node).index(found)
    del m.graph.node[index]
    for k, node in enumerate((
        helper.make_node("ReduceMax", ["r"], ["top"], keepdims=0), helper.make_node("Greater", ["top", "nil"], ["on"]),
        helper.make_node("If", ["on"], ["c"], name="choice", **_branches(pads=[1, 1, 1, 1])),
    )):  # fmt: skip
        m.graph.node.insert(index + k, node)


def _with_loop(m: ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Conv", ["v", "w2"], ["v2"], pads=[1, 1, 1, 1]),
         helper.make_node("Identity", ["go"], ["go2"])], "body",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("go", 9, []),
         helper.make_tensor_value_info("v", 1, None)],
        [helper.make_tensor_value_info("go2", 9, []), helper.make_tensor_value_info("v2", 1, None)],
    )  # fmt: skip
    m.graph.initializer.append(numpy_helper.from_array(np.array(2, np.int64), "trips"))
    index = next(k for k, n in enumerate(m.graph.node) if n.output[0] == "c")
    del m.graph.node[index]
    m.graph.node.insert(index, helper.make_node("Loop", ["trips", "", "r"], ["c"], name="turn", body=body))


def _with_scan(m: ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "row"], ["state2"]), helper.make_node("Relu", ["state2"], ["out"])], "body",
        [helper.make_tensor_value_info(n, 1, None) for n in ("state", "row")],
        [helper.make_tensor_value_info(n, 1, None) for n in ("state2", "out")],
    )  # fmt: skip
    index = next(k for k, n in enumerate(m.graph.node) if n.output[0] == "c")
    m.graph.initializer.append(numpy_helper.from_array(np.zeros((16, 8), np.float32), "start"))
    m.graph.node[index].output[0] = "c0"
    m.graph.node.insert(index + 1, helper.make_node("ReduceMean", ["c0"], ["c1"], axes=[0], keepdims=0))
    m.graph.node.insert(
        index + 2,
        helper.make_node(
            "Scan", ["start", "c1"], ["last", "rows"], name="scan", body=body, num_scan_inputs=1, scan_input_axes=[1]
        ),
    )
    m.graph.node.insert(index + 3, helper.make_node("Add", ["c0", "last_b"], ["c"]))
    m.graph.initializer.append(numpy_helper.from_array(np.array([1, 16, 8, 1], np.int64), "as_map"))
    m.graph.node.insert(index + 3, helper.make_node("Reshape", ["last", "as_map"], ["last_b"]))


def _conv_only_in_if(m: ModelProto) -> None:
    _with_if(m)
    m.graph.node[0].CopyFrom(helper.make_node("Identity", ["image"], ["r0"]))
    m.graph.node[1].CopyFrom(helper.make_node("Concat", ["r0"] * 6, ["r6"], axis=1))
    for k, limit in enumerate((0, 16, 1)):
        m.graph.initializer.append(numpy_helper.from_array(np.array([limit], np.int64), f"cut{k}"))
    m.graph.node.insert(2, helper.make_node("Slice", ["r6", "cut0", "cut1", "cut2"], ["r"]))


def control_flow() -> Iterator[Case]:
    yield Case("conv_in_if", changed(_with_if), IMAGES, FLOW)
    yield Case("conv_in_loop", changed(_with_loop), IMAGES, FLOW)
    yield Case("scan", changed(_with_scan), IMAGES, FLOW)
    yield Case("conv_only_in_if", changed(_conv_only_in_if), IMAGES)
    yield Case("matmul_in_if_same_names", changed(_same_names_in_branches), IMAGES, FLOW)
    yield Case("if_gives_output", changed(_if_gives_output), IMAGES, FLOW)
    yield Case("nested_if", changed(_nested_if), IMAGES, FLOW)
    yield Case("initializers_in_branches", changed(_inner_weights), IMAGES, FLOW)


def _same_names_in_branches(m: ModelProto) -> None:
    _with_if(m)
    node = next(n for n in m.graph.node if n.op_type == "If")
    for attribute in node.attribute:
        attribute.g.node[0].name = "inner_conv"
        attribute.g.node[0].output[0] = attribute.g.output[0].name = "inner_y"


def _if_gives_output(m: ModelProto) -> None:
    _with_if(m)
    m.graph.output.append(helper.make_tensor_value_info("c", 1, None))


def _nested_if(m: ModelProto) -> None:
    _with_if(m)
    node = next(n for n in m.graph.node if n.op_type == "If")
    branch = node.attribute[0].g
    inner = [subgraph([helper.make_node("Conv", ["r", "w2"], [f"deep{k}"], pads=[1, 1, 1, 1])], "", f"deep{k}")
             for k in range(2)]  # fmt: skip
    wanted = branch.output[0].name
    branch.node[0].CopyFrom(helper.make_node("If", ["on"], [wanted], then_branch=inner[0], else_branch=inner[1]))


def _inner_weights(m: ModelProto) -> None:
    _with_if(m)
    node = next(n for n in m.graph.node if n.op_type == "If")
    for k, attribute in enumerate(node.attribute):
        attribute.g.initializer.append(numpy_helper.from_array(floats(16, 16, 3, 3, seed=k), "inner_w"))
        attribute.g.node[0].input[1] = "inner_w"


FUNCTION = """<opset_import: ["" : 13], domain: "mine">
block (x, w) => (y) { t = Conv <pads = [1,1,1,1]> (x, w)  y = Relu (t) }"""


def functions() -> Iterator[Case]:
    called = BODY.replace("Conv <pads = [1,1,1,1]> (r, w2)", "mine.block (r, w2)")
    yield Case("local_function", net(body=called, domains=', "mine" : 1', functions=FUNCTION, ir=9), IMAGES, FLOW)
    twice = called + "    s2 = mine.block (s, w2)\n"
    yield Case("local_function_twice",
               net(body=twice, domains=', "mine" : 1', functions=FUNCTION, ir=9), IMAGES, FLOW)  # fmt: skip
    nested = (
        FUNCTION
        + """
<opset_import: ["" : 13, "mine" : 1], domain: "mine">
outer (x, w) => (y) { t = mine.block (x, w)  y = mine.block (t, w) }"""
    )
    yield Case(
        "nested_functions",
        net(body=called.replace("mine.block", "mine.outer"), domains=', "mine" : 1', functions=nested, ir=9),
        IMAGES,
        FLOW,
    )
    for name, ops in (("recursive_function", ("f", "f")), ("mutually_recursive_functions", ("g", "f"))):
        proto = net(body=BODY.replace("Relu (a)", "mine.f (a)"), domains=', "mine" : 1', ir=9)
        for op, callee in zip(("f", "g"), ops, strict=True):
            proto.functions.append(helper.make_function(
                "mine", op, ["x"], ["y"], [helper.make_node(callee, ["x"], ["y"], domain="mine")],
                [helper.make_opsetid("", 13), helper.make_opsetid("mine", 1)]))  # fmt: skip
        yield Case(name, proto, IMAGES, "", "recurs")
    other = FUNCTION.replace('"" : 13', '"" : 17')
    yield Case("function_of_other_opset", net(body=called, domains=', "mine" : 1', functions=other, ir=9), IMAGES)
    unused = net(domains=', "mine" : 1', functions=FUNCTION, ir=9)
    yield Case("unused_function", unused, IMAGES, FLOW)
    with_plugin = FUNCTION.replace("y = Relu (t)", "y = my.ops.Plug (t)").replace('"" : 13', '"" : 13, "my.ops" : 1')
    yield Case(
        "function_with_plugin",
        net(body=called, domains=', "mine" : 1, "my.ops" : 1', functions=with_plugin, ir=9),
        IMAGES,
    )


# --- models that are quantized already, or in part -----------------------------------------------------------------
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
    _with_if(m)
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


# --- inputs and outputs --------------------------------------------------------------------------------------------
def inputs() -> Iterator[Case]:
    state = HEAD.replace("logits", "l0") + "    logits = Add (l0, state)\n"
    yield Case("state_1", net(state, inputs="float[N,3,8,8] image, float[1,5] state"),
               {**IMAGES, "state": floats(1, 5)}, FLOW)  # fmt: skip
    scalar = HEAD.replace("logits", "l0") + "    logits = Mul (l0, factor)\n"
    yield Case("scalar", net(scalar, inputs="float[N,3,8,8] image, float factor"),
               {**IMAGES, "factor": np.float32(0.5)}, FLOW)  # fmt: skip
    yield Case("scalar_first", net(scalar, inputs="float factor, float[N,3,8,8] image"),
               {**IMAGES, "factor": np.float32(0.5)}, FLOW)  # fmt: skip
    fed = HEAD.replace("w3", "fed")
    yield Case("weight_fed", net(fed, inputs="float[N,3,8,8] image, float[16,5] fed"),
               {**IMAGES, "fed": WEIGHTS["w3"]}, FLOW)  # fmt: skip
    fixed = BODY + "    fs = Add (f, state)\n"
    yield Case("state_2_fixed", net(
        HEAD.replace("(f", "(fs"), "float[1,5] logits", "float[1,3,8,8] image, float[2,8] state",
        body=fixed.replace("(f, state)", "(f, st)").replace("fs = ", "st = Reshape (state, to)\n    fs = "),
        more={"to": np.array([1, 16], np.int64)}), {**IMAGES, "state": floats(2, 8)}, FLOW)  # fmt: skip
    rnn = {"w": floats(1, 9, 4), "u": floats(1, 9, 3), "h_w": floats(3, 5)}
    gru = """speech (float[T,B,4] x, float[1,B,3] h) => (float[B,5] y, hn) {
        s, hn = GRU <hidden_size = 3> (x, w, u, , , h)
        z = Squeeze (hn, ax)
        y = MatMul (z, h_w)
    }"""
    yield Case("gru_state", text(gru, rnn | {"ax": np.array([0], np.int64)}),
               {"x": floats(6, 2, 4), "h": floats(1, 2, 3)}, "calibrate compare")  # fmt: skip
    rate = "    big = Greater (sr, k8)\n    bigf = Cast <to = 1> (big)\n" + HEAD.replace("logits", "l0")
    yield Case("sample_rate", net(rate + "    logits = Mul (l0, bigf)\n", more={"k8": np.array(8000, np.int64)},
               inputs="float[N,3,8,8] image, int64 sr"), {**IMAGES, "sr": np.array(16000)}, FLOW)  # fmt: skip
    two = HEAD.replace("logits", "l0") + "    m = ReduceMean <axes = [0]> (other)\n    logits = Add (l0, m)\n"
    yield Case("two_batch_dims", net(two, inputs="float[N,3,8,8] image, float[M,5] other"),
               {**IMAGES, "other": floats(3, 5)})  # fmt: skip
    yield Case("batch_2_31", changed(lambda m: _dim(m, 2**31)), IMAGES)
    yield Case("batch_2_62", changed(lambda m: _dim(m, 2**62)), IMAGES)
    yield Case("batch_zero", changed(lambda m: _dim(m, 0)), IMAGES)
    yield Case("batch_negative", changed(lambda m: _dim(m, -1)), IMAGES)
    yield Case("batch_fixed", net(inputs="float[4,3,8,8] image", outputs="float[4,5] logits"), IMAGES, FLOW)
    yield Case("spatial_2_31", changed(lambda m: _dim(m, 2**31, 2)), IMAGES)
    symbols = net(inputs="float[batch,3,height,width] image")
    yield Case("symbols", symbols, IMAGES, FLOW)
    yield Case("symbol_expression", changed(lambda m: _symbol(m, "2*N + 1")), IMAGES, FLOW)
    yield Case("symbol_empty_all", net(inputs="float[?,?,?,?] image", outputs="float[?,?] logits"), IMAGES, FLOW)
    yield Case("no_shape", changed(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")), IMAGES, FLOW)
    yield Case("output_2_31", changed(lambda m: _dim(m, 2**31, of="output")), IMAGES, FLOW)
    yield Case("no_input_type", changed(lambda m: m.graph.input[0].ClearField("type")), IMAGES)
    yield Case("no_elem_type", changed(lambda m: m.graph.input[0].type.tensor_type.ClearField("elem_type")), IMAGES)
    yield Case("no_output_type", changed(lambda m: m.graph.output[0].ClearField("type")), IMAGES)
    yield Case(
        "zero_dim",
        net(
            HEAD.replace("logits", "l0") + "    logits = Concat <axis = 1> (l0, none)\n",
            inputs="float[N,3,8,8] image, float[N,0] none",
        ),
        {**IMAGES, "none": np.zeros((8, 0), np.float32)},
    )
    for kind, dtype in (("int64", np.int64), ("bool", np.bool_), ("uint8", np.uint8), ("float16", np.float16),
                        ("double", np.float64), ("int8", np.int8)):  # fmt: skip
        cast = BODY.replace("(image", "(im").replace("    a =", "    im = Cast <to = 1> (image)\n    a =", 1)
        array = np.abs(IMAGES["image"] * 9).astype(dtype)
        yield Case(f"input_{kind}", net(body=cast, inputs=f"{kind}[N,3,8,8] image"), {"image": array}, FLOW)
    bf16 = BODY.replace("(image", "(im").replace("    a =", "    im = Cast <to = 1> (image)\n    a =", 1)
    yield Case("input_bfloat16", net(body=bf16, inputs="bfloat16[N,3,8,8] image"), IMAGES)
    yield Case("input_string", net(inputs="float[N,3,8,8] image, string[N] label",
               outputs="float[N,5] logits, string[N] same", head=HEAD + "    same = Identity (label)\n"),
               {**IMAGES, "label": np.array(["a"] * 8)})  # fmt: skip
    for kind in ("sequence_type", "optional_type", "map_type"):
        yield Case(f"input_{kind}", changed(lambda m, kind=kind: _container_input(m, kind)), IMAGES)
    yield Case("output_sequence", changed(_sequence_output), IMAGES, FLOW)
    yield Case("output_sequence_only", changed(_sequence_only), IMAGES)
    yield Case("output_optional", changed(_optional_output, net(opset=18)), IMAGES)
    yield Case("output_zipmap", changed(_zipmap), IMAGES, FLOW)
    yield Case("output_string", changed(_string_output), IMAGES)
    yield Case("output_int", net(HEAD + "    top = ArgMax <axis = 1> (logits)\n", "float[N,5] logits, int64[N,1] top"),
               IMAGES, FLOW)  # fmt: skip
    yield Case("output_int_only", net(HEAD + "    top = ArgMax <axis = 1> (logits)\n", "int64[N,1] top"), IMAGES)
    yield Case("output_is_input", changed(lambda m: m.graph.output.append(m.graph.input[0])), IMAGES, FLOW)
    yield Case(
        "output_is_weight",
        changed(lambda m: m.graph.output.append(helper.make_tensor_value_info("w3", 1, [16, 5]))),
        IMAGES,
    )
    yield Case("output_twice", changed(lambda m: m.graph.output.append(m.graph.output[0])), IMAGES)
    yield Case(
        "output_unknown",
        changed(lambda m: m.graph.output.append(helper.make_tensor_value_info("nowhere", 1, [5]))),
        IMAGES,
        "",
        "nowhere",
    )
    yield Case("no_outputs", changed(lambda m: m.graph.ClearField("output")), IMAGES, "", "output")
    yield Case("no_inputs", changed(_no_inputs), IMAGES)
    yield Case("no_nodes", changed(lambda m: m.graph.ClearField("node")), IMAGES, "", NAMED)
    yield Case("no_graph", changed(lambda m: m.ClearField("graph")), IMAGES, "", NAMED)
    yield Case("wrong_declared_output", net(outputs="float[N,7] logits"), IMAGES, "lint")
    yield Case("wrong_declared_type", net(outputs="int64[N,5] logits"), IMAGES, "lint")
    yield Case("input_twice", changed(lambda m: m.graph.input.append(m.graph.input[0])), IMAGES, "", "image")
    yield Case("input_unused", net(inputs="float[N,3,8,8] image, float[N,4] unused"),
               {**IMAGES, "unused": floats(8, 4)}, FLOW)  # fmt: skip


def _dim(m: ModelProto, value: int, axis: int = 0, of: str = "input") -> None:
    getattr(m.graph, of)[0].type.tensor_type.shape.dim[axis].dim_value = value


def _symbol(m: ModelProto, name: str) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_param = name


def _container_input(m: ModelProto, kind: str) -> None:
    value = m.graph.input.add(name="box")
    tensor = helper.make_tensor_type_proto(1, [None])
    if kind == "map_type":
        value.type.map_type.key_type = TensorProto.INT64
        value.type.map_type.value_type.CopyFrom(tensor)
    else:
        getattr(value.type, kind).elem_type.CopyFrom(tensor)


def _sequence_output(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("SequenceConstruct", ["logits", "f"], ["both"], name="both_node"))
    m.graph.output.append(helper.make_tensor_sequence_value_info("both", 1, None))


def _sequence_only(m: ModelProto) -> None:
    _sequence_output(m)
    del m.graph.output[0]


def _optional_output(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("Optional", ["logits"], ["maybe"]))
    value = m.graph.output.add(name="maybe")
    value.type.optional_type.elem_type.CopyFrom(helper.make_tensor_type_proto(1, ["N", 5]))


def _zipmap(m: ModelProto) -> None:
    m.graph.node.append(
        helper.make_node("ZipMap", ["logits"], ["table"], domain="ai.onnx.ml", classlabels_int64s=list(range(5)))
    )
    m.opset_import.add(domain="ai.onnx.ml", version=3)
    value = m.graph.output.add(name="table")
    value.type.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    value.type.sequence_type.elem_type.map_type.value_type.CopyFrom(helper.make_tensor_type_proto(1, []))


def _string_output(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("Cast", ["logits"], ["words"], to=TensorProto.STRING))
    m.graph.output.append(helper.make_tensor_value_info("words", TensorProto.STRING, ["N", 5]))


def _no_inputs(m: ModelProto) -> None:
    m.graph.initializer.append(numpy_helper.from_array(IMAGES["image"], "image"))
    del m.graph.input[:]


# --- names ---------------------------------------------------------------------------------------------------------
def names() -> Iterator[Case]:
    def rename(old: str, new: str) -> Callable[[ModelProto], None]:
        def change(m: ModelProto) -> None:
            for node in m.graph.node:
                for side in (node.input, node.output):
                    for k, name in enumerate(side):
                        if name == old:
                            side[k] = new
            for value in (*m.graph.input, *m.graph.output, *m.graph.initializer):
                if value.name == old:
                    value.name = new

        return change  # fmt: skip

    for name, other in (("space", "a b"), ("unicode", "ä漢字🙂"), ("slash", "/a/b:0"), ("quote", "it's \"x\""),
                        ("newline", "a\nb"), ("tab", "a\tb"), ("control", "a\x01b"), ("long", "x" * 3000),
                        ("html", "<script>x</script>"), ("comma", "a,b"), ("percent", "%s{0}")):  # fmt: skip
        yield Case(f"tensor_{name}", changed(rename("r", other)), IMAGES, "calibrate quantize")
        yield Case(f"input_{name}_name", changed(rename("image", other)), {other.replace("/", "_"): IMAGES["image"]})
        yield Case(f"output_{name}_name", changed(rename("logits", other)), IMAGES)
    yield Case("weight_empty_name", changed(rename("w2", "")), IMAGES, "", NAMED)
    yield Case("node_empty_names", changed(lambda m: [n.ClearField("name") for n in m.graph.node]), IMAGES, FLOW)
    yield Case("node_same_names", changed(lambda m: [setattr(n, "name", "node") for n in m.graph.node]), IMAGES, FLOW)
    yield Case("node_named_as_tensor", changed(lambda m: [setattr(n, "name", n.output[0]) for n in m.graph.node]),
               IMAGES, FLOW)  # fmt: skip
    yield Case("initializer_twice_same", changed(lambda m: m.graph.initializer.append(m.graph.initializer[0])),
               IMAGES, FLOW)  # fmt: skip
    yield Case(
        "initializer_twice_other",
        changed(lambda m: m.graph.initializer.append(numpy_helper.from_array(WEIGHTS["w1"] + 1, "w1"))),
        IMAGES,
        "",
        "w1",
    )
    yield Case(
        "output_made_twice",
        changed(lambda m: m.graph.node.insert(2, helper.make_node("Relu", ["a"], ["r"], name="second"))),
        IMAGES,
    )
    yield Case(
        "output_made_twice_differently",
        changed(lambda m: m.graph.node.insert(2, helper.make_node("Sigmoid", ["a"], ["r"], name="second"))),
        IMAGES,
        "",
        "'r'",
    )
    yield Case(
        "output_made_over_input",
        changed(lambda m: m.graph.node.insert(0, helper.make_node("Relu", ["image"], ["image"], name="second"))),
        IMAGES,
        "",
        "image",
    )
    yield Case(
        "output_made_over_weight",
        changed(lambda m: m.graph.node.insert(0, helper.make_node("Relu", ["w1"], ["w1"], name="second"))),
        IMAGES,
        "",
        "w1",
    )
    yield Case(
        "value_info_twice",
        changed(lambda m: m.graph.value_info.extend([helper.make_tensor_value_info("r", 1, ["N", 16, 8, 8])] * 2)),
        IMAGES,
        FLOW,
    )
    yield Case(
        "value_info_wrong",
        changed(lambda m: m.graph.value_info.append(helper.make_tensor_value_info("r", 1, ["N", 99, 8, 8]))),
        IMAGES,
    )
    yield Case(
        "value_info_wrong_type",
        changed(lambda m: m.graph.value_info.append(helper.make_tensor_value_info("r", 7, ["N", 16, 8, 8]))),
        IMAGES,
    )
    yield Case("looks_like_ours", changed(rename("r", "image_dequantized")), IMAGES, FLOW)
    yield Case("inner_shadows_outer", changed(_shadow), IMAGES, "", "r")


def _shadow(m: ModelProto) -> None:
    _with_if(m)
    node = next(n for n in m.graph.node if n.op_type == "If")
    node.attribute[0].g.node.insert(0, helper.make_node("Relu", ["r"], ["r"]))


# --- structure -----------------------------------------------------------------------------------------------------
def structure() -> Iterator[Case]:
    def reverse(m: ModelProto) -> None:
        nodes = list(m.graph.node)[::-1]
        del m.graph.node[:]
        m.graph.node.extend(nodes)

    yield Case("unsorted", changed(reverse), IMAGES, FLOW)
    yield Case("cycle", changed(lambda m: m.graph.node[0].input.__setitem__(0, "s")), IMAGES, "", "cycle|circle|loop")
    yield Case("self_loop", changed(lambda m: m.graph.node[1].input.__setitem__(0, "r")), IMAGES, "", "'r'")
    yield Case("reads_unknown", changed(lambda m: m.graph.node[1].input.__setitem__(0, "nobody")), IMAGES, "", "nobody")
    yield Case("no_op_type", changed(lambda m: m.graph.node[1].ClearField("op_type")), IMAGES, "", NAMED)
    yield Case("too_few_inputs", changed(lambda m: m.graph.node[0].input.__delitem__(slice(1, None))), IMAGES, "",
               "Conv")  # fmt: skip
    yield Case("too_many_inputs", changed(lambda m: m.graph.node[1].input.extend("ab")), IMAGES, "", NAMED)
    yield Case("no_inputs_of_node", changed(lambda m: m.graph.node[1].ClearField("input")), IMAGES, "", "Relu")
    yield Case("no_outputs_of_node", changed(lambda m: m.graph.node.add(op_type="Relu", input=["r"], name="end")),
               IMAGES)  # fmt: skip
    yield Case("empty_optional_inputs", changed(lambda m: m.graph.node[2].input.append("")), IMAGES, FLOW)
    yield Case(
        "unknown_attribute",
        changed(lambda m: m.graph.node[0].attribute.append(helper.make_attribute("colour", 3))),
        IMAGES,
        "",
        "colour",
    )
    yield Case(
        "attribute_wrong_type",
        changed(lambda m: m.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("pads", "x"))),
        IMAGES,
        "",
        "pads|Conv",
    )
    yield Case(
        "attribute_missing",
        changed(lambda m: m.graph.node.append(helper.make_node("Cast", ["r"], ["rr"], name="cast_nowhere"))),
        IMAGES,
        "",
        "cast_nowhere|Cast",
    )
    yield Case(
        "pads_wrong_count",
        changed(lambda m: m.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("pads", [1]))),
        IMAGES,
    )
    yield Case("axis_out_of_range", net(HEAD.replace("logits", "l0") + "    logits = Softmax <axis = 9> (l0)\n"),
               IMAGES, "inspect", "axis|Softmax")  # fmt: skip
    yield Case("concat_axis_out_of_range", net(HEAD + "    z = Concat <axis = 9> (r, c)\n"), IMAGES)
    yield Case("transpose_perm_wrong", net(HEAD + "    z = Transpose <perm = [0, 0, 1, 2]> (r)\n"), IMAGES)
    yield Case("mismatched_weights", net(more={"w2": floats(16, 15, 3, 3)}), IMAGES)
    yield Case("add_mismatched", net(HEAD + "    z = Add (r, f)\n"), IMAGES)
    yield Case("weight_1d", net(HEAD.replace("logits", "l0") + "    logits = MatMul (l0, v)\n", "float[N] logits",
               more={"v": floats(5)}), IMAGES, FLOW)  # fmt: skip
    yield Case("weight_rank_5", net(HEAD + "    z = MatMul (r5, v5)\n", body=BODY + "    r5 = Unsqueeze (r, ax)\n",
               more={"ax": np.array([0], np.int64), "v5": floats(1, 1, 16, 8, 4)}), IMAGES, FLOW)  # fmt: skip
    yield Case(
        "initializers_as_inputs",
        changed(
            lambda m: m.graph.input.extend(
                helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in m.graph.initializer
            )
        ),
        IMAGES,
        FLOW,
    )
    yield Case("constants_as_nodes", changed(_constant_nodes), IMAGES, FLOW)
    yield Case("constant_forms", changed(_constant_forms), IMAGES, FLOW)
    yield Case("shared_weights", net(BODY.split("    s =")[0].split("    c =")[1].join(["    c2 =", ""]).replace(
        "(r, w2)", "(c, w2)") + HEAD), IMAGES, FLOW)  # fmt: skip
    yield Case("sparse_initializer", changed(_sparse), IMAGES)
    yield Case("sparse_weight", changed(lambda m: _sparse(m, "w2")), IMAGES)
    yield Case("dead_nodes", net(HEAD + "    dead = Conv <pads = [1,1,1,1]> (r, w2)\n    dead2 = Sigmoid (dead)\n"),
               IMAGES, FLOW)  # fmt: skip
    yield Case("deep_5000", changed(_deep), IMAGES, "calibrate inspect")
    yield Case("wide_1000", changed(_wide), IMAGES, "inspect")
    yield Case("external_missing", changed(lambda m: _external(m, "gone.bin")), IMAGES, "", r"gone\.bin|external")
    yield Case("external_there", changed(lambda m: _external(m, "w.bin")), IMAGES, FLOW,
               files={"w.bin": WEIGHTS["w2"].tobytes()})  # fmt: skip
    yield Case("external_short", changed(lambda m: _external(m, "w.bin")), IMAGES, "", r"w2|w\.bin",
               files={"w.bin": WEIGHTS["w2"].tobytes()[:100]})  # fmt: skip
    yield Case("external_outside", changed(lambda m: _external(m, "../w.bin")), IMAGES, "", "external|w2")
    yield Case("external_absolute", changed(lambda m: _external(m, "/etc/hostname")), IMAGES, "", "external|w2")
    yield Case("external_offset", changed(lambda m: _external(m, "w.bin", offset="10000000")), IMAGES, "", "w2|w.bin",
               files={"w.bin": b"1234"})  # fmt: skip
    yield Case("external_no_location", changed(lambda m: _external(m, "")), IMAGES, "", "external|w2")
    content = net().SerializeToString()
    yield Case("truncated", content[: len(content) // 2], IMAGES, "", r"model\.onnx")
    yield Case("empty_file", b"", IMAGES, "", r"model\.onnx")
    yield Case("garbage", b"\x00\xff" * 500, IMAGES, "", r"model\.onnx")
    yield Case("text_file", b"<!doctype html>", IMAGES, "", r"model\.onnx")
    yield Case("git_lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", IMAGES, "",
               r"model\.onnx")  # fmt: skip


def _constant_nodes(m: ModelProto) -> None:
    tensors = list(m.graph.initializer)
    del m.graph.initializer[:]
    for tensor in tensors:
        m.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))


def _constant_forms(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("Constant", [], ["k1"], value_float=0.5))
    m.graph.node.append(helper.make_node("Constant", [], ["k2"], value_ints=[1, 5]))
    m.graph.node.append(helper.make_node("Constant", [], ["k3"], value_floats=[0.5] * 5))
    m.graph.node.append(helper.make_node("Mul", ["logits", "k1"], ["e1"]))
    m.graph.node.append(helper.make_node("Add", ["e1", "k3"], ["extra"]))
    m.graph.output.append(helper.make_tensor_value_info("extra", 1, ["N", 5]))


def _sparse(m: ModelProto, name: str = "b3") -> None:
    kept = [t for t in m.graph.initializer if t.name != name]
    del m.graph.initializer[:]
    m.graph.initializer.extend(kept)
    values = WEIGHTS[name].reshape(-1)
    sparse = m.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(values[:3], name))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(3, dtype=np.int64), f"{name}_i"))
    sparse.dims.extend(WEIGHTS[name].shape)


def _deep(m: ModelProto) -> None:
    m.graph.node[-1].output[0] = "d0"
    for k in range(5000):
        last = "logits" if k == 4999 else f"d{k + 1}"
        m.graph.node.append(helper.make_node("Relu" if k % 2 else "Neg", [f"d{k}"], [last], name=f"n{k}"))


def _wide(m: ModelProto) -> None:
    for k in range(1000):
        m.graph.node.append(helper.make_node("Relu", ["logits"], [f"out{k}"]))
        m.graph.output.append(helper.make_tensor_value_info(f"out{k}", 1, ["N", 5]))


def _external(m: ModelProto, location: str, **more: str) -> None:
    tensor = next(t for t in m.graph.initializer if t.name == "w2")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        if value:
            tensor.external_data.add(key=key, value=value)


# --- values --------------------------------------------------------------------------------------------------------
def values() -> Iterator[Case]:
    def weight(change: Callable[[TensorProto], object], name: str = "w2") -> ModelProto:
        return changed(lambda m: change(next(t for t in m.graph.initializer if t.name == name)))

    for name, length in (("short", -4), ("long", 4), ("odd", -3), ("none", -(10**9))):
        yield Case(f"raw_{name}", weight(lambda t, n=length: setattr(
            t, "raw_data", t.raw_data[:n] if n < 0 else t.raw_data + b"\0" * n)), IMAGES, "", "w2")  # fmt: skip
    for name in ("w1", "b1", "b3"):
        yield Case(f"raw_short_{name}", weight(lambda t: setattr(t, "raw_data", t.raw_data[:-4]), name), IMAGES, "",
                   name)  # fmt: skip
    yield Case("element_type_unknown", weight(lambda t: setattr(t, "data_type", 99)), IMAGES, "", "w2")
    yield Case("element_type_zero", weight(lambda t: setattr(t, "data_type", 0)), IMAGES, "", "w2")
    yield Case("element_type_string", weight(lambda t: setattr(t, "data_type", 8)), IMAGES, "", "w2")
    yield Case("element_type_int4", weight(lambda t: (setattr(t, "data_type", 22), setattr(
        t, "raw_data", b"\1" * (16 * 16 * 9 // 2)))), IMAGES)  # fmt: skip
    yield Case("input_type_unknown", changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99)),
               IMAGES, "", "image")  # fmt: skip
    yield Case("dims_negative", weight(lambda t: t.dims.__setitem__(0, -16)), IMAGES, "", "w2")
    yield Case("dims_huge", weight(lambda t: t.dims.__setitem__(0, 2**40)), IMAGES, "", "w2")
    yield Case("dims_zero", weight(lambda t: (t.dims.__setitem__(0, 0), setattr(t, "raw_data", b""))), IMAGES)
    yield Case("raw_and_typed", weight(lambda t: t.float_data.extend([1.0])), IMAGES)
    yield Case("segment", weight(lambda t: setattr(t.segment, "begin", 3)), IMAGES)
    yield Case("weights_nan", net(more={"w2": np.full((16, 16, 3, 3), np.nan, np.float32)}), IMAGES)
    yield Case("weights_huge", net(more={"w2": np.full((16, 16, 3, 3), 3e38, np.float32)}), IMAGES)
    yield Case("weights_zero", net(more={"w2": np.zeros((16, 16, 3, 3), np.float32)}), IMAGES, FLOW)
    yield Case("weights_tiny", net(more={"w2": np.full((16, 16, 3, 3), 1e-44, np.float32)}), IMAGES)
    yield Case("weights_half", changed(_halved), {"image": IMAGES["image"].astype(np.float16)})
    yield Case("weights_double", changed(_doubled), {"image": IMAGES["image"].astype(np.float64)})
    mask = HEAD.replace("logits", "l0") + "    logits = Softmax (lm)\n"
    mask = mask.replace("    logits", "    lm = Add (l0, mask)\n    logits")
    low = np.array([0, 0, 0, -np.inf, np.finfo(np.float32).min], np.float32)
    yield Case("attention_mask", net(mask, more={"mask": low}), IMAGES, FLOW)
    yield Case("empty_initializer", net(HEAD.replace("(f", "(f2"), more={"none": np.zeros(0, np.float32)},
               body=BODY + "    f2 = Resize <mode = \"nearest\"> (f, none, one)\n") if False else net(
                   more={"none": np.zeros(0, np.float32)}), IMAGES, FLOW)  # fmt: skip
    yield Case("strings_inside", changed(_strings), IMAGES, FLOW)


def _retype(m: ModelProto, kind: int, dtype: Any) -> None:
    for tensor in m.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in (*m.graph.input, *m.graph.output):
        value.type.tensor_type.elem_type = kind


def _halved(m: ModelProto) -> None:
    _retype(m, TensorProto.FLOAT16, np.float16)


def _doubled(m: ModelProto) -> None:
    _retype(m, TensorProto.DOUBLE, np.float64)


def _strings(m: ModelProto) -> None:
    m.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"]))
    m.graph.node.append(helper.make_node("Identity", ["words"], ["words2"]))


# --- versions and operators ----------------------------------------------------------------------------------------
def versions() -> Iterator[Case]:
    newest = onnx.defs.onnx_opset_version()
    for opset in range(7, newest + 1):
        works = FLOW if 9 <= opset <= 24 else ""
        ir = 4 if opset < 11 else 8 if opset < 19 else 10
        yield Case(f"opset_{opset}", net(opset=opset, ir=ir), IMAGES, works)
    for opset in (1, 5, 6, 99, 2**40, -1):
        yield Case(f"opset_{opset}", changed(lambda m, o=opset: setattr(m.opset_import[0], "version", o)), IMAGES, "")
    for ir in (0, 1, 3, 4, 11, 12, 13, 99, 2**31):
        yield Case(f"ir_{ir}", changed(lambda m, ir=ir: setattr(m, "ir_version", ir)), IMAGES,
                   FLOW if 4 <= ir <= 12 else "")  # fmt: skip
    yield Case("no_ir", changed(lambda m: m.ClearField("ir_version")), IMAGES)
    yield Case("no_opset", changed(lambda m: m.ClearField("opset_import")), IMAGES)
    yield Case("opset_twice", changed(lambda m: m.opset_import.add(domain="", version=12)), IMAGES)
    yield Case("opset_ai_onnx", changed(lambda m: (m.opset_import.add(domain="ai.onnx", version=13),
               m.opset_import.__delitem__(0))), IMAGES, FLOW)  # fmt: skip
    yield Case("opset_domain_unused", changed(lambda m: m.opset_import.add(domain="org.unused", version=7)), IMAGES,
               FLOW)  # fmt: skip
    yield Case(
        "newest_operator",
        changed(
            lambda m: m.graph.node.append(helper.make_node("Swish", ["f"], ["extra"], name="swish")),
            net(opset=24, ir=10),
        ),
        IMAGES,
    )
    yield Case(
        "removed_operator",
        changed(
            lambda m: m.graph.node.append(helper.make_node("Upsample", ["r", "up"], ["extra"])),
            net(more={"up": np.ones(4, np.float32)}),
        ),
        IMAGES,
    )


def tasks() -> Iterator[Case]:
    """What networks of several kinds have in them."""
    drop = net(HEAD.replace("(f", "(fd"), body=BODY + "    fd = Dropout (f)\n")
    yield Case("dropout", drop, IMAGES, FLOW)
    mode = {"ratio": np.float32(0.5), "train": np.array(True)}
    yield Case(
        "dropout_training",
        net(HEAD.replace("(f", "(fd"), body=BODY + "    fd = Dropout <seed = 1> (f, ratio, train)\n", more=mode),
        IMAGES,
    )
    bn = {k: floats(16, seed=i) for i, k in enumerate(("bg", "bb", "bm"))} | {"bv": np.ones(16, np.float32)}
    batch_norm = BODY.replace("Relu (a)", "Relu (n)").replace(
        "    r =", "    n = BatchNormalization (a, bg, bb, bm, bv)\n    r ="
    )
    yield Case("batch_norm", net(body=batch_norm, more=bn), IMAGES, FLOW)
    training = batch_norm.replace("n = BatchNormalization (", "n, m2, v2 = BatchNormalization <training_mode = 1> (")
    yield Case("batch_norm_training", net(body=training, more=bn, opset=14), IMAGES)
    yield Case("embedding", text("""lm (int64[N,S] ids) => (float[N,S,7] y) {
        e = Gather (table, ids)
        h = MatMul (e, w)
        y = MatMul (h, v)
    }""", {"table": floats(11, 8), "w": floats(8, 16), "v": floats(16, 7)}),
        {"ids": np.random.default_rng(0).integers(0, 11, (8, 6))}, FLOW)  # fmt: skip
    yield Case("dequantized_embedding", text("""lm (int64[N,S] ids) => (float[N,S,7] y) {
        t = DequantizeLinear (codes, scale)
        e = Gather (t, ids)
        y = MatMul (e, w)
    }""", {"codes": np.arange(88, dtype=np.uint8).reshape(11, 8), "scale": np.float32(0.01), "w": floats(8, 7)}),
        {"ids": np.random.default_rng(0).integers(0, 11, (8, 6))}, FLOW)  # fmt: skip
    yield Case("einsum", text("""e (float[N,4,8] x) => (float[N,4,5] y) {
        y = Einsum <equation = "nij,jk->nik"> (x, w)
    }""", {"w": floats(8, 5)}), {"x": floats(8, 4, 8)})  # fmt: skip
    yield Case("lstm", text("""l (float[T,N,4] x) => (float[T,1,N,3] y) {
        y = LSTM <hidden_size = 3> (x, w, r)
    }""", {"w": floats(1, 12, 4), "r": floats(1, 12, 3)}), {"x": floats(6, 2, 4)})  # fmt: skip
    yield Case("conv_1d", text("""c (float[N,3,32] x) => (float[N,8,30] y) {
        y = Conv (x, w)
    }""", {"w": floats(8, 3, 3)}), {"x": floats(8, 3, 32)}, FLOW)  # fmt: skip
    yield Case("conv_3d", text("""c (float[N,3,4,8,8] x) => (float[N,8,2,6,6] y) {
        y = Conv (x, w)
    }""", {"w": floats(8, 3, 3, 3, 3)}), {"x": floats(4, 3, 4, 8, 8)}, FLOW)  # fmt: skip
    yield Case("conv_transpose", text("""c (float[N,3,8,8] x) => (float[N,8,16,16] y) {
        y = ConvTranspose <strides = [2,2]> (x, w)
    }""", {"w": floats(3, 8, 2, 2)}), {"x": floats(4, 3, 8, 8)}, FLOW)  # fmt: skip
    yield Case("nms_standard", text("""d (float[1,6,4] boxes, float[1,2,6] scores) => (int64[K,3] picked) {
        picked = NonMaxSuppression (boxes, scores, most)
    }""", {"most": np.array(3, np.int64)}), {"boxes": floats(1, 6, 4), "scores": floats(1, 2, 6)})  # fmt: skip
    noise = "    n = RandomNormalLike (l0)\n    logits = Add (l0, n)\n"
    yield Case("random", net(HEAD.replace("logits", "l0") + noise), IMAGES)  # fmt: skip
    yield Case("constant_output", net(HEAD + "    k = Relu (b3)\n", "float[N,5] logits, float[5] k"), IMAGES, FLOW)
    yield Case("nothing_for_int8", text("t (float[N,3] x) => (float[N,3] y) { y = Tanh (x) }"), {"x": floats(4, 3)})
