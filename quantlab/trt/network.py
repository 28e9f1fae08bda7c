"""TensorRT's network as rows and specs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.engines.engine import Binding
from quantlab.engines.network import SHUFFLE, SUM, NetworkLayer, NetworkTensor
from quantlab.engines.options import Shape
from quantlab.onnx_model import TensorSpec
from quantlab.trt.features import trt


def network_inputs(network: Any, shapes: Mapping[str, Shape] | None = None) -> list[TensorSpec]:
    """Describe the inputs of a network.

    Args:
        network: A `trt.INetworkDefinition`.
        shapes: Input -> shape, for dynamic ones.

    Returns:
        A dynamic dimension is None, or what `shapes` says for the input.
    """
    specs = []
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        chosen = (shapes or {}).get(tensor.name, tensor.shape)
        shape = tuple(None if d < 0 else int(d) for d in chosen)
        specs.append(TensorSpec(tensor.name, np.dtype(trt.nptype(tensor.dtype)), shape))
    return specs


def network_bindings(network: Any) -> tuple[tuple[Binding, ...], tuple[Binding, ...]]:
    """Describe the inputs and the outputs of a `trt.INetworkDefinition` as the record of an engine has them."""
    inputs = tuple(_binding(network.get_input(index)) for index in range(network.num_inputs))
    return inputs, tuple(_binding(network.get_output(index)) for index in range(network.num_outputs))


def _binding(tensor: Any) -> Binding:
    try:
        dtype = np.dtype(trt.nptype(tensor.dtype)).name
    except TypeError:  # of a type that NumPy does not have
        dtype = {"BF16": "bfloat16"}.get(tensor.dtype.name, tensor.dtype.name.lower())
    return Binding(tensor.name, dtype, tuple(int(d) for d in tensor.shape))


def network_layers(network: Any) -> tuple[NetworkLayer, ...]:
    """Every layer of a `trt.INetworkDefinition`, in order."""
    return tuple(_layer(network.get_layer(index)) for index in range(network.num_layers))


def network_tensors(network: Any) -> dict[str, Any]:
    """Every `trt.ITensor` of a network by name: inputs, and outputs of layers."""
    tensors = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        tensors |= {tensor.name: tensor for tensor in outputs if tensor is not None}
    return tensors


def _layer(layer: Any) -> NetworkLayer:
    inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
    outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
    return NetworkLayer(
        kind=_kind(layer),
        inputs=tuple("" if tensor is None else tensor.name for tensor in inputs),
        outputs=tuple(
            NetworkTensor(tensor.name, tensor.dtype == trt.float32, tensor.is_shape_tensor)
            for tensor in outputs
            if tensor is not None
        ),
        values=_values_of(layer) if layer.type == trt.LayerType.CONSTANT else None,
    )


def _kind(layer: Any) -> str:
    if layer.type == trt.LayerType.SHUFFLE:
        return SHUFFLE
    if layer.type != trt.LayerType.ELEMENTWISE:
        return ""
    elementwise = layer
    elementwise.__class__ = trt.IElementWiseLayer  # the bindings' way down to the concrete layer
    return SUM if elementwise.op == trt.ElementWiseOperation.SUM else ""


def _values_of(layer: Any) -> Callable[[], NDArray[Any]]:
    constant = layer
    constant.__class__ = trt.IConstantLayer  # the bindings' way down to the concrete layer
    return partial(_weights, constant)


def _weights(constant: Any) -> NDArray[Any]:
    return np.asarray(constant.weights, np.float32)
