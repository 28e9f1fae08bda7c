"""Quantization sensitivity: what INT8 does to the outputs when it is in one place alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from quantlab.calibration import CalibrationTable, Progress
from quantlab.calibration.made_from import preprocess_notices
from quantlab.calibration.table import table_hash
from quantlab.comparison.backend import left_out_notices
from quantlab.comparison.task import Metric
from quantlab.data import Batches, BatchSize, IterableBatches, Labels, stream_facts
from quantlab.dates import now
from quantlab.errors import ConfigError, expect_type
from quantlab.files import check_folder
from quantlab.onnx_model import Model, input_specs, load_model, model_hash
from quantlab.ort import beyond
from quantlab.ort.session import VERSION as ORT_VERSION
from quantlab.tune.sensitivity_chunks import Job, chunk_key, measure_chunks
from quantlab.tune.sensitivity_estimate import SensitivityEstimate
from quantlab.tune.sensitivity_feed import EvenSamples, Judged
from quantlab.tune.sensitivity_measure import Reference, run_reference
from quantlab.tune.sensitivity_table import (
    Effect,
    SensitivityProvenance,
    SensitivityRow,
    SensitivityTable,
)
from quantlab.tune.sensitivity_units import ALL, LAYER, Unit, rest_of, units_of
from quantlab.tune.switched_graph import SwitchedGraph, switched_graph
from quantlab.tune.switched_model import SwitchedModel
from quantlab.version import __version__

MEASURED, ESTIMATED = "all", "estimate"
NOISE_SAMPLES = 128
"""On which a search measures layers: their order and their sum settle long before a metric does."""
TOP1 = "top-1"
"""The metric that labels alone give."""


@dataclass(frozen=True)
class SensitivityOptions:
    """How sensitivity is measured.

    Attributes:
        metric: Of the user, see `quantlab.comparison.task`; 'top-1' to insist on labels; None for top-1 where there are
            labels.
        method: 'all' for the truth and the estimate, 'estimate' for that alone.
        part: (k, n): every n-th unit from the k-th on, 1 <= k <= n; None for all.
        n_jobs: How many chunks of units at a time, by joblib; 1 for this process alone.
        folder: Where finished chunks are kept, and picked up by the next run; all workers see it. None to keep none.
        seed: Of the noise of the estimate.

    Raises:
        ConfigError: One of them makes no sense.
    """

    metric: Metric | str | None = None
    method: str = MEASURED
    part: tuple[int, int] | None = None
    n_jobs: int = 1
    folder: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in (MEASURED, ESTIMATED):
            raise ConfigError(f"there is no method '{self.method}'", hint=f"{MEASURED} or {ESTIMATED}")
        if isinstance(self.metric, str) and self.metric != TOP1:
            raise ConfigError(f"there is no metric '{self.metric}'", hint=f"{TOP1}, a function or a class")
        if self.n_jobs == 0:
            raise ConfigError("0 jobs measure nothing", hint="1, or -1 for as many as there are cores")
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            k, n = self.part
            raise ConfigError(f"there is no part {k} of {n}", hint=f"parts of {max(n, 1)} are 1 to {max(n, 1)}")


def measure_sensitivity(
    model: Model,
    table: CalibrationTable,
    batches: Batches,
    labels: Labels | None = None,
    options: SensitivityOptions | None = None,
    on_batch: Progress | None = None,
) -> SensitivityTable:
    """Measure every layer, tensor and class of nodes. See `quantlab.api.sensitivity`."""
    options = options or SensitivityOptions()
    expect_type(options, SensitivityOptions, "options", "quantlab.tune.SensitivityOptions(n_jobs=2)")
    if options.folder is not None:
        check_folder(options.folder)  # before the work, not after it
    proto = load_model(model)
    graph = switched_graph(proto, table)
    units = units_of(graph)
    mine = _part(units, options.part)
    judged = Judged(batches, labels, None if isinstance(options.metric, str) else options.metric)
    measured = options.method == MEASURED
    samples = EvenSamples()
    reference = run_reference(proto, SwitchedModel(graph), judged, samples, None if measured else on_batch)
    if options.metric is not None and reference.metric is None:
        raise ConfigError(
            "top-1 was asked for, but there are no labels or class scores",
            hint="give labels (--labels), or class folders",
        )
    provenance = _provenance(proto, table, judged, reference, options)
    estimate = SensitivityEstimate(graph, samples, options.seed)
    effects = {}
    if measured:
        key = chunk_key(asdict(provenance), judged)
        effects = measure_chunks(
            Job(proto, graph, judged, reference, options.folder, key), mine, options.n_jobs, on_batch
        )
    rows = tuple(_row(unit, graph, estimate, *effects.get(unit.key, (None, None))) for unit in mine)
    other = preprocess_notices(table.provenance.preprocess, stream_facts(batches).preprocess)
    warnings = (*beyond(proto).notices(), *left_out_notices(proto), *other, *reference.warnings)
    made = replace(provenance, date=now())  # not before: what was kept of an earlier run is found by the rest
    return SensitivityTable(rows, tuple(unit.key for unit in units), made, warnings)


@dataclass(frozen=True)
class LayerNoise:
    """What a search for a placement needs: INT8 in each layer alone, on some of the samples.

    Attributes:
        job: What is measured on those samples.
        layers: The layers.
        reference: FP32 on all samples.
        provenance: Of what is measured.
    """

    job: Job
    layers: tuple[Unit, ...]
    reference: Reference
    provenance: SensitivityProvenance

    def measure(self, folder: Path, on_batch: Progress | None = None) -> dict[str, float]:
        """Measure every layer.

        Args:
            folder: As in `SensitivityOptions`.
            on_batch: Called with the number of samples so far.

        Returns:
            Layer -> what INT8 there alone adds to the error of the outputs, squared error over power.

        Raises:
            ConfigError: The folder cannot be written.
        """
        effects = measure_chunks(replace(self.job, folder=folder), self.layers, 1, on_batch)
        return {unit.name: effects[unit.key][0].noise for unit in self.layers}


def open_layers(model: Model, table: CalibrationTable, judged: Judged) -> LayerNoise:
    """Run FP32, so that layers can be measured.

    Args:
        model: The FP32 model.
        table: Its scales.
        judged: The data. Layers are measured on up to NOISE_SAMPLES of them, evenly spaced.

    Returns:
        What measures them; nothing is written yet.

    Raises:
        GraphError: The model has nothing to quantize.
        DataError: The table is of another model, or the data do not fit.
    """
    proto = load_model(model)
    graph = switched_graph(proto, table)
    layers = tuple(unit for unit in units_of(graph) if unit.kind == LAYER)
    samples, switched = EvenSamples(), SwitchedModel(graph)
    reference = run_reference(proto, switched, judged, samples, None)
    provenance = _provenance(proto, table, judged, reference, SensitivityOptions())
    key = chunk_key(asdict(provenance), judged)
    some = Judged(IterableBatches(samples.batches(BatchSize.of(input_specs(proto)), NOISE_SAMPLES)))
    job = Job(proto, graph, some, run_reference(proto, switched, some, EvenSamples(), None), None, key)
    return LayerNoise(job, layers, reference, provenance)


def _part(units: Sequence[Unit], part: tuple[int, int] | None) -> Sequence[Unit]:
    if part is None:
        return units
    k, n = part
    if n > len(units):
        raise ConfigError(f"{n} parts of {len(units)} units: some would be empty", hint=f"at most {len(units)} parts")
    return units[k - 1 :: n]


def _row(
    unit: Unit, graph: SwitchedGraph, estimate: SensitivityEstimate, alone: Effect | None, without: Effect | None
) -> SensitivityRow:
    rest = estimate.of_nodes(rest_of(unit, graph)) if unit.has_rest else None
    nodes = () if unit.kind == ALL else tuple(dict.fromkeys(site.node for site in unit.sites))
    sites, guess = len(unit.sites), estimate.alone(unit)
    return SensitivityRow(unit.kind, unit.name, unit.op, sites, alone, without, guess, rest, nodes)


def _provenance(
    proto: onnx.ModelProto,
    table: CalibrationTable,
    judged: Judged,
    reference: Reference,
    options: SensitivityOptions,
) -> SensitivityProvenance:
    user = "" if judged.metric is None else getattr(judged.metric, "__name__", type(judged.metric).__name__)
    return SensitivityProvenance(
        model_hash=model_hash(proto),
        table_hash=table_hash(table),
        algorithm=table.provenance.algorithm,
        data_hash=reference.data_hash,
        labels_hash=reference.labels_hash,
        preprocess=stream_facts(judged.batches).preprocess,
        batches=reference.batches,
        samples=reference.samples,
        method=options.method,
        metric=user or (TOP1 if reference.metric is not None else ""),
        fp32_metric=reference.metric,
        seed=options.seed,
        versions={
            "quantlab": __version__,
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": ORT_VERSION,
        },
    )
