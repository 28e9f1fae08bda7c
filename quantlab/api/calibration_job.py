"""What `quantlab calibrate` does: a calibration whose result goes to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quantlab.api.calibration import AUTO, calibrate, calibrate_shard
from quantlab.calibration import Progress
from quantlab.calibration.cache_header import check_version
from quantlab.calibration.own_observer import named_observer
from quantlab.data import Batches
from quantlab.errors import ConfigError, Notice
from quantlab.files import check_output
from quantlab.onnx_model import Model, load_model
from quantlab.qdq import QDQ_TENSORS
from quantlab.qdq.outputs import OutputKind, Scales
from quantlab.tune.stage import Stages, no_stages

SUFFIXES = (".json", ".cache", ".flatbuffers", ".npz")
"""What a calibration can be written as, see `quantlab.qdq.outputs`."""


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """A calibration whose result goes to a file.

    Attributes:
        kind: What the file is.
        algorithm: A name as `calibrate`, or `file.py:Name` of an observer.
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
        check_version(self.tensorrt)
        if self.algorithm != AUTO:
            named_observer(self.algorithm)
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
    """What was written.

    Attributes:
        tensors: How many.
        samples: How many they come from.
        warnings: Facts that a reader of the numbers must know.
    """

    tensors: int
    samples: int
    warnings: tuple[Notice, ...]


def calibrate_to_file(
    model: Model,
    batches: Batches,
    path: Path,
    request: CalibrationRequest,
    on_batch: Progress | None = None,
    on_stage: Stages = no_stages,
) -> WrittenCalibration:
    """Calibrate a model and write the result: a table, a cache, or a part of the data.

    Args:
        model: The FP32 model.
        batches: Re-iterable of `{input: array}`.
        path: The file.
        request: What to write there.
        on_batch: Called after every batch with the number of samples so far.
        on_stage: As `calibrate`.

    Returns:
        What was written.

    Raises:
        DataError: As `calibrate`.
        GraphError: As `calibrate`.
    """
    if isinstance(model, (str, Path)):
        check_output(path, Path(model))
    proto = load_model(model)
    if request.kind.save is None:
        shard = calibrate_shard(proto, batches, tensors=request.wanted, on_batch=on_batch)
        shard.save(path)
        return WrittenCalibration(len(shard.histograms), shard.provenance.samples, shard.warnings)
    algorithm = AUTO if request.algorithm == AUTO else named_observer(request.algorithm)
    table = calibrate(
        proto,
        batches,
        algorithm,
        tensors=request.wanted,
        order_independent=request.order_independent,
        on_batch=on_batch,
        on_stage=on_stage,
    )
    request.kind.save(Scales(proto, table, tensorrt=request.tensorrt), path)
    warnings = table.warnings
    if request.order_independent and request.kind.tensors != QDQ_TENSORS:
        other = Notice("order-independent scales are not those that TensorRT's calibrator would find")
        warnings = (other, *warnings)
    return WrittenCalibration(len(table.amax), table.provenance.samples, warnings)
