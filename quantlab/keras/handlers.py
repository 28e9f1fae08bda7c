"""What tf2onnx does not convert itself: TensorFlow's FakeQuant operators, Erfc, scalars in sums.

tf2onnx goes on after an exception in a handler and leaves the operator as it was, so errors are kept, not raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantlab.errors import GraphError, QuantlabError
from quantlab.keras.ranges import FakeQuant

Handler = tuple[Callable[..., None], list[Any]]
MARK = "quantlab_fake_quant_"
"""What a node begins with that stands for a FakeQuant operator."""
FAKE = ("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")


@dataclass(slots=True)
class Handled:
    """What the handlers found.

    Attributes:
        errors: The first is the reason to give up.
        marked: The name of the mark -> the FakeQuant operator that it stands for.
    """

    errors: list[QuantlabError] = field(default_factory=list)
    marked: dict[str, FakeQuant] = field(default_factory=dict)

    def operators(self) -> dict[str, Handler]:
        """For `custom_op_handlers` of tf2onnx."""
        return {"Erfc": (_erfc, []), **{name: (self._convert, []) for name in FAKE}}

    def _convert(self, ctx: Any, node: Any, name: str, args: Any) -> None:  # noqa: ARG002
        try:
            _mark(ctx, node, self)
        except QuantlabError as error:
            self.errors.append(error)
            raise


def scalars_in_sums(graph: Any, nodes: Any) -> Any:
    """A scalar that is added becomes a vector of one: with a scalar beside a convolution tf2onnx 1.17 gives up moving
    Transposes out of the whole model.

    Args:
        graph: Of tf2onnx, which takes this as a `custom_rewriter`.
        nodes: All of it.

    Returns:
        The nodes.
    """
    for node in nodes:
        if node.type in ("Add", "AddV2") and node.inputs[1].is_const() and (graph.get_rank(node.input[0]) or 0) > 0:
            value = node.inputs[1].get_tensor_value(as_list=False)
            if np.ndim(value) == 0:
                vector = graph.make_const(f"{node.name}_vector", np.reshape(value, 1))
                graph.replace_input(node, node.input[1], vector.output[0], 1)
    return graph.get_nodes()


def _erfc(ctx: Any, node: Any, name: str, args: Any) -> None:  # noqa: ARG001
    """`1 - Erf(x)`: Keras' exact GELU."""
    dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
    one = ctx.make_const(f"{name}_one", np.array(1, np.float32))
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [node.input[0]], shapes=[shape], dtypes=[dtype], op_name_scope=name)
    ctx.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=node.output, shapes=[shape], dtypes=[dtype])


def _mark(ctx: Any, node: Any, handled: Handled) -> None:
    """A Clip in the place of a FakeQuant operator: a Transpose passes it, which it does not with Q/DQ."""
    fake = _read(node)
    if node.type == FAKE[2] and fake.low.size > 1:
        raise GraphError(
            f"'{node.name}' quantizes an activation per channel, TensorRT per tensor only",
            hint="train it with FakeQuantWithMinMaxVars for activations",
        )
    mark = f"{MARK}{len(handled.marked)}"
    handled.marked[mark] = fake
    dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
    ends = [ctx.make_const(f"{mark}_{k}", np.float32(end)).output[0] for k, end in enumerate((-1, 1))]
    ctx.remove_node(node.name)
    ctx.make_node("Clip", [node.input[0], *ends], name=mark, outputs=node.output, shapes=[shape], dtypes=[dtype])


def _read(node: Any) -> FakeQuant:
    """The operator with its range; GraphError if that is computed."""
    bits, narrow = node.get_attr("num_bits"), node.get_attr("narrow_range")
    if node.type == FAKE[0]:
        low, high = (np.float32(node.get_attr(name).f) for name in ("min", "max"))
    else:
        if not (node.inputs[1].is_const() and node.inputs[2].is_const()):
            raise GraphError(
                f"the range of '{node.name}' is computed",
                hint="export the model for inference, with constant ranges",
            )
        low, high = (node.inputs[k].get_tensor_value(as_list=False) for k in (1, 2))
    return FakeQuant.of(node.name, low, high, bits.i if bits else 8, bool(narrow and narrow.i))
