"""What a report shows beside its figures: ranges of activations, layers, where the error comes from, what helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import onnx

from quantlab.calibration import CalibrationRun
from quantlab.comparison import Comparison, ErrorTrace, ModelResult, activation_ranges, trace_error
from quantlab.data import Batch, Batches, BatchSize
from quantlab.errors import QuantlabError
from quantlab.onnx_model import has_qdq, input_specs
from quantlab.qdq import Layer, Placement, layers_of, layers_of_given
from quantlab.report.document import Evidence
from quantlab.report.hint import Hint, hint_for
from quantlab.tune.stage import Stages

SHOWN_BATCHES = 4
"""Batches whose activations and inner errors are drawn in the report."""
TRACED = 4
"""Models whose inner errors are drawn: those closest to FP32. Each costs a run with all inner tensors, and more lines
in one plot cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Inside:
    """Models that were compared, to be looked into.

    Attributes:
        fp32: The FP32 model.
        models: The others in ONNX, by name.
        placements: By which some of these were made.
        result: The comparison.
        shown: The model that the verdict names.
        on_stage: Told of what is done.
    """

    fp32: onnx.ModelProto
    models: Mapping[str, onnx.ModelProto]
    placements: Mapping[str, Placement]
    result: Comparison
    shown: ModelResult | None
    on_stage: Stages

    def gather(self, batches: Batches) -> tuple[Evidence, list[str]]:
        """Run a few batches with all that is inside. The comparison stands without it: what fails is left out.

        Args:
            batches: The compared data.

        Returns:
            What is shown, and why some of it is missing.
        """
        size = BatchSize.of(input_specs(self.fp32))
        few = [batch for batch in islice(batches, SHOWN_BATCHES) if size.takes(batch)]
        samples, graph, untraced = sum(map(size.count, few)), self._graph(), list[str]()
        traces = self._traces(few, samples, graph, untraced)
        if not few:
            untraced.append(
                f"there is no whole batch of {size.fixed} samples: activations and inner errors are not shown"
            )
        hint = self._hint(traces, few, untraced)
        evidence = Evidence(
            run=self._ranges(few, samples, untraced),
            histograms_of=f"the first {samples} samples of the compared data",
            graph=graph,
            layers=self._layers(graph, untraced) if graph else (),
            traces=traces,
            hint=hint,
        )
        return evidence, untraced

    def _graph(self) -> str | None:
        """The Q/DQ model behind what the verdict names: itself, or the one that an engine was built from."""
        names = () if self.shown is None else (self.shown.name, self.shown.name.replace("trt:", "ort:", 1))
        return next((name for name in names if name in self.models and has_qdq(self.models[name])), None)

    def _traces(
        self, few: Sequence[Batch], samples: int, graph: str | None, untraced: list[str]
    ) -> dict[str, ErrorTrace]:
        """Where the error of the Q/DQ models closest to FP32 comes from, and of `graph`."""
        closest = [r.name for r in self.result.quantized if r.name in self.models and has_qdq(self.models[r.name])]
        shown = {*closest[:TRACED], *([graph] if graph else [])}
        traces = {}
        for name, model in self.models.items():
            if name not in shown:
                continue
            try:
                on_sample = self.on_stage(f"tracing the error of '{name}'", samples)
                traces[name] = trace_error(self.fp32, model, few, on_sample)
            except QuantlabError as error:
                untraced.append(f"where the error of '{name}' comes from cannot be shown: {error.message}")
        return traces

    def _ranges(self, few: Sequence[Batch], samples: int, untraced: list[str]) -> CalibrationRun | None:
        on_batch = self.on_stage("drawing the histograms", samples)
        try:
            run = activation_ranges(self.fp32, self.models, few, on_batch)
        except QuantlabError as error:
            untraced.append(f"the ranges of activations cannot be shown: {error.message}")
            return None
        left_out = [] if run is None else [w.tensor for w in run.warnings if w.kind == "not_finite"]
        untraced += [f"the range of '{tensor}' cannot be shown: FP32's values are not finite" for tensor in left_out]
        return run

    def _layers(self, graph: str, untraced: list[str]) -> tuple[Layer, ...]:
        qdq, placement = self.models[graph], self.placements.get(graph)
        try:
            return layers_of_given(qdq, self.fp32) if placement is None else layers_of(qdq, placement)
        except QuantlabError as error:
            untraced.append(f"what runs in INT8 cannot be said: {error.message}")
            return ()

    def _hint(self, traces: Mapping[str, ErrorTrace], few: Sequence[Batch], untraced: list[str]) -> Hint | None:
        """Which layers of the best model to leave in float."""
        try:
            return hint_for(self.fp32, self.result, self.models, traces, few, self.on_stage)
        except QuantlabError as error:
            untraced.append(f"which layers to leave in float cannot be said: {error.message}")
            return None
