"""The verbs of models: quantize, migrate, compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import CalibrationTable, Progress, load_table
from quantlab.comparison import Backend, Candidate, Comparison, Metric, compare_models
from quantlab.data import Batch, Batches
from quantlab.onnx_model import Model, load_model
from quantlab.qdq import Migrated, Quantized, Selection, WeightStyle, migrate_to_qdq, quantize_model


def quantize(
    model: Model,
    table: CalibrationTable | str | Path,
    *,
    selection: Selection | None = None,
    weights: WeightStyle | None = None,
) -> Quantized:
    """Put Q/DQ nodes with calibrated scales into an FP32 model.

    Args:
        model: The FP32 model; what must be fed and what comes out stay as they are.
        table: Made for this model, or the path of a table or TensorRT cache.
        selection: Which nodes to quantize or to leave in float.
        weights: How weights are quantized.

    Returns:
        The Q/DQ model and what was decided.

    Raises:
        GraphError: The model has Q/DQ already.
        DataError: The table is of another model, or lacks a tensor.
    """
    return quantize_model(model, _table(table), selection, weights)


def migrate(model: Model, table: CalibrationTable | str | Path, selection: Selection | None = None) -> Migrated:
    """Turn a TensorRT calibration cache into Q/DQ: the way to TensorRT 11, which has no calibrators.

    Args:
        model: The FP32 model.
        table: The cache: its path, or a table.
        selection: Which nodes to quantize or to leave in float.

    Returns:
        The Q/DQ model, which rounds where the implicit engine rounds, and what became of every scale.

    Raises:
        GraphError: The model has Q/DQ already.
        DataError: The table is of another model, or has no scale for any layer of it.
    """
    return migrate_to_qdq(model, _table(table), selection)


def _table(table: CalibrationTable | str | Path) -> CalibrationTable:
    if isinstance(table, (str, Path)):
        return load_table(table)
    return table


def compare(
    model: Model,
    quantized: Mapping[str, Model | Quantized | Backend | Callable[[Batch], Mapping[str, NDArray[Any]]]],
    batches: Batches,
    labels: NDArray[np.int64] | None = None,
    *,
    metric: Metric | None = None,
    on_batch: Progress | None = None,
) -> Comparison:
    """Compare a FP32 model with others on the same batches.

    Args:
        model: The FP32 model.
        quantized: By name: models (paths, ModelProto or what `quantize` gives; run on ONNX Runtime as they are
            written), any function from a batch to the outputs by name, or a `quantlab.Backend`, which has facts too.
        batches: The data.
        labels: int64 (N,) for all samples in order; without them a stream with labels brings its own.
        metric: A function (outputs of a batch, labels or None) -> a value per sample, or a class with `update` and
            `compute` for metrics of the whole set; higher is better.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        Accuracy and errors of all of them. A model that fails is kept, with the reason.

    Raises:
        ConfigError: An argument is of another type.
        DataError: There are no batches, labels do not fit, or FP32 guesses.
        GraphError: The FP32 model is quantized, or a model has other inputs and outputs.
    """
    candidates = [_candidate(name, other) for name, other in quantized.items()]
    return compare_models(load_model(model), candidates, batches, labels, on_batch, metric)


def _candidate(
    name: str, other: Model | Quantized | Backend | Callable[[Batch], Mapping[str, NDArray[Any]]]
) -> Candidate | Backend:
    if isinstance(other, Backend):
        return replace(other, name=name)
    if isinstance(other, Quantized):
        return Candidate(name, other.model)
    if isinstance(other, (str, Path, onnx.ModelProto)):
        return Candidate(name, load_model(other))
    return Backend(name, other)
