"""Questions to a parsed network, and scales into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from quantlab.calibration.table import CalibrationTable
from quantlab.errors import ConfigError, DataError
from quantlab.model import TensorSpec
from quantlab.numerics import amax_of
from quantlab.trt.features import FEATURES, VERSION, trt

WHOLE_NETWORK = ("EntropyCalibration2", "MinMaxCalibration")
"""The calibrators that see every tensor before fusion, so that a cache of theirs must hold all of them."""


def cached_tensors(network: Any) -> tuple[str, ...]:
    """The tensors that a complete cache has: inputs and outputs of layers that hold float values."""
    names = [network.get_input(i).name for i in range(network.num_inputs)]
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in range(layer.num_outputs):
            tensor = layer.get_output(output)
            if tensor is not None and tensor.dtype == trt.float32 and not tensor.is_shape_tensor:
                names.append(tensor.name)
    return tuple(names)


def network_inputs(network: Any, shapes: Mapping[str, tuple[int, ...]] | None = None) -> list[TensorSpec]:
    """The inputs of a `trt.INetworkDefinition`. A dynamic dimension is None, or what `shapes` says for the input."""
    specs = []
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        chosen = (shapes or {}).get(tensor.name, tensor.shape)
        shape = tuple(None if d < 0 else int(d) for d in chosen)
        specs.append(TensorSpec(tensor.name, np.dtype(trt.nptype(tensor.dtype)), shape))
    return specs


def complete_table(network: Any, table: CalibrationTable) -> CalibrationTable:
    """The table with an amax for what only TensorRT's network has, such as the inner tensors of a Gemm.

    A constant has the largest magnitude of its values; what a shuffle makes of a tensor has that tensor's amax; an
    operand of an element-wise sum that has none gets the bound `amax(result) + amax(other operand)`. Without a scale
    TensorRT would run the layers around such a tensor in float.
    """
    amax = dict(table.amax)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    for layer in layers:
        output = layer.get_output(0)
        if output is None or output.name in amax or output.dtype != trt.float32:
            continue
        if layer.type == trt.LayerType.CONSTANT:
            constant = layer
            constant.__class__ = trt.IConstantLayer  # the bindings' way down to the concrete layer
            amax[output.name] = np.float32(amax_of(np.asarray(constant.weights, np.float32)))
        elif layer.type == trt.LayerType.SHUFFLE and layer.get_input(0).name in amax:
            amax[output.name] = amax[layer.get_input(0).name]
    for layer in layers:
        if layer.type == trt.LayerType.ELEMENTWISE and layer.num_inputs == 2:
            result, operands = layer.get_output(0).name, [layer.get_input(i).name for i in range(2)]
            missing = [name for name in operands if name not in amax]
            if len(missing) == 1 and result in amax:
                other = operands[1 - operands.index(missing[0])]
                amax[missing[0]] = np.float32(amax[result] + amax[other])
    return replace(table, amax=amax)


def set_dynamic_ranges(network: Any, table: CalibrationTable) -> None:
    """+-amax of the table, completed by what only TensorRT's network has, for every tensor of the network that it
    names; an all-zero tensor gets +-1. DataError if it names none."""
    if not FEATURES.dynamic_range:
        raise ConfigError(f"TensorRT {VERSION} has no set_dynamic_range", hint="quantlab quantize (explicit path)")
    tensors = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        tensors |= {t.name: t for t in outputs if t is not None}
    if not any(name in table.amax for name in tensors):
        raise DataError("the table has no tensor of this network", hint="calibrate this model")
    table = complete_table(network, table)
    for name in (name for name in tensors if name in table.amax):
        amax = float(table.amax[name]) or float(np.float32(1.0))
        tensors[name].set_dynamic_range(-amax, amax)
