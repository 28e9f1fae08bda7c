"""Which tensors of a model a calibration is for."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from quantlab.calibration import CalibrationTarget
from quantlab.errors import ConfigError, GraphError, expect_type
from quantlab.onnx_model import Model, load_model, model_hash, require_float
from quantlab.qdq.names import calibrated_name
from quantlab.qdq.planning import other_branches, plan
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
        GraphError: The model has Q/DQ already, or nothing in it can be INT8.
        ConfigError: `tensors` is a single name, or a list of something else than names.
    """
    proto = load_model(model)
    require_float(proto, "calibration")
    return CalibrationTarget(fold(proto), _names(proto, tensors), model_hash(proto))


def _names(proto: onnx.ModelProto, tensors: Sequence[str] | str) -> tuple[str, ...] | None:
    expect_type(tensors, (str, Sequence), "tensors", "use 'qdq', 'all' or a list of names")
    if isinstance(tensors, str) and tensors == ALL_TENSORS:
        return None
    if isinstance(tensors, str) and tensors != QDQ_TENSORS:
        raise ConfigError(
            f"tensors is '{tensors}', expected 'qdq', 'all' or a list of names", hint=f"tensors=['{tensors}']"
        )
    if not isinstance(tensors, str):
        wrong = [name for name in tensors if not isinstance(name, str)]
        if wrong:
            raise ConfigError(f"tensors has {wrong[0]!r}, expected names", hint="quantlab inspect MODEL lists them")
        return tuple(tensors)
    prepared = prepare(proto)
    placement = plan(prepared, EVERYTHING)  # a layer that quantize leaves out can be asked for
    if not placement.tensors:
        reasons = sorted({f"{s.op}: {s.reason}" for s in placement.skipped})
        raise GraphError(f"nothing in the model can be INT8: {'; '.join(reasons)}", hint="is this the right model?")
    wanted = (*placement.tensors, *plan(prepared).tensors, *other_branches(prepared))  # for any selection
    known = {name for node in proto.graph.node for name in node.output}
    return tuple(dict.fromkeys(calibrated_name(tensor, known) for tensor in wanted))
