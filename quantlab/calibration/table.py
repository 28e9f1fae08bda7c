"""The hub of quantlab: tensor name -> amax, with where it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.errors import DataError, Notice, NoticeKind
from quantlab.files import read_text, write_text
from quantlab.numerics import scale_from_amax
from quantlab.onnx_model import input_specs, model_hash
from quantlab.strict_json import json_text
from quantlab.tabular import Rows, Tabular
from quantlab.typed_json import Count, read_document

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
        samples_hash: Names the samples, however they were cut into batches; as that of a comparison.
    """

    algorithm: str = ""
    model_hash: str = ""
    data_hash: str = ""
    preprocess: Mapping[str, Any] | None = None
    batches: Count = 0
    samples: Count = 0
    batch_size: Count = 0
    source: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    samples_hash: str = ""


@dataclass(frozen=True, slots=True)
class _Content:
    """What a table file has beside its format and version."""

    provenance: Provenance
    amax: Mapping[str, np.float32]
    warnings: tuple[str, ...] = ()
    warning_kinds: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class CalibrationTable(Tabular):
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
        at_once = np.array(list(self.amax.values()))
        sound = (
            at_once.dtype == np.float32 and at_once.ndim == 1 and bool((np.isfinite(at_once) & (at_once >= 0)).all())
        )
        for name, amax in () if sound else self.amax.items():  # a table may have millions
            if not (np.isfinite(amax) and amax >= 0):
                raise DataError(f"amax of tensor '{name}' is {amax}, expected finite and >= 0", hint="calibrate again")
        notices = tuple(w if isinstance(w, Notice) else Notice(w) for w in self.warnings)
        object.__setattr__(self, "warnings", notices)

    def to_rows(self) -> Rows:
        """Tensor, amax and scale, in network order."""
        source = self.provenance
        known = [source.algorithm, f"{source.samples} samples" if source.samples else ""]
        caption = ", ".join(filter(None, [*known, f"{len(self.amax)} tensors"]))
        rows = ((name, float(amax), float(scale_from_amax(amax))) for name, amax in self.amax.items())
        return Rows(("tensor", "amax", "scale"), tuple(rows), caption)

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
        return json_text(
            {
                "format": FORMAT,
                "version": VERSION,
                "provenance": asdict(self.provenance),
                "warnings": list(self.warnings),
                "warning_kinds": [[w.kind, w.tensor] for w in self.warnings],
                "amax": {name: float(str(np.float32(amax))) for name, amax in self.amax.items()},
            }
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
            content = read_document(text, _Content, FORMAT, VERSION)
            return cls(content.amax, content.provenance, notices_from(content.warnings, content.warning_kinds))
        except ValueError as error:
            raise DataError(
                f"{source} is not a quantlab calibration table (version {VERSION}): {error}",
                hint="make one with quantlab calibrate",
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the JSON file atomically."""
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> CalibrationTable:
        """Read a JSON file; DataError if it is missing or not a table."""
        return cls.from_json(read_text(Path(path), "calibration table"), str(path))


def table_hash(table: CalibrationTable) -> str:
    """Names the ranges of a table."""
    ranges = json.dumps({tensor: float(amax) for tensor, amax in table.amax.items()}, sort_keys=True)
    return hashlib.sha256(ranges.encode()).hexdigest()


def notices_from(texts: Sequence[str], kinds: Sequence[tuple[str, str]] | None) -> tuple[Notice, ...]:
    """The warnings of a document.

    Args:
        texts: Of its `warnings`.
        kinds: Of its `warning_kinds`, a (kind, tensor) for each. Documents of earlier versions have none, and kinds of
            later versions are not known here: theirs is ''.

    Returns:
        The warnings.

    Raises:
        ValueError: There are more or fewer kinds than texts.
    """
    known = get_args(NoticeKind)
    return tuple(
        Notice(text, cast(NoticeKind, kind) if kind in known else "", tensor)
        for text, (kind, tensor) in zip(texts, kinds or [("", "")] * len(texts), strict=True)
    )
