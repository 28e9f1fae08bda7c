"""The verbs of quantlab, each a call of the rooms below. Models as path or ModelProto; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import (
    CalibrationRun,
    CalibrationShard,
    CalibrationTable,
    DataCheck,
    Progress,
    RunOptions,
    judge_data,
    load_table,
    run_calibration,
    run_shard,
    run_shards,
)
from quantlab.comparison import Backend, Candidate, Comparison, Metric, compare_models
from quantlab.data import Batch, Batches
from quantlab.errors import ConfigError, Notice
from quantlab.observers import Observer, algorithm_name, resolve_algorithm
from quantlab.onnx_model import Model, load_model
from quantlab.qdq import (
    QDQ_TENSORS,
    Migrated,
    Quantized,
    Selection,
    WeightStyle,
    calibration_target,
    migrate_to_qdq,
    quantize_model,
)
from quantlab.qdq.outputs import OutputKind, Scales
from quantlab.tune import calibrate_auto

AUTO = "auto"
"""The algorithm that chooses per tensor."""

Algorithm = str | Observer | type[Observer]
"""A name as the command line knows them, an observer, or its class."""


def calibrate(
    model: Model,
    batches: Batches,
    algorithm: Algorithm = "entropy",
    *,
    tensors: Sequence[str] | str = QDQ_TENSORS,
    order_independent: bool = False,
    on_batch: Progress | None = None,
) -> CalibrationTable:
    """Find the range of a model's activations with one algorithm.

    Args:
        model: The FP32 model.
        batches: Re-iterable of `{input: array}`.
        algorithm: 'entropy' (TensorRT's), 'minmax', 'mse', 'percentile-99.99', 'auto', or an observer; every tensor
            gets a fresh copy of it.
        tensors: 'qdq' for those that `quantize` needs, 'all' for every floating point tensor (a TensorRT cache needs
            those), or a list of names.
        order_independent: The same scales whatever the batches and their order; TensorRT's own depend on both.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        The table.

    Raises:
        ConfigError: An argument makes no sense.
        DataError: The data do not fit or are not finite, with batch and tensor.
        GraphError: The model cannot be calibrated.
    """
    if algorithm == AUTO:
        if order_independent or tensors != QDQ_TENSORS:
            raise ConfigError(
                "auto chooses for the tensors of a Q/DQ model, by the batches as they come",
                hint="leave out tensors and order_independent, or choose one algorithm",
            )
        return calibrate_auto(model, batches, on_batch=on_batch).table
    observer = resolve_algorithm(algorithm)
    name = algorithm_name(observer)
    options = RunOptions(keep_histograms=False, order_independent=order_independent)
    return run_calibration(calibration_target(model, tensors), batches, {name: observer}, options, on_batch).tables[
        name
    ]


def calibrate_all(
    model: Model,
    batches: Batches,
    algorithms: Mapping[str, Algorithm],
    *,
    tensors: Sequence[str] | str = QDQ_TENSORS,
    order_independent: bool = False,
    on_batch: Progress | None = None,
) -> CalibrationRun:
    """Several algorithms from one pass over the data.

    Args:
        model: The FP32 model.
        batches: Re-iterable of `{input: array}`.
        algorithms: By the name that their table shall have.
        tensors: As `calibrate`.
        order_independent: As `calibrate`.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        The tables, and the histograms of all tensors.

    Raises:
        ConfigError: An argument makes no sense.
        DataError: As `calibrate`.
        GraphError: As `calibrate`.
    """
    observers = {name: resolve_algorithm(algorithm) for name, algorithm in algorithms.items()}
    options = RunOptions(order_independent=order_independent)
    return run_calibration(calibration_target(model, tensors), batches, observers, options, on_batch)


def check_data(
    model: Model, batches: Batches, algorithm: Algorithm = "entropy", *, on_batch: Progress | None = None
) -> DataCheck:
    """Judge whether calibration data are enough for an algorithm.

    Args:
        model: The FP32 model.
        batches: Re-iterable; more and smaller batches give a finer answer.
        algorithm: As `calibrate`, without 'auto'.
        on_batch: Called after every batch of the first pass with the number of samples so far.

    Returns:
        How the scales settle, and what held-back batches say of them.

    Raises:
        ConfigError: There is no such algorithm.
        DataError: As `calibrate`; or the stream gives other batches every time.
        GraphError: As `calibrate`.
    """
    return judge_data(calibration_target(model), batches, resolve_algorithm(algorithm), on_batch)


def calibrate_shard(
    model: Model, batches: Batches, *, tensors: Sequence[str] | str = QDQ_TENSORS, on_batch: Progress | None = None
) -> CalibrationShard:
    """One pass over a part of the data, order-independent; any of quantlab's algorithms can be read off it.

    Args:
        model: The FP32 model.
        batches: This part of the data.
        tensors: As `calibrate`.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        What the part has in it, to be merged with others.

    Raises:
        DataError: As `calibrate`.
        GraphError: As `calibrate`.
    """
    return run_shard(calibration_target(model, tensors), batches, on_batch)


def calibrate_shards(
    model: Model, shards: Sequence[Batches], *, tensors: Sequence[str] | str = QDQ_TENSORS, n_jobs: int = -1
) -> CalibrationShard:
    """`calibrate_shard` of every part in parallel by joblib, merged.

    Args:
        model: The FP32 model.
        shards: A stream of batches per part; they must be picklable, and each different data.
        tensors: As `calibrate`.
        n_jobs: As joblib's; -1 is one per core.

    Returns:
        All parts as one.

    Raises:
        ConfigError: There are no parts, or two have the same data.
        MissingDependencyError: joblib is not installed.
        DataError: As `calibrate`.
        GraphError: As `calibrate`.
    """
    return run_shards(calibration_target(model, tensors), shards, n_jobs)


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
    if not isinstance(table, CalibrationTable):
        raise ConfigError(
            f"table is a {type(table).__name__}, expected a CalibrationTable or the path of one",
            hint="quantlab.calibrate makes one",
        )
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
            written), or any function from a batch to the outputs by name.
        batches: The data.
        labels: int64 (N,) for all samples in order; without them a stream with labels brings its own.
        metric: A function (outputs of a batch, labels or None) -> a value per sample, or a class with `update` and
            `compute` for metrics of the whole set; higher is better.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        Accuracy and errors of all of them. A model that fails is kept, with the reason.

    Raises:
        ConfigError: `quantized` is no mapping.
        DataError: There are no batches, labels do not fit, or FP32 guesses.
        GraphError: The FP32 model is quantized, or a model has other inputs and outputs.
    """
    if not isinstance(quantized, Mapping):
        raise ConfigError(
            f"what is compared is a {type(quantized).__name__}, expected a mapping of name to model",
            hint="give every model a name: {'int8': model}",
        )
    candidates = [_candidate(name, other) for name, other in quantized.items()]
    return compare_models(load_model(model), candidates, batches, labels, on_batch, metric)


def _candidate(name: str, other: object) -> Candidate | Backend:
    if isinstance(other, Backend):
        return replace(other, name=name)
    if isinstance(other, Quantized):
        return Candidate(name, other.model)
    if isinstance(other, (str, Path, onnx.ModelProto)):
        return Candidate(name, load_model(other))
    if callable(other):
        return Backend(name, other)
    raise ConfigError(
        f"'{name}' is a {type(other).__name__}, expected a model, or a function from a batch to outputs",
        hint="give the path of an ONNX file, or what quantize returns",
    )


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """A calibration whose result goes to a file.

    Attributes:
        kind: What the file is.
        algorithm: As `calibrate`.
        tensors: As `calibrate`; None for those that the kind of file needs.
        order_independent: As `calibrate`.
        tensorrt: The version that will read a cache.
    """

    kind: OutputKind
    algorithm: str = "entropy"
    tensors: str | None = None
    order_independent: bool = False
    tensorrt: str = "8.6.0"

    def __post_init__(self) -> None:
        if self.algorithm != AUTO:
            resolve_algorithm(self.algorithm)
        if self.kind.save is None and not self.order_independent:
            raise ConfigError(
                "TensorRT's histograms depend on the order of the batches: parts of the data cannot be merged",
                hint="--order-independent",
            )
        if self.algorithm == AUTO and self.order_independent:
            raise ConfigError("auto has no order-independent form", hint="merge parts and choose one algorithm")
        if self.algorithm == AUTO and self.wanted != QDQ_TENSORS:
            raise ConfigError(
                "auto chooses for the tensors of a Q/DQ model only", hint="leave out --tensors, write a .json"
            )

    @property
    def wanted(self) -> str:
        """Which tensors are calibrated."""
        return self.tensors or self.kind.tensors


@dataclass(frozen=True, slots=True)
class WrittenCalibration:
    """What was written. tensors, samples: how many. warnings: facts that a reader of the numbers must know."""

    tensors: int
    samples: int
    warnings: tuple[Notice, ...]


def calibrate_to_file(
    model: Model, batches: Batches, path: Path, request: CalibrationRequest, on_batch: Progress | None = None
) -> WrittenCalibration:
    """Calibrate a model and write the result: a table, a cache, or a part of the data.

    Args:
        model: The FP32 model.
        batches: Re-iterable of `{input: array}`.
        path: The file.
        request: What to write there.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        What was written.

    Raises:
        DataError: As `calibrate`.
        GraphError: As `calibrate`.
    """
    proto = load_model(model)
    if request.kind.save is None:
        shard = calibrate_shard(proto, batches, tensors=request.wanted, on_batch=on_batch)
        shard.save(path)
        return WrittenCalibration(len(shard.histograms), shard.provenance.samples, shard.warnings)
    table = calibrate(
        proto,
        batches,
        request.algorithm,
        tensors=request.wanted,
        order_independent=request.order_independent,
        on_batch=on_batch,
    )
    calibrator = "MinMaxCalibration" if request.algorithm == "minmax" else "EntropyCalibration2"
    request.kind.save(Scales(proto, table, calibrator, request.tensorrt), path)
    warnings = table.warnings
    if request.order_independent and request.kind.tensors != QDQ_TENSORS:
        other = Notice("order-independent scales are not those that TensorRT's calibrator would find")
        warnings = (other, *warnings)
    return WrittenCalibration(len(table.amax), table.provenance.samples, warnings)
