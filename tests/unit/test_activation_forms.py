"""Which nodes are one activation, which kind a convolution is, and what TensorRT fuses with what."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from models import OPSET, floats
from placement_parts import OPSET_18, OPSET_20, graph_of
from quantlab.qdq.activations import Activation, activation_of, is_fused, kind_of

OPSET_24 = '<ir_version: 10, opset_import: ["" : 24]>'
NUMBERS = {
    "three": 3.0, "six": 6.0, "zero": 0.0, "sixth": 1 / 6, "half": 0.5, "one": 1.0, "root2": 2**0.5, "cube": 3.0,
    "small": 0.044715, "root": (2 / np.pi) ** 0.5,
}  # fmt: skip
CONSTANTS = {name: np.asarray(value, np.float32) for name, value in NUMBERS.items()}
TANH = "p = Pow (a, cube)  q = Mul (p, small)  t = Add (a, q)  u = Mul (t, root)  v = Tanh (u)  e = Add (v, one)"


def behind_conv(body: str, header: str = OPSET, out: str = "float[N,8,8,8] y") -> gs.Graph:
    """What stands behind a convolution that makes a."""
    text = f"m (float[N,8,8,8] x, float[N,8,8,8] r) => ({out}) {{ a = Conv (x, w)  {body} }}"
    return graph_of(text, CONSTANTS | {"w": floats(8, 8, 1, 1), "slope": floats(8, 1, 1)}, header)


def found(graph: gs.Graph, tensor: str = "a") -> Activation | None:
    return activation_of(graph, graph.tensors()[tensor])


@pytest.mark.parametrize(
    ("body", "name", "header"),
    [
        ("y = Relu (a)", "Relu", OPSET),
        ("y = Clip (a, zero, six)", "Clip", OPSET),
        ("y = LeakyRelu (a)", "LeakyRelu", OPSET),
        ("y = PRelu (a, slope)", "PRelu", OPSET),
        ("s = Sigmoid (a)  y = Mul (a, s)", "Swish", OPSET),
        ("s = Sigmoid (a)  y = Mul (s, a)", "Swish", OPSET),
        ("y = Swish (a)", "Swish", OPSET_24),
        ("y = HardSwish (a)", "HardSwish", '<ir_version: 8, opset_import: ["" : 14]>'),
        ("s = HardSigmoid <alpha = 0.16666667> (a)  y = Mul (a, s)", "HardSwish", OPSET),
        ("s = HardSigmoid (a)  y = Mul (s, a)", "HardSwish", OPSET),
        ("b = Add (a, three)  c = Clip (b, zero, six)  d = Div (c, six)  y = Mul (a, d)", "HardSwish", OPSET),
        ("b = Add (three, a)  c = Clip (b, zero, six)  d = Div (c, six)  y = Mul (d, a)", "HardSwish", OPSET),
        ("b = Add (a, three)  c = Clip (b, zero, six)  d = Mul (c, sixth)  y = Mul (d, a)", "HardSwish", OPSET),
        ("y = Gelu (a)", "GELU", OPSET_20),
        (
            "h = Mul (a, half)  d = Div (a, root2)  e = Erf (d)  p = Add (e, one)  y = Mul (h, p)",
            "GELU", OPSET,
        ),
        ("d = Mul (a, root2)  e = Erf (d)  p = Add (e, one)  y = Mul (a, p)", "GELU", OPSET),
        ("h = Mul (a, half)  d = Mul (a, root2)  e = Erf (d)  p = Add (one, e)  y = Mul (p, h)", "GELU", OPSET),
        ("y = Mish (a)", "Mish", OPSET_18),
        ("s = Softplus (a)  t = Tanh (s)  y = Mul (a, t)", "Mish", OPSET),
        ("y = Mul (a, a)", "Mul", OPSET),
        ("y = Add (a, slope)", "Add", OPSET),
    ],
)  # fmt: skip
def test_activation_of_every_form_has_a_name_and_all_its_nodes(body: str, name: str, header: str) -> None:
    graph = behind_conv(body, header)
    activation = found(graph)
    assert activation is not None
    assert activation.name == name
    assert activation.result.name == "y"
    assert {id(node) for node in activation.nodes} == {id(node) for node in graph.nodes if node.op != "Conv"}


def test_activation_is_the_smallest_group_and_the_next_one_is_found_behind_it() -> None:
    graph = behind_conv("b = Relu (a)  s = Sigmoid (b)  y = Mul (b, s)")
    first = found(graph)
    assert first is not None
    assert (first.name, first.result.name) == ("Relu", "b")
    second = found(graph, "b")
    assert second is not None
    assert (second.name, second.result.name) == ("Swish", "y")
    assert found(graph, "y") is None


@pytest.mark.parametrize(
    ("body", "name", "last"),
    [
        ("b = Add (a, three)  c = Clip (b, zero, six)  m = Mul (a, c)  y = Div (m, six)", "Add Clip Mul", "Div"),
        (
            "d = Div (a, root2)  e = Erf (d)  p = Add (e, one)  m = Mul (a, p)  y = Mul (m, half)",
            "GELU",
            "Mul",
        ),
        (f"{TANH}  m = Mul (a, e)  y = Mul (m, half)", "Add Add Mul Mul Mul Pow Tanh", "Mul"),
    ],
    ids=["HardSwish", "GELU", "GELU by tanh"],
)
def test_scaling_at_the_end_of_an_activation_is_the_next_one(body: str, name: str, last: str) -> None:
    graph = behind_conv(body)
    first, second = found(graph), found(graph, "m")
    assert first is not None
    assert second is not None
    assert (first.name, first.result.name) == (name, "m")
    assert (second.name, second.result.name) == (last, "y")


def test_batch_norm_is_an_activation_that_scales_only() -> None:
    graph = graph_of(
        "m (float[N,8,8,8] x) => (float[A,B,C,D] y) "
        "{ a = Conv <group = 8> (x, w)  y = BatchNormalization (a, g, g, g, g) }",
        {"w": floats(8, 1, 3, 3), "g": np.ones(8, np.float32)},
    )
    activation = found(graph)
    assert activation is not None
    assert activation.name == "BatchNormalization"
    assert is_fused(graph.nodes[0], activation)


@pytest.mark.parametrize(
    ("body", "out"),
    [
        ("y = Add (a, r)", "float[N,8,8,8] y"),  # another tensor: a residual sum
        ("y = Softmax (a)", "float[N,8,8,8] y"),
        ("y = Transpose <perm = [0,1,3,2]> (a)", "float[N,8,8,8] y"),
        ("s = Sigmoid (a)  y = Mul (a, s)  z = Conv (a, w)", "float[N,8,8,8] y, float[A,B,C,D] z"),  # a second reader
        ("s = Sigmoid (a)  y = Mul (a, s)  z = Conv (s, w)", "float[N,8,8,8] y, float[A,B,C,D] z"),
        ("s = Sigmoid (a)  y = Mul (a, s)", "float[N,8,8,8] y, float[N,8,8,8] s"),  # it leaves the network half-way
        ("s = Sigmoid (a)  y = Mul (a, s)", "float[N,8,8,8] y, float[N,8,8,8] a"),
        ("y = Relu (x)", "float[N,8,8,8] y, float[N,8,8,8] a"),  # nothing reads it
        ("s = Sigmoid (a)  y = Mul (a, r)  z = Mul (s, r)", "float[N,8,8,8] y, float[N,8,8,8] z"),
        ("y = Cast <to = 10> (a)", "float16[N,8,8,8] y"),
    ],
)
def test_what_other_nodes_need_too_is_no_activation(body: str, out: str) -> None:
    assert found(behind_conv(body, out=out)) is None


def test_batch_norm_that_is_being_trained_is_no_activation() -> None:
    text = "m (float[N,8,8,8] x) => (float[A,B,C,D] y) " \
        "{ a = Conv (x, w)  y, m, v = BatchNormalization <training_mode = 1> (a, g, g, g, g) }"  # fmt: skip
    weights = {"w": floats(8, 8, 1, 1), "g": np.ones(8, np.float32)}
    assert found(graph_of(text, weights, '<ir_version: 8, opset_import: ["" : 14]>')) is None


def test_operator_of_another_domain_is_no_activation() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    assert found(behind_conv("y = my.Relu (a)", header)) is None


def diamond(count: int) -> str:
    """A chain that closes with its last node only: `count` nodes."""
    steps = [f"t{k} = Tanh (t{k - 1})" for k in range(1, count - 1)]
    return "  ".join(["t0 = Tanh (a)", *steps, f"y = Mul (a, t{count - 2})"])


def test_activation_has_up_to_twelve_nodes() -> None:
    longest = found(behind_conv(diamond(12)))
    assert longest is not None
    assert len(longest.nodes) == 12
    assert found(behind_conv(diamond(13))) is None


def conv(op: str, weight: tuple[int, ...], group: int = 1, channels: int = 8) -> gs.Node:
    """One layer."""
    size = ",".join(["8"] * (len(weight) - 2))
    text = f"m (float[N,{channels},{size}] x) => (float[A,B,C,D] y) {{ y = {op} <group = {group}> (x, w) }}"
    return graph_of(text, {"w": floats(*weight)}).nodes[0]


@pytest.mark.parametrize(
    ("op", "weight", "group", "channels", "kind"),
    [
        ("Conv", (8, 8, 3, 3), 1, 8, "ordinary"),
        ("Conv", (8, 8, 1, 1), 1, 8, "ordinary"),
        ("Conv", (8, 4, 1, 1), 1, 4, "ordinary"),  # one pixel: a product of matrices
        ("Conv", (8, 5, 3, 3), 1, 5, "ordinary"),
        ("Conv", (8, 4, 3, 3), 1, 4, "first"),
        ("Conv", (8, 3, 7, 7), 1, 3, "first"),
        ("Conv", (8, 1, 1, 3), 1, 1, "first"),
        ("Conv", (8, 3, 3), 1, 3, "first"),
        ("Conv", (8, 3, 1, 2), 1, 3, "first"),
        ("Conv", (8, 3, 3, 3, 3), 1, 3, "first"),
        ("Conv", (8, 1, 3, 3), 8, 8, "depthwise"),
        ("Conv", (16, 1, 3, 3), 8, 8, "depthwise"),  # two results of each channel
        ("Conv", (8, 1, 1, 1), 8, 8, "depthwise"),
        ("Conv", (8, 2, 3, 3), 4, 8, "grouped"),
        ("Conv", (8, 2, 1, 1), 4, 8, "grouped"),
        ("ConvTranspose", (8, 4, 2, 2), 1, 8, "ordinary"),
        ("ConvTranspose", (8, 3, 2, 2), 1, 8, "ordinary"),  # few outputs, not few inputs
        ("ConvTranspose", (3, 8, 2, 2), 1, 3, "first"),
        ("ConvTranspose", (8, 4, 2, 2), 2, 8, "grouped"),
        ("ConvTranspose", (8, 1, 2, 2), 8, 8, "depthwise"),
    ],
)
def test_kind_of_a_convolution_is_that_of_its_weight(
    op: str, weight: tuple[int, ...], group: int, channels: int, kind: str
) -> None:
    assert kind_of(conv(op, weight, group, channels)) == kind


def test_convolution_without_attributes_has_one_group() -> None:
    text = "m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = Conv (x, w) }"
    assert kind_of(graph_of(text, {"w": floats(8, 8, 1, 1)}).nodes[0]) == "ordinary"


def test_computed_weight_of_unknown_size_is_that_of_an_ordinary_one() -> None:
    text = "m (float[N,C,8,8] x, float[8,C,3,3] k) => (float[A,B,D,E] y) { y = Conv (x, k) }"
    assert kind_of(graph_of(text).nodes[0]) == "ordinary"


def test_other_nodes_and_computed_weights_without_a_shape_have_no_kind() -> None:
    text = "m (float[N,8] x) => (float[N,4] y) { a = Gemm (x, w)  y = Relu (a) }"
    assert [kind_of(node) for node in graph_of(text, {"w": floats(8, 4)}).nodes] == ["", ""]
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    other = "m (float[N,8,8,8] x) => (float[N,8,8,8] y) { y = my.Conv (x, w) }"
    assert kind_of(graph_of(other, {"w": floats(8, 8, 3, 3)}, header).nodes[0]) == ""
    computed = "m (float[N,8,8,8] x, float[A,B,C,D] k) => (float[N,8,8,8] y) { y = Conv (x, k) }"
    graph = graph_of(computed)
    graph.nodes[0].inputs[1].shape = None
    assert kind_of(graph.nodes[0]) == ""


KINDS = {
    "first": ((8, 3, 3, 3), 1, 3), "depthwise": ((8, 1, 3, 3), 8, 8), "grouped": ((8, 2, 3, 3), 4, 8),
    "ordinary": ((8, 8, 3, 3), 1, 8),
}  # fmt: skip
FUSED = {
    "y = Relu (a)": {"first", "depthwise", "grouped"},
    "y = Clip (a, zero, six)": {"first", "depthwise", "grouped"},
    "s = Sigmoid (a)  y = Mul (a, s)": {"first", "depthwise"},
    "s = HardSigmoid (a)  y = Mul (a, s)": set(),
    "y = LeakyRelu (a)": set(),
    "y = Sigmoid (a)": set(),
    "y = Add (a, three)": {"first", "depthwise", "grouped"},  # it only shifts
    "y = Div (a, six)": {"first", "depthwise", "grouped"},
    "b = Add (a, three)  y = Mul (a, b)": set(),  # two nodes that each only scale make a parabola
}
"""Body -> the kinds whose INT8 kernels take it; an ordinary one takes all, or need not."""


@pytest.mark.parametrize("body", FUSED)
@pytest.mark.parametrize("kind", KINDS)
def test_activation_is_fused_into_these_kinds(body: str, kind: str) -> None:
    weight, group, channels = KINDS[kind]
    text = f"m (float[N,{channels},8,8] x) => (float[A,B,C,D] y) {{ a = Conv <group = {group}> (x, w)  {body} }}"
    graph = graph_of(text, CONSTANTS | {"w": floats(*weight)})
    activation = found(graph)
    assert activation is not None
    assert kind_of(graph.nodes[0]) == kind
    assert is_fused(graph.nodes[0], activation) == (kind in FUSED[body] | {"ordinary"})


def test_activation_behind_a_layer_that_is_no_convolution_needs_no_fusion() -> None:
    text = "m (float[N,8] x) => (float[N,4] y) { a = Gemm (x, w)  y = LeakyRelu (a) }"
    graph = graph_of(text, {"w": floats(8, 4)})
    activation = found(graph)
    assert activation is not None
    assert is_fused(graph.nodes[0], activation)
