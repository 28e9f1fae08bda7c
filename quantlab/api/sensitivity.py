"""The verb of sensitivity."""

from __future__ import annotations

from pathlib import Path

from quantlab.calibration import CalibrationTable, Progress, load_table
from quantlab.data import Batches, Labels
from quantlab.onnx_model import Model
from quantlab.tune import SensitivityOptions, SensitivityTable, measure_sensitivity


def sensitivity(
    model: Model,
    table: CalibrationTable | str | Path,
    batches: Batches,
    labels: Labels | None = None,
    *,
    options: SensitivityOptions | None = None,
    on_batch: Progress | None = None,
) -> SensitivityTable:
    """Measure what INT8 does to the outputs when it is in one layer, one tensor or one class of nodes alone.

    Args:
        model: The FP32 model.
        table: Made for this model, or the path of a table or TensorRT cache.
        batches: The data, the same in every pass.
        labels: int64 (N,) for all samples in order; without them a stream with labels brings its own.
        options: Metric, method, part, jobs and the folder that keeps what is finished.
        on_batch: Called with the number of samples so far, each pass over the data counting its share.

    Returns:
        A row per unit: SQNR of the outputs, share of changed classes, the metric, and a first-order estimate.

    Raises:
        ConfigError: An option makes no sense, or a metric needs labels that are not there.
        DataError: The table is of another model or lacks a tensor, or the data do not fit.
        GraphError: The model has Q/DQ already, or nothing in it can be INT8.
    """
    if isinstance(table, (str, Path)):
        table = load_table(table)
    return measure_sensitivity(model, table, batches, labels, options, on_batch)
