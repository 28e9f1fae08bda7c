"""Which source of INT8 ranges a build has: what fits together is decided here, before TensorRT is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from quantlab.calibration import load_table
from quantlab.data import Batches, BatchSize
from quantlab.engines.features import Features
from quantlab.engines.int8 import DynamicRanges, Int8Source, ModelRanges
from quantlab.engines.options import BuildOptions
from quantlab.engines.runtime import Runtime
from quantlab.engines.stream_calibrator import CalibratorOptions
from quantlab.errors import ConfigError
from quantlab.nearest import nearest
from quantlab.onnx_model import has_qdq, input_specs

CALIBRATORS = ("entropy2", "minmax", "entropy", "legacy")
"""TensorRT's calibrators by the names the CLI knows."""


@dataclass(frozen=True, slots=True)
class Int8Request:
    """Where the ranges of a build shall come from; all at their defaults: from the model, or nowhere.

    Attributes:
        batches: Opens the data to calibrate on.
        calibrator: Of `CALIBRATORS`, for those data.
        cache: A calibration cache to reuse if it fits, and to write.
        trust_cache: Use the cache even if its record is missing or does not fit.
        table: A file with scales: a quantlab table or any TensorRT cache.
        dynamic_ranges: Set the table's ranges on the tensors in place of a cache.

    Raises:
        ConfigError: They contradict each other.
    """

    batches: Callable[[], Batches] | None = None
    calibrator: str = "entropy2"
    cache: Path | None = None
    trust_cache: bool = False
    table: Path | None = None
    dynamic_ranges: bool = False

    def __post_init__(self) -> None:
        if self.table is not None and self.batches is not None:
            raise ConfigError("--table and --data were both given", hint="scales come from one of them")
        if self.dynamic_ranges and self.table is None:
            raise ConfigError("--dynamic-ranges without --table", hint="give the table with the ranges")
        if self.batches is not None and self.calibrator not in CALIBRATORS:
            question = nearest(self.calibrator, CALIBRATORS)
            raise ConfigError(
                f"there is no calibrator '{self.calibrator}'", hint=f"{question}use {', '.join(CALIBRATORS)}"
            )
        if self.cache is not None and self.batches is None and self.scales is None:
            raise ConfigError(
                "--cache without --data: whether it fits cannot be told", hint="give --data, or --table CACHE"
            )

    @property
    def scales(self) -> Path | None:
        """The file that has all scales: the table, or a cache that is trusted where there are no data."""
        if self.table is None and self.batches is None and self.trust_cache:
            return self.cache
        return self.table


def requested_source(runtime: Runtime, proto: onnx.ModelProto, request: Int8Request) -> Int8Source | None:
    """Make the source that was asked for.

    Args:
        runtime: Whose calibrators to use.
        proto: The model.
        request: What was asked for.

    Returns:
        The source, None where the model has its ranges itself or stays in float.

    Raises:
        DataError: The table is of another model, or the data cannot be read.
    """
    if request.scales is not None:
        table = load_table(request.scales)
        table.check_model(proto)
        return DynamicRanges(table) if request.dynamic_ranges else runtime.table_calibrator(table)
    if request.batches is None:
        return None
    options = CalibratorOptions(request.cache, request.trust_cache)
    return runtime.stream_calibrator(request.calibrator, request.batches(), options)


def calibration_batch(proto: onnx.ModelProto, options: BuildOptions) -> int | None:
    """How many samples a batch of the calibration data must have.

    Args:
        proto: The model.
        options: Of the build.

    Returns:
        The model's fixed batch, else that of the calibration profile; None if any will do.
    """
    fixed = BatchSize.of(input_specs(proto)).fixed
    first = next(iter(options.calibration_shapes.values()), ())
    return first[0] if fixed is None and first else fixed


def build_source(
    proto: onnx.ModelProto, options: BuildOptions, int8: Int8Source | None, features: Features
) -> Int8Source:
    """Check that model, precision and source of ranges fit together.

    Args:
        proto: The model.
        options: Of the build.
        int8: The source that was given, None for none.
        features: What this TensorRT can.

    Returns:
        The source of the build: the one that was given, else the model itself.

    Raises:
        ConfigError: They do not fit, or `int8` is no source.
    """
    if int8 is None or isinstance(int8, ModelRanges):
        _check_model_ranges(proto, options, features)
        return ModelRanges(has_qdq(proto))
    _require_source(int8)
    if has_qdq(proto):
        raise ConfigError(
            "the model has Q/DQ nodes and a calibrator was given, which TensorRT would ignore",
            hint="give the FP32 model to the calibrator, or leave the calibrator out",
        )
    if not options.allows_int8:
        raise ConfigError(
            f"a calibrator was given, precision '{options.precision}' does not allow INT8",
            hint="use precision 'int8' or 'best'",
        )
    return int8


def _check_model_ranges(proto: onnx.ModelProto, options: BuildOptions, features: Features) -> None:
    if options.strongly_typed:
        return
    if has_qdq(proto) and not options.allows_int8 and features.weak_typing:
        raise ConfigError(
            f"the model has Q/DQ nodes, precision '{options.precision}' does not allow INT8",
            hint="use precision 'int8' or 'best'",
        )
    if options.allows_int8 and not has_qdq(proto):
        raise ConfigError(
            f"precision '{options.precision}' without scales: TensorRT would leave the network in float",
            hint="give a calibrator, a table, or a Q/DQ model (quantlab quantize)",
        )


def _require_source(given: Any) -> None:
    """ConfigError unless it is an `Int8Source`."""
    if not isinstance(given, Int8Source):
        raise ConfigError(
            f"a {type(given).__name__} was given as the source of INT8 ranges",
            hint="wrap a calibrator that is not quantlab's: quantlab.engines.int8.ForeignCalibrator(calibrator)",
        )
