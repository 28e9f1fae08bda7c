"""A model and a table to a Q/DQ model."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from quantlab.calibration import CalibrationTable
from quantlab.calibration.made_from import write_origin
from quantlab.errors import ConfigError, expect_type
from quantlab.numerics import scale_from_amax
from quantlab.onnx_model import Model, constant_qdq_notices, input_specs, load_model, require_finite, require_float
from quantlab.ort import beyond
from quantlab.qdq.behind import behind_notices
from quantlab.qdq.insert import WeightError, insert, needs_float_weights
from quantlab.qdq.names import calibrated_name
from quantlab.qdq.placement import Placement
from quantlab.qdq.planning import behind_plugins, plan
from quantlab.qdq.prepare import prepare
from quantlab.qdq.selection import Selection

NOTHING = (
    "nothing is quantized: no layer is expected to be faster in INT8 than in FP16, the placement says why; "
    "build the FP32 model in FP16, or ask for layers by name (--include '*')"
)


@dataclass(frozen=True, slots=True)
class Quantized:
    """A Q/DQ model and what was decided.

    Attributes:
        model: The Q/DQ model.
        placement: The quantized tensors and weights, and the nodes that stay float, with the reason.
        warnings: Facts that a user of the model must know.
        weight_errors: What every weight lost, per channel.
    """

    model: onnx.ModelProto
    placement: Placement
    warnings: tuple[str, ...]
    weight_errors: tuple[WeightError, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightStyle:
    """How weights are quantized.

    Attributes:
        per_channel: One scale per output channel, else one per weight.
        stored: `int8` behind a DequantizeLinear, or `float` behind a Q/DQ pair, as quantization-aware training has it;
            both give the same outputs. None for int8, but for networks with which TensorRT 8 takes float only (those
            with MatMul, LayerNormalization or LSTM).
    """

    per_channel: bool = True
    stored: str | None = None

    def __post_init__(self) -> None:
        expect_type(self.per_channel, bool, "per_channel of a WeightStyle", "WeightStyle(per_channel=False)")
        if self.stored not in (None, "int8", "float"):
            raise ConfigError(f"weights cannot be stored as '{self.stored}'", hint="use int8 or float")


def quantize_model(
    model: Model, table: CalibrationTable, selection: Selection | None = None, weights: WeightStyle | None = None
) -> Quantized:
    """Put Q/DQ nodes with the scales of a table into an FP32 model. See `quantlab.api.quantize`."""
    weights = weights or WeightStyle()
    proto = load_model(model)
    require_float(proto, "quantization")
    require_finite(proto)
    table.check_model(proto)
    prepared = prepare(proto)
    placement = plan(prepared, selection, keep_float=behind_plugins(prepared, table.amax))
    if not weights.per_channel:
        placement = placement.per_tensor_weights()
    for tensor in placement.tensors:
        table.scale(calibrated_name(tensor, table.amax))  # a missing one is named here
    amax = placement.shared_amax(table.amax)
    inserted = insert(
        prepared,
        placement,
        lambda tensor: scale_from_amax(amax[tensor]),
        float_weights=stores_float(prepared, weights),
    )
    zero = tuple(f"tensor '{t}' was all zero in calibration; its scale is 1" for t in placement.tensors if amax[t] == 0)
    nothing = (NOTHING,) if not placement.tensors else ()
    fed = {s.name for s in input_specs(proto)}
    defaults = tuple(
        f"input '{i.name}' has a default value; it is a constant in the Q/DQ model"
        for i in proto.graph.input
        if i.name not in fed
    )
    known = (*constant_qdq_notices(proto), *beyond(proto).notices(), *nothing, *behind_notices(prepared))
    warnings = (*known, *inserted.warnings, *zero, *defaults)
    write_origin(inserted.model, table)
    return Quantized(inserted.model, placement, warnings, inserted.weight_errors)


def stores_float(prepared: onnx.ModelProto, weights: WeightStyle) -> bool:
    """Whether weights are stored as float.

    Args:
        prepared: The model, see `prepare`.
        weights: What was asked for.

    Returns:
        That, else whether TensorRT 8 takes no others in this model.
    """
    return needs_float_weights(prepared) if weights.stored is None else weights.stored == "float"
