"""What Q/DQ models keep of the activations, beside what there was."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from quantlab.calibration import CalibrationRun, CalibrationTable, CalibrationTarget, Progress, run_calibration
from quantlab.data import Batches, BatchSize
from quantlab.errors import GraphError
from quantlab.onnx_model import Model, input_specs, load_model
from quantlab.qdq import fold, strip


def activation_ranges(
    model: Model, quantized: Mapping[str, Model], batches: Batches, on_batch: Progress | None = None
) -> CalibrationRun | None:
    """Read the ranges off Q/DQ models, for reports.

    Args:
        model: The FP32 model.
        quantized: Models by name; those without Q/DQ, or whose scales cannot be read, are left out.
        batches: A few are enough.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        The scales as tables, each with the tensors that its model quantizes, and histograms of the FP32 model on the
        batches for all of these that it has. None if there are no such tensors or no batches.

    Raises:
        DataError: The batches do not fit, or no tensor has values that are finite.
    """
    proto = fold(load_model(model))
    whole = list(BatchSize.of(input_specs(proto)).whole(batches))
    scales = {name: found for name, qdq in quantized.items() if (found := _scales_of(qdq))}
    order = [*(spec.name for spec in input_specs(proto)), *(o for node in proto.graph.node for o in node.output)]
    shown = [tensor for tensor in order if any(tensor in amax for amax in scales.values())]
    if not whole or not shown:
        return None
    target = CalibrationTarget(proto, tuple(shown), needed=frozenset())  # a mask of attention has no histogram
    run = run_calibration(target, whole, {}, on_batch=on_batch)
    kept = {name: {t: amax[t] for t in shown if t in amax} for name, amax in scales.items()}
    tables = {name: CalibrationTable(amax) for name, amax in kept.items() if amax}
    return CalibrationRun(tables, run.histograms, run.provenance, run.warnings)


def _scales_of(model: Model) -> Mapping[str, np.float32]:
    try:
        return strip(load_model(model)).amax
    except GraphError:  # not every Q/DQ graph can be taken apart; its outputs are compared all the same
        return {}
