"""If, Loop, Scan and functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, helper, numpy_helper

from corpus.nets import BODY, FLOW, IMAGES, Case, changed, floats, net, subgraph


def _branches(op: str = "Conv", **attrs: Any) -> dict[str, GraphProto]:
    made = {}
    for k, weight in (("then_branch", "w2"), ("else_branch", "w2b")):
        made[k] = subgraph([helper.make_node(op, ["r", weight], [f"{k}_y"], **attrs)], "", f"{k}_y", k)
    return made


def with_if(m: ModelProto) -> None:
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
    with_if(m)
    m.graph.node[0].CopyFrom(helper.make_node("Identity", ["image"], ["r0"]))
    m.graph.node[1].CopyFrom(helper.make_node("Concat", ["r0"] * 6, ["r6"], axis=1))
    for k, limit in enumerate((0, 16, 1)):
        m.graph.initializer.append(numpy_helper.from_array(np.array([limit], np.int64), f"cut{k}"))
    m.graph.node.insert(2, helper.make_node("Slice", ["r6", "cut0", "cut1", "cut2"], ["r"]))


def control_flow() -> Iterator[Case]:
    yield Case("conv_in_if", changed(with_if), IMAGES, FLOW)
    yield Case("conv_in_loop", changed(_with_loop), IMAGES, FLOW)
    yield Case("scan", changed(_with_scan), IMAGES, FLOW)
    yield Case("conv_only_in_if", changed(_conv_only_in_if), IMAGES)
    yield Case("matmul_in_if_same_names", changed(_same_names_in_branches), IMAGES, FLOW)
    yield Case("if_gives_output", changed(_if_gives_output), IMAGES, FLOW)
    yield Case("nested_if", changed(_nested_if), IMAGES, FLOW)
    yield Case("initializers_in_branches", changed(_inner_weights), IMAGES, FLOW)


def _same_names_in_branches(m: ModelProto) -> None:
    with_if(m)
    node = next(n for n in m.graph.node if n.op_type == "If")
    for attribute in node.attribute:
        attribute.g.node[0].name = "inner_conv"
        attribute.g.node[0].output[0] = attribute.g.output[0].name = "inner_y"


def _if_gives_output(m: ModelProto) -> None:
    with_if(m)
    m.graph.output.append(helper.make_tensor_value_info("c", 1, None))


def _nested_if(m: ModelProto) -> None:
    with_if(m)
    node = next(n for n in m.graph.node if n.op_type == "If")
    branch = node.attribute[0].g
    inner = [subgraph([helper.make_node("Conv", ["r", "w2"], [f"deep{k}"], pads=[1, 1, 1, 1])], "", f"deep{k}")
             for k in range(2)]  # fmt: skip
    wanted = branch.output[0].name
    branch.node[0].CopyFrom(helper.make_node("If", ["on"], [wanted], then_branch=inner[0], else_branch=inner[1]))


def _inner_weights(m: ModelProto) -> None:
    with_if(m)
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
