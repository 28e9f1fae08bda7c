"""Pairs for the sake of one kernel: what is read in INT8 beside a layer that can write nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_graphsurgeon as gs

from quantlab.qdq.activations import activation_of, is_fused, kind_of
from quantlab.qdq.draft import Draft
from quantlab.qdq.graph import other_type, readers, walk
from quantlab.qdq.measured import INT8_OUTPUT_ONLY


def share_int8(draft: Draft, excluded: Collection[str] = ()) -> None:
    """Let the readers of what INT8 kernels make read INT8 where a float copy beside it would cost.

    An activation that TensorRT does not fuse into its convolution reads INT8. What reads the result of a depthwise or
    grouped convolution in float, beside a reader in INT8, reads the same pair: it has no kernel that writes float.

    Args:
        draft: With everything that reads INT8; what shares it is added.
        excluded: Nodes that the user wants in float.
    """
    for conv in draft.graph.nodes:
        if (conv.name, 0) not in draft.reads or not kind_of(conv):
            continue
        last, unfused = conv.outputs[0], None
        while last.name not in draft.int8 and (activation := activation_of(draft.graph, last)) is not None:
            if unfused is None and not is_fused(conv, activation):
                unfused = last, activation.name
            last = activation.result
        if unfused is not None and last.name in draft.int8:
            why = f"{unfused[1]} does not fuse into a {kind_of(conv)} convolution"
            _read_by_all(draft, unfused[0], why, excluded)
        for result in _moved(draft, last) if kind_of(conv) in INT8_OUTPUT_ONLY else ():
            if result.name in draft.int8 and _has_float_reader(draft, result):
                _read_by_all(draft, result, f"a {kind_of(conv)} convolution writes INT8 only", excluded)


def _moved(draft: Draft, tensor: gs.Tensor) -> Iterator[gs.Tensor]:
    """A tensor, and what nodes make of it that only move its values."""
    yield tensor
    for reader in walk(tensor, readers, lambda node: node.outputs if draft.is_moved(node) else ()):
        if draft.is_moved(reader):
            yield from reader.outputs


def _has_float_reader(draft: Draft, tensor: gs.Tensor) -> bool:
    """Whether a node reads a tensor in float, and does not only move it to where it is read in INT8."""
    return any(
        (reader.name, index) not in draft.reads and not draft.is_moved(reader)
        for reader in tensor.outputs
        for index, read in enumerate(reader.inputs)
        if read is tensor
    )


def _read_by_all(draft: Draft, tensor: gs.Tensor, why: str, excluded: Collection[str]) -> None:
    if draft.missing_scale([tensor]) is not None or other_type(tensor) is not None:
        return
    for reader in tensor.outputs:
        for index, read in enumerate(reader.inputs):
            if read is tensor and draft.holds(reader) and reader.name not in excluded:
                draft.read(reader, index, why)
