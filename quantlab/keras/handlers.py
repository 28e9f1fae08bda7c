"""What tf2onnx does not convert itself: TensorFlow's FakeQuant operators as symmetric int8, Erfc, scalars in sums.

tf2onnx goes on after an exception in a handler and leaves the operator as it was, so errors are kept, not raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantlab.errors import GraphError, QuantlabError
from quantlab.keras.ranges import FakeQuant, int8_scales

Handler = tuple[Callable[..., None], list[Any]]
FAKE = ("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")


@dataclass(slots=True)
class Handled:
    """What the handlers found.

    Attributes:
        errors: The first is the reason to give up.
        lost: What the ranges lost.
        fake: How many FakeQuant operators there were.
    """

    errors: list[QuantlabError] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    fake: int = 0

    def operators(self) -> dict[str, Handler]:
        """For `custom_op_handlers` of tf2onnx."""
        return {"Erfc": (_erfc, []), **{name: (self._convert, []) for name in FAKE}}

    def _convert(self, ctx: Any, node: Any, name: str, args: Any) -> None:  # noqa: ARG002
        try:
            self.fake += 1
            _fake_quant(ctx, node, self.lost)
        except QuantlabError as error:
            self.errors.append(error)
            raise


def scalars_in_sums(graph: Any, nodes: Any) -> Any:
    """A scalar that is added becomes a vector of one: with a scalar beside a convolution tf2onnx 1.17 gives up moving
    Transposes out of the whole model.

    For `custom_rewriter` of tf2onnx.
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


def _fake_quant(ctx: Any, node: Any, lost: list[str]) -> None:
    """A QuantizeLinear and a DequantizeLinear, or the int8 codes of a weight and a DequantizeLinear."""
    fake = _read(node)
    found = int8_scales(fake)
    if loss := found.loss(fake):
        lost.append(loss)
    per_channel = node.type.endswith("PerChannel") and found.scales.size > 1
    dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
    source = node.inputs[0]
    while source.type == "Identity":
        source = source.inputs[0]
    if per_channel and not source.is_const():
        raise GraphError(
            f"'{node.name}' quantizes an activation per channel, TensorRT per tensor only",
            hint="train it with FakeQuantWithMinMaxVars for activations",
        )
    axis = len(source.get_tensor_value(as_list=False).shape) - 1 if per_channel else 0
    scales = found.scales if per_channel else found.scales.reshape(())
    zeros = np.zeros(scales.shape, np.int8)
    scale = ctx.make_const(f"{node.name}_scale", scales)
    zero = ctx.make_const(f"{node.name}_zero_point", zeros)
    attributes = {"axis": axis} if per_channel else {}
    ctx.remove_node(node.name)
    if source.is_const():
        least = -127 if fake.narrow_range else -128
        codes = np.clip(np.rint(source.get_tensor_value(as_list=False) / scales), least, 127).astype(np.int8)
        quantized = ctx.make_const(f"{node.name}_quantized", codes).output[0]
    else:
        quantized = ctx.make_node(
            "QuantizeLinear", [node.input[0], scale.output[0], zero.output[0]], op_name_scope=node.name, attr=attributes,
            shapes=[shape], dtypes=[_INT8],
        ).output[0]  # fmt: skip
    ctx.make_node(
        "DequantizeLinear", [quantized, scale.output[0], zero.output[0]], name=node.name, outputs=node.output,
        attr=attributes, shapes=[shape], dtypes=[dtype],
    )  # fmt: skip


_INT8 = 3
"""`onnx.TensorProto.INT8`."""


def _read(node: Any) -> FakeQuant:
    """The operator with its range; GraphError if that is computed."""
    bits, narrow = node.get_attr("num_bits"), node.get_attr("narrow_range")
    if node.type == FAKE[0]:
        low, high = (np.float32(node.get_attr(name).f) for name in ("min", "max"))
    else:
        if not (node.inputs[1].is_const() and node.inputs[2].is_const()):
            raise GraphError(
                f"the range of '{node.name}' is computed", hint="export the model for inference: its ranges are constants"
            )
        low, high = (node.inputs[k].get_tensor_value(as_list=False) for k in (1, 2))
    return FakeQuant(node.name, np.asarray(low), np.asarray(high), bits.i if bits else 8, bool(narrow and narrow.i))
