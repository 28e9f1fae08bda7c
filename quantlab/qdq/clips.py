"""Float layers whose Clip is quantized: TensorRT 8.6.0 gets them wrong.

EfficientNet-Lite0 with layers in INT8 and float by turns: behind the first such place an engine is 0.3 dB from the same
model on ONNX Runtime, right before it 132 dB; the network as a whole is -1 to 6 dB from FP32. Placements without one
agree, and so do mixed ones of networks with Relu, SiLU or HardSwish.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

from quantlab.onnx_model import FreshNames
from quantlab.qdq.rules import row_of


def quantized_clips(graph: gs.Graph) -> Iterator[tuple[gs.Node, gs.Node]]:
    """Find them.

    Args:
        graph: Of a Q/DQ model.

    Yields:
        (the layer, its Clip).
    """
    for clip in graph.nodes:
        layer = clip.inputs[0].inputs[0] if clip.op == "Clip" and clip.inputs[0].inputs else None
        if layer is None or row_of(layer.op, layer.domain).weight_input is None or _is_dequantized(layer.inputs[0]):
            continue
        if any(reader.op == "QuantizeLinear" for reader in clip.outputs[0].outputs):
            yield layer, clip


def _is_dequantized(tensor: gs.Tensor) -> bool:
    return bool(tensor.inputs) and tensor.inputs[0].op == "DequantizeLinear"


def write_otherwise(graph: gs.Graph, names: FreshNames) -> None:
    """Write them as Relu (or Max) and Min, with the same outputs.

    Args:
        graph: Of a Q/DQ model; changed in place.
        names: Of new nodes and tensors.
    """
    instead = {id(clip): _steps(clip, names) for _, clip in list(quantized_clips(graph)) if _has_known_bounds(clip)}
    graph.nodes = [step for node in list(graph.nodes) for step in instead.get(id(node), [node])]


def _has_known_bounds(clip: gs.Node) -> bool:
    return not clip.attrs and all(isinstance(bound, gs.Constant) or bound.is_empty() for bound in clip.inputs[1:])


def _steps(clip: gs.Node, names: FreshNames) -> list[gs.Node]:
    low, high = [*(t if isinstance(t, gs.Constant) else None for t in clip.inputs[1:]), None, None][:2]
    wanted: list[tuple[str, list[gs.Tensor]]] = []
    if low is not None:
        wanted.append(("Relu", []) if np.all(low.values == 0) else ("Max", [low]))
    if high is not None:
        wanted.append(("Min", [high]))
    if not wanted:
        return [clip]
    tensor, result, steps = clip.inputs[0], clip.outputs[0], list[gs.Node]()
    clip.inputs, clip.outputs = [], []
    for op, bounds in wanted:
        is_last = len(steps) == len(wanted) - 1
        made = result if is_last else gs.Variable(names.new(f"{result.name}_low"), result.dtype, result.shape)
        name = clip.name if is_last else names.new(f"{clip.name}_low")
        steps.append(gs.Node(op, name, inputs=[tensor, *bounds], outputs=[made]))
        tensor = made
    return steps
