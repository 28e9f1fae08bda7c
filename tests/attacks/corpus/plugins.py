"""Operators that ONNX Runtime does not know."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from corpus.nets import BODY, FLOW, HEAD, IMAGES, Case, changed, floats, net, subgraph

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
