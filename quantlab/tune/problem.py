"""What is searched, and its candidates: which placement each is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import CalibrationTable
from quantlab.comparison import Metric
from quantlab.data import Batch, Batches, BatchSize, IterableBatches, integer_uses, made_up_batch
from quantlab.engines.options import BuildOptions, BuildSettings
from quantlab.engines.runtime import Runtime
from quantlab.errors import BuildError, ConfigError, DataError, GraphError
from quantlab.onnx_model import input_specs
from quantlab.qdq import (
    EVERYTHING,
    Placement,
    Quantized,
    Selection,
    calibrated_name,
    exactly,
    plan,
    prepare,
    quantize_model,
)
from quantlab.tune.latency import Choice
from quantlab.tune.regions import Regions, regions_of

FLOAT, EVERY, DEFAULT, IMPLICIT = "float", "everything", "default", "implicit"
"""The candidates that every search begins with: nothing in INT8, all that can be, what `quantize` places, and what
TensorRT chooses itself from the same scales."""


LONGEST = 24
"""Letters in the name of a candidate."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate.

    Attributes:
        name: Unique in a search; the same for the same placement.
        int8: What it has in INT8, per region.
    """

    name: str
    int8: Choice


@dataclass(frozen=True)
class Problem:
    """What is searched.

    Attributes:
        model: The FP32 model.
        table: Its scales.
        batches: To judge accuracy on.
        labels: int64 (N,), None for those of the stream, if it has any.
        metric: Of the user, else top-1.
        runtime: What builds engines; None where there is no GPU.
        settings: Of all builds.
        folder: For engines.
        batch: To measure latency on; None for the first of `batches`.
    """

    model: onnx.ModelProto
    table: CalibrationTable
    batches: Batches
    folder: Path
    labels: NDArray[np.int64] | None = None
    metric: Metric | None = None
    runtime: Runtime | None = None
    settings: BuildSettings = field(default_factory=BuildSettings)
    batch: Batch | None = None

    @cached_property
    def prepared(self) -> onnx.ModelProto:
        """See `quantlab.qdq.prepare`."""
        return prepare(self.model)

    @cached_property
    def regions(self) -> Regions:
        """Of the prepared model."""
        return regions_of(self.prepared)

    @property
    def batch_size(self) -> int:
        """Of the batch that engines are measured on."""
        return BatchSize.of(input_specs(self.model)).count(self.first_batch)

    def check(self) -> None:
        """Refuse what cannot be searched, before anything is measured.

        Raises:
            GraphError: Nothing can be quantized.
            DataError: The table lacks a scale.
            ConfigError: The settings are no options of a build.
        """
        if not any(self.everything):
            raise GraphError("the model has nothing to quantize", hint="quantlab quantize says why, node by node")
        for tensor in plan(self.prepared, EVERYTHING).tensors:
            self.table.scale(calibrated_name(tensor, self.table.amax))
        BuildOptions("best", optimization_level=self.settings.optimization_level)

    @cached_property
    def first_batch(self) -> Batch:
        """What engines are measured on."""
        for batch in self.batches if self.batch is None else [self.batch]:
            return BatchSize.of(input_specs(self.model)).filled(batch)
        raise DataError("there are no batches to measure with", hint="the stream is empty: check the data")

    def choice_of(self, placement: Placement) -> Choice:
        """What a placement has in INT8, per region."""
        readers = {node for node, _, _ in placement.activations}
        return tuple(region.name in readers for region in self.regions.regions)

    @cached_property
    def default(self) -> Choice:
        """What `quantize` places."""
        return self.choice_of(plan(self.prepared))

    @cached_property
    def everything(self) -> Choice:
        """All that can be in INT8."""
        return self.choice_of(plan(self.prepared, EVERYTHING))

    def trial(self, int8: Choice) -> Trial:
        """The candidate of a choice."""
        named = {self.everything: EVERY, self.default: DEFAULT, (False,) * len(int8): FLOAT}
        bits = f"x{int('1' + ''.join('01'[on] for on in int8), 2):x}"
        if len(bits) > LONGEST:  # it is the name of a file too
            bits = f"x{hashlib.sha256(bits.encode()).hexdigest()[: LONGEST - 1]}"
        return Trial(named.get(int8, bits), int8)

    def quantized(self, trial: Trial) -> Quantized | None:
        """The Q/DQ model of a candidate; None for one without INT8."""
        if not any(trial.int8):
            return None
        names = [exactly(region.name) for region, on in zip(self.regions.regions, trial.int8, strict=True) if on]
        selection = {DEFAULT: None, EVERY: EVERYTHING}.get(trial.name, Selection(include=tuple(names)))
        quantized = quantize_model(self.model, self.table, selection)
        if self.choice_of(quantized.placement) != trial.int8:
            raise BuildError(f"no placement has exactly these layers in INT8 ('{trial.name}')", hint="quantlab inspect")
        return quantized


def made_up(model: onnx.ModelProto, batch_size: int) -> IterableBatches:
    """One batch of seeded values, good for latency.

    Args:
        model: Of which at most the batch size is dynamic.
        batch_size: For that.

    Returns:
        A stream of it.

    Raises:
        ConfigError: Another dimension is dynamic too.
    """
    shapes = {}
    for spec in input_specs(model):
        first, rest = spec.shape[:1], spec.shape[1:]
        if unknown := [size for size in rest if not isinstance(size, int)]:
            raise ConfigError(
                f"input '{spec.name}' has a dynamic dimension '{unknown[0]}', so its latency has no one value",
                hint="fix it in the model: onnxruntime.tools.make_dynamic_shape_fixed",
            )
        shapes[spec.name] = tuple(size if isinstance(size, int) else batch_size for size in first) + tuple(
            size for size in rest if isinstance(size, int)
        )
    generator = np.random.default_rng(0)
    return IterableBatches([made_up_batch(input_specs(model), shapes, generator, integer_uses(model))])
