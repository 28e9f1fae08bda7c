"""The main job in three calls: calibrate, quantize, compare. Models as path or ModelProto; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration.offline import CalibrationRun, Progress, RunOptions, run_calibration
from quantlab.calibration.table import CalibrationTable
from quantlab.calibration.trt_cache import TrtCache, cache_from_table
from quantlab.comparison import Backend, Candidate, Comparison, compare_models
from quantlab.comparison.task import Metric
from quantlab.data.batches import Batch, Batches, batch_length
from quantlab.errors import ConfigError, GraphError
from quantlab.model import Model, fixed_batch, input_specs, load_model, model_hash, require_float
from quantlab.numerics import scale_from_amax
from quantlab.observers import Entropy, Observer
from quantlab.observers.base import algorithm_name
from quantlab.qdq import EVERYTHING, Placement, Selection, WeightError, fold, insert, plan, prepare, strip

QDQ_TENSORS = "qdq"
ALL_TENSORS = "all"


@dataclass(frozen=True, slots=True)
class Quantized:
    """The Q/DQ model and what was decided: `placement` lists quantized tensors, weights and skipped nodes;
    `weight_errors` what every weight lost, per channel."""

    model: onnx.ModelProto
    placement: Placement
    warnings: tuple[str, ...]
    weight_errors: tuple[WeightError, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightStyle:
    """per_channel: one scale per output channel, else one per weight. stored: `int8` behind a DequantizeLinear, or
    `float` behind a Q/DQ pair, as quantization-aware training has it; both give the same outputs."""

    per_channel: bool = True
    stored: str = "int8"

    def __post_init__(self) -> None:
        if self.stored not in ("int8", "float"):
            raise ConfigError(f"weights cannot be stored as '{self.stored}'", hint="use int8 or float")


def calibrate(
    model: Model,
    batches: Batches,
    observer: Observer | None = None,
    *,
    tensors: Sequence[str] | str = QDQ_TENSORS,
    order_independent: bool = False,
    on_batch: Progress | None = None,
) -> CalibrationTable:
    """The amax of the model's activations by one algorithm (default: `Entropy()`, TensorRT's).

    batches: re-iterable of `{input: array}`. observer: a prototype; every tensor gets a fresh copy. tensors: 'qdq'
    for those that `quantize` needs, 'all' for every floating point tensor (a TensorRT cache needs those), or names.
    order_independent: the same scales whatever the batches and their order; TensorRT's own depend on both.
    Raises DataError for data that does not fit or is not finite, GraphError for models that cannot be calibrated.
    """
    observer = observer or Entropy()
    name = algorithm_name(observer)
    options = RunOptions(keep_histograms=False, order_independent=order_independent)
    return calibration_run(model, batches, {name: observer}, tensors, on_batch, options).tables[name]


def calibrate_all(
    model: Model,
    batches: Batches,
    observers: Mapping[str, Observer],
    *,
    tensors: Sequence[str] | str = QDQ_TENSORS,
    order_independent: bool = False,
    on_batch: Progress | None = None,
) -> CalibrationRun:
    """Several algorithms from one pass over the data; the run also keeps the histograms. Arguments as `calibrate`."""
    options = RunOptions(order_independent=order_independent)
    return calibration_run(model, batches, observers, tensors, on_batch, options)


def calibration_run(
    model: Model,
    batches: Batches,
    observers: Mapping[str, Observer],
    tensors: Sequence[str] | str,
    on_batch: Progress | None,
    options: RunOptions,
) -> CalibrationRun:
    """One pass as `options` say, on tensors as in `calibrate`."""
    proto = load_model(model)
    require_float(proto, "calibration")
    wanted: Sequence[str] | None
    if tensors == ALL_TENSORS:
        wanted = None
    elif tensors == QDQ_TENSORS:
        placement = plan(prepare(proto), EVERYTHING)  # a layer that quantize leaves out can still be asked for
        wanted = placement.tensors
        if not wanted:
            reasons = sorted({f"{s.op}: {s.reason}" for s in placement.skipped})
            raise GraphError(f"nothing in the model can be INT8: {'; '.join(reasons)}", hint="is this the right model?")
    else:
        wanted = list(tensors)
    run = run_calibration(fold(proto), batches, observers, wanted, on_batch, options)
    digest = model_hash(proto)
    tables = {
        name: replace(table, provenance=replace(table.provenance, model_hash=digest))
        for name, table in run.tables.items()
    }
    return replace(run, tables=tables, provenance=replace(run.provenance, model_hash=digest))


def quantize(
    model: Model,
    table: CalibrationTable,
    *,
    selection: Selection | None = None,
    weights: WeightStyle | None = None,
) -> Quantized:
    """Q/DQ nodes with the scales of `table` into an FP32 model; what must be fed and what comes out stay as they are.

    selection: which nodes to quantize or to leave in float. Raises GraphError for a model that already has Q/DQ,
    DataError for a table of another model or one that lacks a tensor.
    """
    weights = weights or WeightStyle()
    proto = load_model(model)
    require_float(proto, "quantization")
    table.check_model(proto)
    prepared = prepare(proto)
    placement = plan(prepared, selection)
    if not weights.per_channel:
        placement = placement.per_tensor_weights()
    for tensor in placement.tensors:
        table.scale(tensor)  # a missing one is named here
    amax = placement.shared_amax(table.amax)
    inserted = insert(
        prepared,
        placement,
        lambda tensor: scale_from_amax(amax[tensor]),
        float_weights=weights.stored == "float",
    )
    zero = tuple(f"tensor '{t}' was all zero in calibration; its scale is 1" for t in placement.tensors if amax[t] == 0)
    fed = {s.name for s in input_specs(proto)}
    defaults = tuple(
        f"input '{i.name}' has a default value; it is a constant in the Q/DQ model"
        for i in proto.graph.input
        if i.name not in fed
    )
    return Quantized(inserted.model, placement, (*inserted.warnings, *zero, *defaults), inserted.weight_errors)


def tensorrt_cache(model: Model, table: CalibrationTable, calibrator: str = "EntropyCalibration2") -> TrtCache:
    """The cache of a table of all tensors, with TensorRT's view of the network: EntropyCalibration2 and
    MinMaxCalibration give the output of max and average pooling its input's scale, the others do not. The inner tensors
    of a Gemm have no ONNX name and are not in it."""
    proto = load_model(model)
    amax = dict(table.amax)
    copies = calibrator in ("EntropyCalibration2", "MinMaxCalibration")
    for node in fold(proto).graph.node if copies else ():
        if node.op_type in ("MaxPool", "AveragePool") and node.input[0] in amax and node.output[0] in amax:
            amax[node.output[0]] = amax[node.input[0]]
    return cache_from_table(replace(table, amax=amax), calibrator=calibrator)


def compare(
    model: Model,
    quantized: Mapping[str, Model | Backend | Callable[[Batch], Mapping[str, NDArray[Any]]]],
    batches: Batches,
    labels: NDArray[np.int64] | None = None,
    *,
    metric: Metric | None = None,
    on_batch: Progress | None = None,
) -> Comparison:
    """The FP32 model against others, by name, on the same batches; see `compare_models`.

    quantized: models (paths or ModelProto, run on ONNX Runtime), or any function from a batch to the outputs by name.
    metric: a function (outputs of a batch, labels or None) -> a value per sample, or a class with `update` and
    `compute` for metrics of the whole set; higher is better.
    """
    candidates: list[Candidate | Backend] = []
    for name, other in quantized.items():
        if isinstance(other, Backend):
            candidates.append(replace(other, name=name))
        elif isinstance(other, (str, Path, onnx.ModelProto)):
            candidates.append(Candidate(name, load_model(other)))
        else:
            candidates.append(Backend(name, other))
    return compare_models(load_model(model), candidates, batches, labels, on_batch, metric)


def _scales_of(proto: onnx.ModelProto) -> Mapping[str, np.float32]:
    try:
        return strip(proto).amax
    except GraphError:  # not every Q/DQ graph can be taken apart; its outputs are compared all the same
        return {}


def activation_ranges(model: Model, quantized: Mapping[str, Model], batches: Batches) -> CalibrationRun | None:
    """What Q/DQ models keep of each tensor (their scales as tables), with histograms of the FP32 model on `batches`.

    Only tensors that all of them quantize and the FP32 model has; None if there are none, or no whole batch for a model
    with a fixed one. Models without Q/DQ, or whose scales cannot be read, are left out.
    """
    proto = fold(load_model(model))
    fixed, first = fixed_batch(proto), input_specs(proto)[0].name
    batches = [b for n, b in enumerate(batches) if fixed in (None, batch_length(b, first, n))]
    scales = {name: found for name, qdq in quantized.items() if (found := _scales_of(load_model(qdq)))}
    if not batches:
        return None
    inside = {s.name for s in input_specs(proto)}.union(o for n in proto.graph.node for o in n.output)
    shared = [t for t in next(iter(scales.values()), {}) if t in inside and all(t in s for s in scales.values())]
    if not shared:
        return None
    run = run_calibration(proto, batches, {}, shared)
    tables = {name: CalibrationTable({t: found[t] for t in shared}) for name, found in scales.items()}
    return CalibrationRun(tables, run.histograms)
