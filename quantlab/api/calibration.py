"""The verbs of calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantlab.calibration import (
    CalibrationRun,
    CalibrationShard,
    CalibrationTable,
    DataCheck,
    Progress,
    RunOptions,
    judge_data,
    run_calibration,
    run_shard,
    run_shards,
)
from quantlab.data import Batches
from quantlab.errors import ConfigError
from quantlab.observers import Observer, algorithm_name, resolve_algorithm
from quantlab.onnx_model import Model
from quantlab.qdq import QDQ_TENSORS, calibration_target
from quantlab.tune import calibrate_auto
from quantlab.tune.stage import Stages, no_stages

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
    on_stage: Stages = no_stages,
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
        on_stage: Told of what 'auto' does after that pass.

    Returns:
        The table.

    Raises:
        ConfigError: An argument makes no sense.
        DataError: The data do not fit or are not finite, with batch and tensor.
        GraphError: The model cannot be calibrated.
    """
    if isinstance(algorithm, str) and algorithm == AUTO:
        if order_independent or not (isinstance(tensors, str) and tensors == QDQ_TENSORS):
            raise ConfigError(
                "auto chooses for the tensors of a Q/DQ model, by the batches as they come",
                hint="leave out tensors and order_independent, or choose one algorithm",
            )
        return calibrate_auto(model, batches, on_batch=on_batch, on_stage=on_stage).table
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
