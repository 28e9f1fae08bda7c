"""Which tensors of a model a calibration is for."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from quantlab.calibration import CalibrationTarget
from quantlab.errors import ConfigError, GraphError
from quantlab.onnx_model import Model, constant_qdq_notices, load_model, model_hash, require_finite, require_float
from quantlab.ort import beyond
from quantlab.qdq.names import calibrated_name
from quantlab.qdq.nothing import nothing_in_int8
from quantlab.qdq.planning import behind_plugins, other_branches, plan
from quantlab.qdq.prepare import fold, prepare
from quantlab.qdq.selection import EVERYTHING

QDQ_TENSORS = "qdq"
"""The tensors that `quantize` needs."""
ALL_TENSORS = "all"
"""Every floating point tensor, as a TensorRT cache needs."""


def calibration_target(model: Model, tensors: Sequence[str] | str = QDQ_TENSORS) -> CalibrationTarget:
    """Choose what of a model is calibrated.

    Args:
        model: An FP32 model.
        tensors: 'qdq' for those that `quantize` needs, 'all' for every floating point tensor, or a list of names.

    Returns:
        The network with its constants computed, and the tensors.

    Raises:
        GraphError: The model has Q/DQ already, nothing in it can be INT8, or a weight or bias is not finite.
        ConfigError: `tensors` is a single name, or a list of something else than names.
    """
    proto = load_model(model)
    require_float(proto, "calibration")
    require_finite(proto)
    names = _names(proto, tensors)
    needed = _needed(proto) if names is None else None
    notices = constant_qdq_notices(proto)
    return CalibrationTarget(fold(proto), names, model_hash(proto), needed=needed, notices=notices)


def _needed(proto: onnx.ModelProto) -> frozenset[str]:
    """Of all tensors those that INT8 layers read; the others, such as masks, may do without a scale."""
    try:
        return frozenset(_names(proto, QDQ_TENSORS) or ())
    except GraphError:  # nothing in it can be INT8: every tensor that has a range is as good as the others
        return frozenset()


def _names(proto: onnx.ModelProto, tensors: Sequence[str] | str) -> tuple[str, ...] | None:
    if isinstance(tensors, str) and tensors == ALL_TENSORS:
        return None
    if isinstance(tensors, str) and tensors != QDQ_TENSORS:
        raise ConfigError(
            f"tensors is '{tensors}', expected 'qdq', 'all' or a list of names", hint=f"tensors=['{tensors}']"
        )
    if not isinstance(tensors, str):
        return tuple(tensors)
    prepared = prepare(proto)
    behind = behind_plugins(prepared)
    placement = plan(prepared, EVERYTHING, keep_float=behind)  # a layer that quantize leaves out can be asked for
    if not placement.tensors:
        raise nothing_in_int8(prepared, placement.skipped)
    wanted = (
        *placement.tensors,
        *plan(prepared, keep_float=behind).tensors,
        *other_branches(prepared),
    )  # for any selection
    off = beyond(prepared).tensors
    wanted = tuple(tensor for tensor in wanted if tensor not in off)
    known = {name for node in proto.graph.node for name in node.output}
    return tuple(dict.fromkeys(calibrated_name(tensor, known) for tensor in wanted))
