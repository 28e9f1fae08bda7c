"""What Q/DQ models keep of the activations, beside what there was."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from quantlab.calibration import CalibrationRun, CalibrationTable, CalibrationTarget, run_calibration
from quantlab.data import Batches, BatchSize
from quantlab.errors import GraphError
from quantlab.onnx_model import Model, input_specs, load_model
from quantlab.qdq import fold, strip


def activation_ranges(model: Model, quantized: Mapping[str, Model], batches: Batches) -> CalibrationRun | None:
    """Read the ranges off Q/DQ models, for reports.

    Args:
        model: The FP32 model.
        quantized: Models by name; those without Q/DQ, or whose scales cannot be read, are left out.
        batches: A few are enough.

    Returns:
        The scales as tables, and histograms of the FP32 model on the batches, for the tensors that all of them quantize
        and the FP32 model has. None if there are no such tensors or no batches.

    Raises:
        DataError: The batches do not fit.
    """
    proto = fold(load_model(model))
    whole = list(BatchSize.of(input_specs(proto)).whole(batches))
    scales = {name: found for name, qdq in quantized.items() if (found := _scales_of(qdq))}
    inside = {s.name for s in input_specs(proto)}.union(o for n in proto.graph.node for o in n.output)
    shared = [t for t in next(iter(scales.values()), {}) if t in inside and all(t in s for s in scales.values())]
    if not whole or not shared:
        return None
    run = run_calibration(CalibrationTarget(proto, tuple(shared)), whole, {})
    tables = {name: CalibrationTable({t: found[t] for t in shared}) for name, found in scales.items()}
    return CalibrationRun(tables, run.histograms)


def _scales_of(model: Model) -> Mapping[str, np.float32]:
    try:
        return strip(load_model(model)).amax
    except GraphError:  # not every Q/DQ graph can be taken apart; its outputs are compared all the same
        return {}
