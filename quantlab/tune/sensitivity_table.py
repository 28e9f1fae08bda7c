"""How sensitive every unit of a network is, with where the numbers came from; written, read, merged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from quantlab.errors import DataError
from quantlab.files import read_text, write_text
from quantlab.numerics import sqnr_db
from quantlab.plain_text import csv_text
from quantlab.strict_json import json_text
from quantlab.tabular import Rows, Tabular
from quantlab.tune.rank import spearman
from quantlab.typed_json import Amount, Check, Count, Share, read_document

FORMAT = "quantlab.sensitivity"
VERSION = 1
KINDS = ("all", "layer", "tensor", "class")
"""Of units."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a choice of INT8 does to the network.

    Attributes:
        noise: Squared error of the outputs over their power, the mean over the float outputs.
        changed: Share of the samples with another best class than FP32's, 0..1; None without class scores.
        metric: The accuracy, by labels or a metric of the user; None without either.
    """

    noise: Amount
    changed: Share | None = None
    metric: float | None = None

    @property
    def sqnr_db(self) -> float:
        """`-10 log10(noise)`, infinite where the outputs are FP32's."""
        return noise_db(self.noise)


def _shown(effect: Effect | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if effect is None else (effect.sqnr_db, effect.changed, effect.metric)


def noise_db(noise: float) -> float:
    """The SQNR in dB of a noise relative to the power."""
    return float(sqnr_db(1.0, noise))


@dataclass(frozen=True, slots=True)
class SensitivityRow:
    """One unit.

    Attributes:
        kind: 'all', 'layer', 'tensor' or 'class'.
        name: Of the node, tensor or class.
        op: The operator of a layer, else ''.
        sites: How many places are in INT8.
        alone: INT8 there and nowhere else, measured; None where it was estimated only.
        without: For a class: INT8 everywhere but there, measured.
        estimate: The noise that the first-order estimate gives for `alone`.
        estimate_without: The same for `without`.
        nodes: What reads INT8 there, in network order; not kept for everything at once.
    """

    kind: Annotated[str, Check(KINDS.__contains__, "all, layer, tensor or class")]
    name: str
    op: str
    sites: Count
    alone: Effect | None = None
    without: Effect | None = None
    estimate: Amount | None = None
    estimate_without: Amount | None = None
    nodes: tuple[str, ...] = ()

    @property
    def estimate_db(self) -> float | None:
        """The estimated SQNR alone, in dB; None where nothing was estimated."""
        return None if self.estimate is None else noise_db(self.estimate)

    @property
    def noise(self) -> float:
        """The measured noise alone, else the estimate; NaN without either."""
        if self.alone is not None:
            return self.alone.noise
        return math.nan if self.estimate is None else self.estimate


@dataclass(frozen=True, slots=True)
class SensitivityProvenance:
    """What the numbers were made from.

    Attributes:
        model_hash: Names the model.
        table_hash: Names the ranges.
        algorithm: Of the ranges.
        data_hash: Names the batches, as in a calibration table.
        labels_hash: Names the labels; '' without.
        preprocess: What made the batches, as plain values.
        batches: How many were seen.
        samples: How many were seen.
        method: 'all' or 'estimate'.
        metric: What `metric` of the rows is: 'top-1', or the user's by name; '' for none.
        fp32_metric: FP32's.
        seed: Of the noise of the estimate.
        versions: Of the packages that made it.
        date: When it was measured, '' if that is not known.
    """

    model_hash: str
    table_hash: str
    algorithm: str
    data_hash: str
    labels_hash: str = ""
    preprocess: Mapping[str, Any] | None = None
    batches: Count = 0
    samples: Count = 0
    method: str = "all"
    metric: str = ""
    fp32_metric: float | None = None
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file has beside its format and version; the correlations are worked out again."""

    rows: tuple[SensitivityRow, ...]
    units: tuple[tuple[str, str], ...]
    provenance: SensitivityProvenance
    warnings: tuple[str, ...]
    rank_correlation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SensitivityTable(Tabular):
    """The rows that were measured, all or a part of them.

    Attributes:
        rows: In network order within each kind.
        units: (kind, name) of every unit of the network: a part has fewer rows.
        provenance: What the numbers were made from.
        warnings: Facts that a reader must know.
    """

    rows: tuple[SensitivityRow, ...]
    units: tuple[tuple[str, str], ...]
    provenance: SensitivityProvenance
    warnings: tuple[str, ...] = ()

    def to_rows(self) -> Rows:
        """What INT8 does in each place alone, and everywhere but there; the worst of each kind first."""
        columns = ("kind", "name", "op", "sites", "sqnr_db", "changed", "metric", "sqnr_db_without", "estimate_db")
        rows = (
            (row.kind, row.name, row.op, row.sites, *_shown(row.alone), row.without and row.without.sqnr_db,
             row.estimate_db)
            for kind in KINDS for row in self.worst(kind)
        )  # fmt: skip
        source = self.provenance
        return Rows.of(columns, rows, f"{source.algorithm}, {source.samples} samples, {len(self.rows)} places")

    def of_kind(self, kind: str) -> tuple[SensitivityRow, ...]:
        """The rows of one kind, in network order."""
        return tuple(row for row in self.rows if row.kind == kind)

    def worst(self, kind: str) -> tuple[SensitivityRow, ...]:
        """The rows of one kind, the largest noise first."""
        return tuple(sorted(self.of_kind(kind), key=lambda row: -row.noise))

    def metric_drop(self, effect: Effect | None) -> float | None:
        """What an effect costs of FP32's metric; None where it is not known."""
        base = self.provenance.fp32_metric
        if effect is None or effect.metric is None or base is None:
            return None
        return base - effect.metric

    def rank_correlation(self, kind: str) -> float | None:
        """Spearman's, between estimate and truth of the rows of one kind; None for fewer than three of them."""
        pairs = [(r.estimate, r.alone.noise) for r in self.of_kind(kind) if r.alone and r.estimate is not None]
        return spearman([a for a, _ in pairs], [b for _, b in pairs]) if len(pairs) > 2 else None

    def to_json(self) -> str:
        """The text of a file."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        correlations = {kind: self.rank_correlation(kind) for kind in ("layer", "tensor")}
        content["rank_correlation"] = {k: v for k, v in correlations.items() if v is not None}
        return json_text(content)

    @classmethod
    def from_json(cls, text: str, source: str = "table") -> SensitivityTable:
        """The inverse of `to_json`.

        Args:
            text: The content of a file.
            source: Its name, for the error text.

        Returns:
            The table.

        Raises:
            DataError: The text is no sensitivity table, or of an unknown version.
        """
        try:
            content = read_document(text, _Content, FORMAT, VERSION)
            units = set(content.units)
            if len({(row.kind, row.name) for row in content.rows} & units) < len(content.rows):
                raise ValueError("a row is there twice or is no unit")
            if len(units) < len(content.units):
                raise ValueError("a unit is there twice")
            return cls(content.rows, content.units, content.provenance, content.warnings)
        except ValueError as error:
            raise DataError(
                f"{source} is not a sensitivity table (version {VERSION}): {error}",
                hint="make one with quantlab sensitivity",
            ) from error

    def to_csv(self) -> str:
        """A line per row, with a heading; SQNR in dB, shares 0..1, empty where something was not measured."""
        ways = ("", "without_")
        columns = ("sqnr_db", "changed", "metric", "metric_drop", "estimate_sqnr_db")
        rows: list[list[object]] = [["kind", "name", "op", "sites", *(w + column for w in ways for column in columns)]]
        for row in self.rows:
            cells: list[object] = [row.kind, row.name, row.op, row.sites]
            for effect, estimate in ((row.alone, row.estimate), (row.without, row.estimate_without)):
                cells += [effect.sqnr_db, effect.changed, effect.metric] if effect else [None] * 3
                cells += [self.metric_drop(effect), None if estimate is None else noise_db(estimate)]
            rows.append(cells)
        return csv_text(rows)

    def save(self, path: str | Path) -> None:
        """Write the JSON file atomically."""
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> SensitivityTable:
        """Read a JSON file; DataError if it is missing or not a sensitivity table."""
        return cls.from_json(read_text(Path(path), "sensitivity table"), str(path))
