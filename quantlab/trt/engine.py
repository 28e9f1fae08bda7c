"""An engine with its record: what it was built from, for which TensorRT and GPU; checked before TensorRT loads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from quantlab import files
from quantlab.errors import BuildError
from quantlab.trt.features import VERSION
from quantlab.trt.messages import Warned

FORMAT = "quantlab.engine"


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """Where an engine comes from. int8: how its scales were given, '' for none. options: see `BuildOptions`."""

    tensorrt: str
    gpu: str
    compute_capability: tuple[int, int]
    model_hash: str
    options: Mapping[str, Any] = field(default_factory=dict)
    int8: str = ""
    build_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Engine:
    """plan: TensorRT's serialized engine. warnings: what TensorRT said while building."""

    plan: bytes
    record: EngineRecord
    warnings: tuple[Warned, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the plan, and its record as `path`.json."""
        path = Path(path)
        values = {"format": FORMAT, "plan_hash": hashlib.sha256(self.plan).hexdigest(), "plan_bytes": len(self.plan)}
        values |= {"record": asdict(self.record), "warnings": [asdict(w) for w in self.warnings]}
        files.write_bytes(path, self.plan)
        files.write_text(_record_path(path), json.dumps(values, indent=1, default=str) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Engine:
        """Read plan and record; BuildError if either is missing, truncated or changed."""
        path = Path(path)
        if not path.is_file():
            raise BuildError(f"engine {path} does not exist", hint="quantlab build MODEL -o ENGINE")
        plan = path.read_bytes()
        try:
            values = json.loads(_record_path(path).read_text(encoding="utf-8"))
            if values["format"] != FORMAT or set(values["record"]) != {f.name for f in fields(EngineRecord)}:
                raise ValueError("another format")
            record = EngineRecord(
                **values["record"] | {"compute_capability": tuple(values["record"]["compute_capability"])}
            )
            warnings = tuple(Warned(**w) for w in values["warnings"])
        except FileNotFoundError as error:
            raise BuildError(
                f"engine {path} has no record {_record_path(path).name}: it cannot be told what it was built for",
                hint="build it with quantlab build",
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BuildError(
                f"engine record {_record_path(path)} cannot be read: {error}", hint="build again"
            ) from error
        if len(plan) != values["plan_bytes"]:
            raise BuildError(
                f"engine {path} is truncated: {len(plan)} bytes, expected {values['plan_bytes']}", hint="build it again"
            )
        if hashlib.sha256(plan).hexdigest() != values["plan_hash"]:
            raise BuildError(f"engine {path} is not the one its record describes", hint="build it again")
        return cls(plan, record, warnings)

    def check_runs_here(self, gpu: str, compute_capability: tuple[int, int]) -> None:
        """BuildError if this TensorRT or GPU is not the one it was built for."""
        compatible = bool(self.record.options.get("version_compatible"))
        if self.record.tensorrt != VERSION and not compatible:
            raise BuildError(
                f"the engine was built by TensorRT {self.record.tensorrt}, this is {VERSION}",
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
