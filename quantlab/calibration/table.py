"""The hub of quantlab: tensor name -> amax, with where it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.errors import DataError, Notice, NoticeKind
from quantlab.files import read_text, write_text
from quantlab.numerics import scale_from_amax
from quantlab.onnx_model import input_specs, model_hash

FORMAT = "quantlab.calibration_table"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the numbers were made from. Empty strings and zeros stand for unknown (a table read from a cache).

    Attributes:
        algorithm: Its name.
        model_hash: Names the model.
        data_hash: Names the batches.
        preprocess: What made the batches, as plain values.
        batches: How many were seen.
        samples: How many were seen.
        batch_size: Samples of the largest batch.
        source: What made the table, or the file it was read from.
        versions: Of the packages that made it.
    """

    algorithm: str = ""
    model_hash: str = ""
    data_hash: str = ""
    preprocess: Mapping[str, Any] | None = None
    batches: int = 0
    samples: int = 0
    batch_size: int = 0
    source: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CalibrationTable:
    """The range of every tensor, with where it came from.

    Attributes:
        amax: float32 >= 0 per tensor, in network order.
        provenance: What the numbers were made from.
        warnings: Facts that a reader of the numbers must know; each has a `kind`.

    Raises:
        DataError: An amax is not finite and >= 0.
    """

    amax: Mapping[str, np.float32]
    provenance: Provenance = field(default_factory=Provenance)
    warnings: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        for name, amax in self.amax.items():
            if not (np.isfinite(amax) and amax >= 0):
                raise DataError(f"amax of tensor '{name}' is {amax}, expected finite and >= 0", hint="calibrate again")
        notices = tuple(w if isinstance(w, Notice) else Notice(w) for w in self.warnings)
        object.__setattr__(self, "warnings", notices)

    def scale(self, tensor: str) -> NDArray[np.float32]:
        """float32 > 0, `amax / 127`; DataError if the table has no such tensor."""
        if tensor not in self.amax:
            raise DataError(
                f"the calibration table has no tensor '{tensor}' (it has {len(self.amax)})",
                hint="calibrate the same model again, or all of its tensors with --tensors all",
            )
        return scale_from_amax(self.amax[tensor])

    def check_model(self, proto: onnx.ModelProto) -> None:
        """DataError unless this table was made for `proto`: by hash where known, else by tensor names."""
        if self.provenance.model_hash and self.provenance.model_hash != model_hash(proto):
            raise DataError(
                f"the calibration table was made for another model (its hash {self.provenance.model_hash[:12]}, "
                f"this model's {model_hash(proto)[:12]})",
                hint="calibrate this model",
            )
        if not self.provenance.model_hash:
            self.check_names(proto)

    def check_names(self, proto: onnx.ModelProto) -> None:
        """DataError if the table names tensors that the model does not have."""
        inside = {s.name for s in input_specs(proto)}.union(n for node in proto.graph.node for n in node.output)
        unknown = [n for n in self.amax if n not in inside and not n.startswith("(Unnamed Layer*")]
        if unknown:
            raise DataError(
                f"the calibration table is of another model: {len(unknown)} of its {len(self.amax)} tensors "
                f"(first: '{unknown[0]}') are not in this one",
                hint="calibrate this model",
            )

    def to_json(self) -> str:
        """The text of a table file. amax values are the shortest decimals that give back the same float32."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "provenance": asdict(self.provenance),
                "warnings": list(self.warnings),
                "warning_kinds": [[w.kind, w.tensor] for w in self.warnings],
                "amax": {name: float(str(np.float32(amax))) for name, amax in self.amax.items()},
            },
            indent=1,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str, source: str = "table") -> CalibrationTable:
        """The inverse of `to_json`.

        Args:
            text: The content of a table file.
            source: Its name, for the error text.

        Returns:
            The table.

        Raises:
            DataError: The text is no table, or of an unknown format or version, or has unknown keys.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise ValueError(f"format {content['format']!r} version {content['version']!r}")
            known = {f.name for f in fields(Provenance)}
            if unknown := set(content["provenance"]) - known:
                raise ValueError(f"unknown provenance keys {sorted(unknown)}")
            amax = {str(name): np.float32(value) for name, value in content["amax"].items()}
            return cls(amax, Provenance(**content["provenance"]), notices_from(content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{source} is not a quantlab calibration table (version {VERSION}): {error}",
                hint="make one with quantlab calibrate",
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the JSON file atomically."""
        write_text(Path(path), self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> CalibrationTable:
        """Read a JSON file; DataError if it is missing or not a table."""
        return cls.from_json(read_text(Path(path), "calibration table"), str(path))


def notices_from(content: Mapping[str, Any]) -> tuple[Notice, ...]:
    """The warnings of a JSON document: "warnings" are the texts, "warning_kinds" a [kind, tensor] for each.

    Documents of earlier versions have no kinds, and kinds of later versions are not known here: theirs is ''.
    """
    texts = [str(text) for text in content.get("warnings", ())]
    kinds = content.get("warning_kinds") or [["", ""]] * len(texts)
    known = get_args(NoticeKind)
    return tuple(
        Notice(text, kind if kind in known else "", str(tensor))
        for text, (kind, tensor) in zip(texts, kinds, strict=True)
    )
