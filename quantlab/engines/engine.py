"""An engine with its record: what it was built from, for which TensorRT and GPU; checked before TensorRT loads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quantlab.engines.messages import Warned, explain
from quantlab.engines.options import MIB
from quantlab.errors import BuildError, DataError
from quantlab.files import is_file, read_bytes, read_text, read_together, together, write_bytes, write_text
from quantlab.onnx_model import TensorSpec
from quantlab.typed_json import Amount, Count, read_document

FORMAT = "quantlab.engine"

MOST = 2**42
"""Bytes of an engine, which holds the weights of a network."""
EXPLICIT = "explicit Q/DQ"
"""`EngineRecord.int8` of an engine whose scales are in the model."""


_SUFFIXES = (".engine", ".plan", ".trt")


def is_engine(path: Path) -> bool:
    """Whether a file is to be read as an engine: by its suffix, or because the record of one lies beside it."""
    return path.suffix in _SUFFIXES or (path.suffix != ".onnx" and is_file(path.with_name(path.name + ".json")))


@dataclass(frozen=True, slots=True)
class Binding:
    """An input or output of an engine.

    Attributes:
        name: Its name.
        dtype: The type of its values by NumPy's name, or `bfloat16` and the like.
        shape: Its dimensions; -1 for a dynamic one.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, spec: TensorSpec) -> Binding:
        """The binding of a network's input or output."""
        return cls(spec.name, spec.dtype.name, tuple(d if isinstance(d, int) else -1 for d in spec.shape))


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """Where an engine comes from.

    Attributes:
        tensorrt: The version that built it.
        model_hash: See `quantlab.onnx_model.model_hash`.
        options: See `BuildOptions.to_dict`.
        int8: How its scales were given: `EXPLICIT`, the name of a calibrator, ...; '' for none.
        inputs: What it is fed; empty in a record of an earlier version.
        outputs: What it gives; empty in a record of an earlier version.
    """

    tensorrt: str
    gpu: str
    compute_capability: tuple[int, int]
    model_hash: str
    options: Mapping[str, Any] = field(default_factory=dict)
    int8: str = ""
    build_seconds: Amount = 0.0
    inputs: tuple[Binding, ...] = ()
    outputs: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True)
class Engine:
    """A built engine.

    Attributes:
        plan: TensorRT's serialized engine.
        record: Where it comes from.
        warnings: What TensorRT reported while building.
    """

    plan: bytes
    record: EngineRecord
    warnings: tuple[Warned, ...] = ()

    @property
    def hash(self) -> str:
        """SHA-256 of the plan."""
        return hashlib.sha256(self.plan).hexdigest()

    @property
    def summary(self) -> str:
        """Size, precision, source of the scales and time of the build, as a line for a person."""
        record = self.record
        parts = (f"{len(self.plan) / MIB:.1f} MiB", str(record.options.get("precision", "")), record.int8)
        return ", ".join([*filter(None, parts), f"built in {record.build_seconds:.1f} s"])

    def save(self, path: str | Path) -> None:
        """Write the plan, and its record as `path`.json."""
        path = Path(path)
        values = {"format": FORMAT, "plan_hash": self.hash, "plan_bytes": len(self.plan)}
        values |= {"record": asdict(self.record), "warnings": [asdict(w) for w in self.warnings]}
        with together():
            write_bytes(path, self.plan)
            write_text(_record_path(path), json.dumps(values, indent=1, default=str) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Engine:
        """Read plan and record; BuildError if either is missing, truncated or changed."""
        path = Path(path)
        return read_together(path, lambda: cls._read(path))

    @classmethod
    def _read(cls, path: Path) -> Engine:
        if not is_file(path):
            raise BuildError(f"engine {path} does not exist", hint="quantlab build MODEL -o ENGINE")
        plan = read_bytes(path, "engine", MOST)
        file = _read_record(path)
        if len(plan) != file.plan_bytes:
            raise BuildError(
                f"engine {path} is truncated: {len(plan)} bytes, expected {file.plan_bytes}", hint="build it again"
            )
        if hashlib.sha256(plan).hexdigest() != file.plan_hash:
            raise BuildError(f"engine {path} is not the one its record describes", hint="build it again")
        return cls(plan, file.record, tuple(_warned(one) for one in file.warnings))

    def check_runs_here(self, tensorrt: str, gpu: str, compute_capability: tuple[int, int]) -> None:
        """Refuse to run it where it was not built for.

        Args:
            tensorrt: The version here.
            gpu: The name of the GPU here.
            compute_capability: Of that GPU.

        Raises:
            BuildError: It was built by another TensorRT (and not version compatible), or for another kind of GPU.
        """
        compatible = bool(self.record.options.get("version_compatible"))
        if self.record.tensorrt != tensorrt and not compatible:
            raise BuildError(
                f"the engine was built by TensorRT {self.record.tensorrt}, this is {tensorrt}",
                hint="build it again here, or build it version compatible",
            )
        if tuple(self.record.compute_capability) != tuple(compute_capability):
            raise BuildError(
                f"the engine was built for {self.record.gpu} (compute capability "
                f"{'.'.join(map(str, self.record.compute_capability))}), this is {gpu} "
                f"({'.'.join(map(str, compute_capability))})",
                hint="build it again on this GPU",
            )


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


@dataclass(frozen=True, slots=True)
class _OldWarned:
    """A warning of a record, in old ones without a kind."""

    node: str
    text: str
    meaning: str
    remedy: str
    count: Count
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class _File:
    """What a record file has beside its format; what a newer quantlab added has its default in an older file."""

    record: EngineRecord
    warnings: tuple[_OldWarned, ...]
    plan_bytes: Count
    plan_hash: str


def _read_record(path: Path) -> _File:
    """The content of an engine's record file; BuildError if it is missing or no record."""
    record = _record_path(path)
    if not is_file(record):
        raise BuildError(
            f"engine {path} has no record {record.name}: it cannot be told what it was built for",
            hint="build it with quantlab build",
        )
    try:
        return read_document(read_text(record, "engine record"), _File, FORMAT)
    except DataError as error:
        raise BuildError(error.text, hint="build again") from error
    except ValueError as error:
        raise BuildError(f"engine record {record} cannot be read: {error}", hint="build again") from error


def _warned(one: _OldWarned) -> Warned:
    """A warning of a record; where it has no kind, that is looked up in TensorRT's words again."""
    if one.kind is None:
        return explain(one.text, one.count)
    return Warned(one.node, one.text, one.meaning, one.remedy, one.count, one.kind)
