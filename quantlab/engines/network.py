"""Questions to a parsed network, as rows that need no TensorRT, and what a table lacks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.calibration import CalibrationTable
from quantlab.numerics import amax_of

WHOLE_NETWORK = ("EntropyCalibration2", "MinMaxCalibration")
"""The calibrators that see every tensor before fusion, so that a cache of theirs must hold all of them."""

SHUFFLE, SUM = "shuffle", "sum"


@dataclass(frozen=True, slots=True)
class NetworkTensor:
    """The output of a layer.

    Attributes:
        is_float: It holds float32 values, which INT8 may stand for.
        is_shape: It holds a shape, which is never quantized.
    """

    name: str
    is_float: bool
    is_shape: bool = False


@dataclass(frozen=True, slots=True)
class NetworkLayer:
    """A layer of TensorRT's network.

    Attributes:
        kind: `SHUFFLE`, `SUM`, or '' for any other.
        inputs: Names of tensors.
        outputs: In order.
        values: Reads the values of a constant; None for any other layer.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[NetworkTensor, ...]
    values: Callable[[], NDArray[Any]] | None = None


def cached_tensors(inputs: Iterable[str], layers: Iterable[NetworkLayer]) -> tuple[str, ...]:
    """List the tensors that a complete cache has.

    Args:
        inputs: Of the network.
        layers: In the order of the network.

    Returns:
        The inputs, then the outputs of layers that hold float values.
    """
    outputs = (tensor for layer in layers for tensor in layer.outputs)
    return (*inputs, *(tensor.name for tensor in outputs if tensor.is_float and not tensor.is_shape))


def complete_table(layers: Sequence[NetworkLayer], table: CalibrationTable) -> CalibrationTable:
    """Add an amax for what only TensorRT's network has, such as the inner tensors of a Gemm.

    A constant has the largest magnitude of its values; what a shuffle makes of a tensor has that tensor's amax; an
    operand of an element-wise sum that has none gets the bound `amax(result) + amax(other operand)`. Without a scale
    TensorRT would run the layers around such a tensor in float.

    Args:
        layers: In the order of the network.
        table: The amax of the tensors that the ONNX model has.

    Returns:
        The table with more tensors.
    """
    amax = dict(table.amax)
    for layer in layers:
        output = next(iter(layer.outputs), None)
        if output is None or output.name in amax or not output.is_float:
            continue
        if layer.values is not None:
            amax[output.name] = np.float32(amax_of(np.asarray(layer.values(), np.float32)))
        elif layer.kind == SHUFFLE and layer.inputs[0] in amax:
            amax[output.name] = amax[layer.inputs[0]]
    for layer in layers:
        if layer.kind != SUM or len(layer.inputs) != 2:
            continue
        result = layer.outputs[0].name
        missing = [name for name in layer.inputs if name not in amax]
        if len(missing) == 1 and result in amax:
            other = layer.inputs[1 - layer.inputs.index(missing[0])]
            amax[missing[0]] = np.float32(amax[result] + amax[other])
    return replace(table, amax=amax)
