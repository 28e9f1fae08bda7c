"""Units measured in chunks: one after the other, or in parallel, each kept in a file as soon as it is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import onnx

from quantlab.calibration import Progress
from quantlab.calibration.cluster import run_parallel
from quantlab.comparison.task import metric_hash
from quantlab.errors import DataError
from quantlab.files import make_folder, read_text, write_text
from quantlab.strict_json import json_text
from quantlab.tune.sensitivity_feed import Judged
from quantlab.tune.sensitivity_measure import Reference, measure_effects
from quantlab.tune.sensitivity_table import Effect
from quantlab.tune.sensitivity_units import Unit, rest_of
from quantlab.tune.switched_graph import SwitchedGraph
from quantlab.tune.switched_model import SwitchedModel
from quantlab.typed_json import read_document

FORMAT, VERSION = "quantlab.sensitivity_chunk", 1
CHUNK = 8
"""Units that are measured in one pass where passes are kept or run in parallel: FP32 runs once in each."""

UnitKey = tuple[str, str]
Effects = tuple[Effect, Effect | None]
"""(INT8 there alone, INT8 everywhere but there)."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to measure units.

    Attributes:
        proto: The FP32 model.
        graph: The same with switches.
        judged: The data.
        reference: FP32 on them.
        folder: Where finished chunks are kept, if anywhere; all workers see it.
        key: Names the model, its ranges, the data and the metric.
    """

    proto: onnx.ModelProto
    graph: SwitchedGraph
    judged: Judged
    reference: Reference
    folder: Path | None = None
    key: str = ""

    def measure(
        self, model: SwitchedModel, units: Sequence[Unit], on_batch: Progress | None = None
    ) -> dict[UnitKey, Effects]:
        """Measure a chunk, and keep what was found.

        Args:
            model: The network.
            units: The chunk.
            on_batch: Called after every batch with the number of samples so far.

        Returns:
            The effects of every unit.

        Raises:
            ConfigError: The folder cannot be written.
            DataError: As `measure_effects`.
        """
        choices = [unit.sites for unit in units]
        choices += [rest_of(unit, self.graph) for unit in units if unit.has_rest]
        found = measure_effects(model, self.proto, self.judged, self.reference, choices, on_batch)
        rest = iter(found[len(units) :])
        effects = {u.key: (effect, next(rest) if u.has_rest else None) for u, effect in zip(units, found, strict=False)}
        if self.folder is not None:
            _keep(self.folder, self.key, effects)
        return effects


def chunk_key(provenance: dict[str, object], judged: Judged) -> str:
    """What chunks must have in common to belong to one table: the provenance, and the hash of the user's metric.

    Args:
        provenance: As plain values.
        judged: With the metric.

    Returns:
        A hash.
    """
    source = metric_hash(judged.metric)  # without one, FP32's value of it is in the provenance
    return hashlib.sha256(json.dumps([VERSION, provenance, source], sort_keys=True).encode()).hexdigest()


def measure_chunks(
    job: Job, units: Sequence[Unit], n_jobs: int, on_batch: Progress | None = None
) -> dict[UnitKey, Effects]:
    """Measure units, but for those whose chunks are in the folder.

    Args:
        job: What to measure.
        units: The units.
        n_jobs: How many chunks at a time; 1 for this process alone.
        on_batch: Called with the number of samples of FP32 so far, each pass counting its share.

    Returns:
        The effects of every unit.

    Raises:
        ConfigError: The folder cannot be written.
        DataError: The data do not fit, or a file of the folder is damaged.
    """
    effects: dict[UnitKey, Effects] = {}
    if job.folder is not None:
        make_folder(job.folder)
        effects = _kept(job.folder, job.key)
    missing = [unit for unit in units if unit.key not in effects]
    size = CHUNK if job.folder is not None or n_jobs != 1 else max(1, len(missing))
    chunks = [missing[start : start + size] for start in range(0, len(missing), size)]
    if n_jobs != 1 and len(chunks) > 1:
        for found in run_parallel(partial(_measure_apart, job), chunks, n_jobs):
            effects |= found
    elif chunks:
        model = SwitchedModel(job.graph)
        for number, chunk in enumerate(chunks):
            effects |= job.measure(model, chunk, _share(on_batch, number, len(chunks), job.reference.samples))
    return {unit.key: effects[unit.key] for unit in units}


def _measure_apart(job: Job, units: Sequence[Unit]) -> dict[UnitKey, Effects]:
    """In a process of its own."""
    return job.measure(SwitchedModel(job.graph), units)


def _share(on_batch: Progress | None, number: int, passes: int, samples: int) -> Progress | None:
    if on_batch is None:
        return None
    report = on_batch
    return lambda done: report((number * samples + done) // passes)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What a file of a chunk has beside its format and version."""

    key: str
    effects: tuple[tuple[str, str, Effect, Effect | None], ...]


def _keep(folder: Path, key: str, effects: dict[UnitKey, Effects]) -> None:
    rows = [[*unit, *(None if e is None else asdict(e) for e in pair)] for unit, pair in effects.items()]
    name = hashlib.sha256(json.dumps(list(effects)).encode()).hexdigest()
    content = {"format": FORMAT, "version": VERSION, "key": key, "effects": rows}
    write_text(folder / f"{key[:16]}-{name[:16]}.json", json_text(content))


def _kept(folder: Path, key: str) -> dict[UnitKey, Effects]:
    """The effects of all chunks of a key in a folder; those of other models and data may lie beside them."""
    found: dict[UnitKey, Effects] = {}
    for path in sorted(folder.glob(f"{key[:16]}-*.json")):
        try:
            content = read_document(read_text(path, "chunk"), _Chunk, FORMAT, VERSION)
            if content.key == key:
                found |= {(kind, name): (alone, without) for kind, name, alone, without in content.effects}
        except ValueError as error:
            raise DataError(f"{path} is not a chunk of a sensitivity table: {error}", hint="delete it") from error
    return found
