"""The frozen graph of a model, with the weights behind FakeQuant operators as inputs.

tf2onnx computes what is constant, a FakeQuant operator of a weight included: its range would be gone. An input is never
computed, and everything that is done to a kernel on its way to its convolution stays in sight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from quantlab.errors import GraphError
from quantlab.keras.handlers import FAKE, MARK
from quantlab.keras.ranges import FakeQuant
from quantlab.keras.source import tensorflow


@dataclass(frozen=True, slots=True)
class TrainedWeight:
    """A weight behind a FakeQuant operator.

    Attributes:
        value: Before it.
        fake: The operator; its ranges are those of the last axis where it has more than one.
    """

    value: NDArray[Any]
    fake: FakeQuant


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    """A graph for tf2onnx.

    Attributes:
        graph_def: Frozen.
        inputs: The names of the tensors that are fed, those of weights included.
        outputs: The names of the tensors that come out, in the order of the sorted names.
        weights: The name of an input -> the weight that it stands for.
    """

    graph_def: Any
    inputs: list[str]
    outputs: list[str]
    weights: Mapping[str, TrainedWeight]


def frozen_graph(concrete: Any) -> FrozenGraph:
    """Freeze a function. What it has captured, constants included, is no input of it.

    Args:
        concrete: The concrete function of the model.

    Returns:
        The graph.

    Raises:
        GraphError: A FakeQuant operator is inside of a loop or branch.
    """
    tf = tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    graph_def = frozen.graph.as_graph_def(add_shapes=True)
    for function in graph_def.library.function:
        if inside := [node.name for node in function.node_def if node.op in FAKE]:
            raise GraphError(
                f"'{inside[0]}' is inside of a loop or branch",
                hint="TensorRT takes Q/DQ outside of loops: unroll it",
            )
    fed = [tensor.name for tensor in frozen.inputs if tensor.dtype != tf.resource]
    weights = _cut_weights(tf, graph_def)
    inputs = [*fed, *(f"{name}:0" for name in weights)]
    return FrozenGraph(graph_def, inputs, [tensor.name for tensor in frozen.outputs], weights)


def _cut_weights(tf: Any, graph_def: Any) -> dict[str, TrainedWeight]:
    """Make an input of every weight behind a FakeQuant operator, in this very graph."""
    nodes = {node.name: node for node in graph_def.node}
    constant: dict[str, bool] = {}

    def is_constant(name: str) -> bool:
        node = nodes[name.partition(":")[0]]
        if node.name not in constant:
            constant[node.name] = node.op == "Const" or (
                node.op != "Placeholder" and bool(_read(node)) and all(map(is_constant, _read(node)))
            )
        return constant[node.name]

    found = [node for node in graph_def.node if node.op in FAKE and is_constant(node.input[0])]
    if not found:
        return {}
    wanted = [_tensor(name) for node in found for name in _read(node)]
    free = tf.compat.v1.GraphDef()
    free.CopyFrom(graph_def)
    for node in free.node:  # a constant of a function that was inlined waits for what the function is called with
        kept = _read(node)
        del node.input[:]
        node.input.extend(kept)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(free, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            values = dict(zip(wanted, session.run(wanted), strict=True))
    weights = {}
    for number, node in enumerate(found):
        value, *ends = (values[_tensor(name)] for name in _read(node))
        low, high = ends or (node.attr["min"].f, node.attr["max"].f)
        bits = node.attr["num_bits"].i if "num_bits" in node.attr else 8
        fake = FakeQuant.of(node.name, low, high, bits, node.attr["narrow_range"].b)
        name = f"{MARK}weight_{number}"
        weights[name] = TrainedWeight(value, fake)
        node.CopyFrom(tf.compat.v1.NodeDef(name=name, op="Placeholder"))
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
        for other in graph_def.node:
            for place, read in enumerate(other.input):
                if read.partition(":")[0] in (fake.name, f"^{fake.name}"):
                    other.input[place] = read.replace(fake.name, name, 1)
    return weights


def _read(node: Any) -> list[str]:
    """The tensors that a node reads; what it only waits for says nothing about its values."""
    return [name for name in node.input if not name.startswith("^")]


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"
