"""What is asked of the nodes of a graph: are there Q/DQ, what is a node called, what is in its subgraphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import conv_net, floats, image_batches, parse, quantized
from quantlab.errors import GraphError
from quantlab.onnx_model import (
    all_nodes,
    attribute,
    constant_qdq_notices,
    has_qdq,
    inner_nodes,
    label_of,
    node_attributes,
    node_label,
    qdq_nodes,
    require_float,
    require_qdq,
    subgraphs_of,
    why_invalid,
)

BRANCHES = """m (bool c, float[N] x) => (float[N] y) {
    y = If (c) <
        then_branch = a () => (float[N] t) { q = QuantizeLinear (x, s, z)  t = DequantizeLinear (q, s, z) },
        else_branch = b () => (float[N] e) { e = Neg (x) }
    >
}"""
NESTED = """m (bool c, bool d, float[N] x) => (float[N] y) {
    y = If (c) <
        then_branch = a () => (float[N] t) {
            t = If (d) <
                then_branch = aa () => (float[N] u) { u = Relu (x) },
                else_branch = ab () => (float[N] v) { v = Abs (x) }
            >
        },
        else_branch = b () => (float[N] e) { e = Neg (x) }
    >
}"""
SCALE = {"s": np.asarray(np.float32(0.1)), "z": np.asarray(np.int8(0))}


def test_qdq_in_a_subgraph_alone_makes_a_model_quantized() -> None:
    model = parse(BRANCHES, SCALE)
    assert has_qdq(model)
    assert [n.op_type for n in qdq_nodes(model)] == ["QuantizeLinear", "DequantizeLinear"]
    require_qdq(model)
    require_float(model, "pruning")  # what is in a subgraph is left as it is, and said
    assert constant_qdq_notices(model) == ("2 Q/DQ nodes in If, Loop or Scan (first: 'q') stay as they are",)


@pytest.mark.parametrize(
    "line", ["y = QuantizeLinear (x, s, z)", "i = Cast <to = 3> (x)  y = DequantizeLinear (i, s, z)"]
)
def test_either_node_alone_makes_a_model_quantized(line: str) -> None:
    output = "int8" if line.startswith("y = Q") else "float"
    assert has_qdq(parse(f"m (float[N] x) => ({output}[N] y) {{ {line} }}", SCALE))


def test_float_model_is_not_quantized() -> None:
    assert not has_qdq(conv_net())
    assert qdq_nodes(conv_net()) == []
    require_float(conv_net(), "calibration")
    with pytest.raises(GraphError, match="the model has no Q/DQ nodes Hint: quantize it"):
        require_qdq(conv_net())


def test_nodes_of_nested_subgraphs_are_all_found_once() -> None:
    model = parse(NESTED)
    (outer,) = model.graph.node
    assert sorted(g.name for g in subgraphs_of(outer)) == ["a", "aa", "ab", "b"]
    assert sorted(n.op_type for n in inner_nodes(outer)) == ["Abs", "If", "Neg", "Relu"]
    assert [n.op_type for n in all_nodes(model.graph)].count("If") == 2
    assert len(list(all_nodes(model.graph))) == 5


@pytest.mark.parametrize(
    ("name", "outputs", "label"),
    [("conv", ["a"], "conv"), ("", ["a", "b"], "a"), ("", ["", "b"], "b"), ("", [], "Conv"), ("", [""], "Conv")],
)
def test_node_is_called_by_its_name_else_its_first_output_else_its_operator(
    name: str, outputs: list[str], label: str
) -> None:
    assert label_of(name, outputs, "Conv") == label
    assert node_label(onnx.helper.make_node("Conv", ["x", "w"], outputs, name)) == label


def test_attributes_are_read_with_a_default() -> None:
    node = onnx.helper.make_node("Gemm", ["a", "b"], ["y"], transB=1, alpha=0.5)
    assert attribute(node, "transB", 0) == 1
    assert attribute(node, "transA", 0) == 0
    assert node_attributes(node) == {"transB": 1, "alpha": 0.5}


def test_reason_why_a_model_is_invalid_is_one_line() -> None:
    assert why_invalid(quantized(conv_net(), image_batches()).model) is None
    model = parse("m (float[2,4] x) => (float[2,9] y) { y = MatMul (x, w) }", {"w": floats(4, 5)})
    assert why_invalid(model, full_check=False) is None
    found = why_invalid(model)
    assert found is not None
    assert "\n" not in found
    del model.graph.node[0].input[1]
    assert "node name: y" in (why_invalid(model, full_check=False) or "") or "y" in str(why_invalid(model))
