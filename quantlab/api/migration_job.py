"""What `quantlab migrate` does: a TensorRT cache to a Q/DQ model, or scales to a cache or a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quantlab.calibration import CalibrationTable
from quantlab.comparison import Candidate, compare_models
from quantlab.data import Batches
from quantlab.errors import ConfigError, Notice
from quantlab.files import check_output
from quantlab.numerics import OutputError
from quantlab.onnx_model import Model, load_model, save_model
from quantlab.qdq import Migrated, migrate_to_qdq
from quantlab.qdq.migrate import scales_of
from quantlab.qdq.outputs import OutputKind, Scales

SUFFIXES = (".onnx", ".cache", ".json", ".flatbuffers")
"""What can be migrated to, see `quantlab.qdq.outputs`."""


@dataclass(frozen=True, slots=True)
class MigrationRequest:
    """What is migrated to what.

    Attributes:
        kind: What is written: a model, or scales.
        table: The scales; None for those of a model that has Q/DQ.
        calibrator: The class that will read a cache; None for the one that finds such ranges.
        tensorrt: The version that will read a cache, all three numbers.
        batches: To compare a written model with FP32 on; None for no comparison.
    """

    kind: OutputKind
    table: CalibrationTable | None = None
    calibrator: str | None = None
    tensorrt: str = "8.6.0"
    batches: Batches | None = None

    def __post_init__(self) -> None:
        if self.kind.save is None and self.table is None:
            raise ConfigError("no scales were given", hint="--table calibration.cache")
        if self.kind.save is not None and self.batches is not None:
            raise ConfigError("--data is for Q/DQ models: a cache computes no outputs", hint="leave it out")


@dataclass(frozen=True, slots=True)
class WrittenScales:
    """Scales that were written.

    Attributes:
        tensors: How many.
        header: The first line of a cache, '' for other files.
        warnings: What a reader of the file must know.
    """

    tensors: int
    header: str
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class WrittenMigration:
    """A Q/DQ model that was written.

    Attributes:
        migrated: What became of every scale.
        errors: Of every output against FP32; empty where nothing was compared.
        samples: On how many samples they were compared.
    """

    migrated: Migrated
    errors: Mapping[str, OutputError] = field(default_factory=dict)
    samples: int = 0


def migrate_to_file(model: Model, path: Path, request: MigrationRequest) -> WrittenScales | WrittenMigration:
    """Migrate and write the result.

    Args:
        model: The FP32 model, or one with Q/DQ whose scales are written.
        path: The file.
        request: What is written there.

    Returns:
        What was written.

    Raises:
        ConfigError: There is no such version of TensorRT, or the file cannot be written.
        DataError: There are no scales, the table is of another model, or the data do not fit.
        GraphError: The model has Q/DQ and should not.
    """
    if isinstance(model, (str, Path)):
        check_output(path, Path(model))
    proto = load_model(model)
    if request.kind.save is not None:
        scales = Scales(proto, scales_of(proto, request.table), request.calibrator, request.tensorrt)
        request.kind.save(scales, path)
        if request.kind.suffix != ".cache":
            return WrittenScales(len(scales.table.amax), "")
        return WrittenScales(len(scales.table.amax), scales.cache().header, tuple(scales.notices()))
    assert request.table is not None
    migrated = migrate_to_qdq(proto, request.table)
    save_model(migrated.model, path)
    if request.batches is None:
        return WrittenMigration(migrated)
    compared = compare_models(proto, [Candidate(path.stem, migrated.model)], request.batches)
    return WrittenMigration(migrated, compared.results[1].errors, compared.samples)
