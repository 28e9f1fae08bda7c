"""The model closest to FP32: scales, ranges, codes, rounding and biases chosen together, step by step.

Each step starts from what the steps before it gave, and is kept where samples that were held back show that it helps;
what fits the data closely (rounding) is judged with codes that come from the other samples, and made once more from all
of them in the end. The outcome is compared with what `auto` alone gives on held-back samples that had no part in any
choice: if it is not better there, `auto` it is.
"""

from __future__ import annotations

import numpy as np

from quantlab.calibration import Progress
from quantlab.data import Batches, BatchSize
from quantlab.onnx_model import Model, input_specs, load_model
from quantlab.qdq import Selection, WeightStyle, prepare, quantize_model
from quantlab.qdq.quantize import stores_float
from quantlab.tune.auto import calibrate_auto
from quantlab.tune.closest_result import Closest
from quantlab.tune.closest_samples import Parts
from quantlab.tune.closest_steps import Steps
from quantlab.tune.stage import Stages, no_stages


def quantize_closest(
    model: Model,
    batches: Batches,
    selection: Selection | None = None,
    weights: WeightStyle | None = None,
    on_batch: Progress | None = None,
    on_stage: Stages = no_stages,
) -> Closest:
    """Quantize a model so that its outputs are as close to FP32 as INT8 on TensorRT allows, at no cost in latency.

    Args:
        model: The FP32 model.
        batches: Calibration data.
        selection: Which nodes to quantize or to leave in float.
        weights: How weights are quantized.
        on_batch: Called after every batch of the first pass with the number of samples so far.
        on_stage: Told of the work that follows it.

    Returns:
        The Q/DQ model, and what each step brought.

    Raises:
        DataError: The data do not fit, or an output of FP32 is not finite.
        GraphError: The model cannot be calibrated.
    """
    proto = load_model(model)
    auto = calibrate_auto(proto, batches, None, on_batch, on_stage)
    quantized = quantize_model(proto, auto.table, selection, weights)
    inputs = input_specs(proto)
    whole = BatchSize.of(inputs).whole(batches)
    if not quantized.placement.tensors:
        return Closest(quantized, (), np.inf, np.inf, 0, auto.table)
    data = Parts.of(whole, inputs, auto.table)
    search = Steps(proto, quantized, auto, data, stores_float(prepare(proto), weights or WeightStyle()), on_stage)
    return search.run(whole)
