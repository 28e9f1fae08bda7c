"""The steps to the closest model, one after the other on one network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import CalibrationTable, CalibrationTarget, RunOptions, run_calibration
from quantlab.calibration.made_from import write_correction, write_origin, write_steps
from quantlab.data import Batch, Batches, IterableBatches, notices_of
from quantlab.errors import GraphError
from quantlab.numerics import scale_from_amax
from quantlab.observers import OBSERVERS
from quantlab.onnx_model import input_specs
from quantlab.qdq import Quantized, prepare
from quantlab.qdq.insert import insert
from quantlab.qdq.rewritten import mark_rewritten
from quantlab.transforms.equalize import equalize
from quantlab.transforms.rounding import Rounded, round_weights
from quantlab.transforms.shifted import shifted
from quantlab.transforms.ways import NEAREST, Way
from quantlab.transforms.wide_sites import wide_sites
from quantlab.transforms.widen import widen
from quantlab.tune.auto import AutoResult
from quantlab.tune.closest_result import CODES, LEFT, RANGES, ROUNDING, Closest, Step
from quantlab.tune.closest_samples import Parts
from quantlab.tune.closest_state import State, as_they_are, by_mse, scales_of, spread
from quantlab.tune.fed_model import FedModel, Samples
from quantlab.tune.refine import LIKELY, error_db, is_better
from quantlab.tune.stage import Stages


class Steps:
    """The steps on one model."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        quantized: Quantized,
        auto: AutoResult,
        data: Parts,
        float_weights: bool,
        on_stage: Stages,
    ) -> None:
        self._proto, self._quantized, self._auto, self._data = proto, quantized, auto, data
        self._float_weights, self._on_stage = float_weights, on_stage
        self._placement = quantized.placement
        first = FedModel(proto, quantized.model, [])
        self._search, self._proof = first.samples(data.search), first.samples(data.proof)
        self._steps: list[Step] = []

    def run(self, whole: Batches) -> Closest:
        """All steps."""
        prepared = prepare(self._proto)
        state = self._calibrated(prepared, prepared, whole, {})
        state = replace(state, qdq=self._quantized.model, weight_errors=self._quantized.weight_errors,
                        amax=self._placement.shared_amax(self._auto.table.amax))  # fmt: skip
        best = self._errors(state.qdq, self._search)
        state, best = self._equalized(prepared, whole, state, best)
        state, best = self._widened(state, best)
        rounded, final = self._rounded(state, best)
        auto, chosen = (self._errors(m, self._proof) for m in (self._quantized.model, shifted(rounded)))
        kept = any(step.kept for step in self._steps) and is_better(chosen, auto, 0)
        steps = tuple(self._steps) if kept else tuple(replace(step, kept=False) for step in self._steps)
        auto_db, sqnr_db = error_db(auto), error_db(chosen if kept else auto)
        found = Closest(self._quantized, steps, auto_db, sqnr_db, self._data.held_back, self._auto.table)
        made = self._quantized
        if kept:
            model = shifted(final())
            found = replace(found, table=self._table(state, model))
            self._sign(model, found, state)
            made = replace(made, model=model, weight_errors=state.weight_errors)
        notices = (*self._auto.table.warnings, *found.notices(), *notices_of(whole))
        warnings = tuple(dict.fromkeys([*made.warnings, *map(str, notices)]))
        return replace(found, quantized=replace(made, warnings=warnings))

    def _errors(self, qdq: onnx.ModelProto, samples: Samples) -> NDArray[np.float64]:
        return FedModel(self._proto, qdq, []).errors({}, samples)

    def _calibrated(
        self, fp32: onnx.ModelProto, network: onnx.ModelProto, whole: Batches, caps: Mapping[str, np.float32]
    ) -> State:
        """Scales by the algorithm that is best for the model as a whole."""
        target = CalibrationTarget(fp32, self._placement.tensors)
        base = self._auto.base
        observers = {base: OBSERVERS.get(base, OBSERVERS["mse"])}
        on_batch = self._on_stage("calibrating", self._auto.table.provenance.samples)
        run = run_calibration(target, whole, observers, RunOptions(), on_batch)
        table = run.tables[base].amax
        caps = spread(self._placement, caps)
        shared = self._placement.shared_amax(table)
        amax = {name: min(value, caps[name]) if name in caps else value for name, value in shared.items()}
        inserted = insert(
            network, self._placement, lambda name: scale_from_amax(amax[name]), float_weights=self._float_weights
        )
        return State(fp32, inserted.model, amax, run.histograms, inserted.weight_errors, caps)

    def _judge(
        self,
        name: str,
        old: NDArray[np.float64],
        new: NDArray[np.float64],
        where: Mapping[str, str],
        sure: float = LIKELY,
    ) -> bool:
        kept = is_better(new, old, sure)
        gain_db = error_db(new) - error_db(old)
        self._steps.append(Step(name, kept, 0.0 if np.isnan(gain_db) else gain_db, where))  # both may be exact
        return kept

    def _leave(self, name: str, error: GraphError) -> None:
        """Go on without a step that the network does not allow."""
        self._steps.append(Step(name, kept=False, gain_db=0.0, where={"the network": f"{LEFT}{error.text}"}))

    def _equalized(
        self, prepared: onnx.ModelProto, whole: Batches, state: State, old: NDArray[np.float64]
    ) -> tuple[State, NDArray[np.float64]]:
        if not self._data.holds_back:  # by the samples that the factors come from they would look better than they are
            return state, old
        on_batch = self._on_stage("measuring channel ranges", self._auto.table.provenance.samples)
        try:
            found = equalize(prepared, self._placement, IterableBatches(self._data.rest), on_batch)
        except GraphError as error:  # a weight that no sample reaches may leave float32 with its factor
            self._leave(RANGES, error)
            return state, old
        if not found.groups:
            return state, old
        new_state = replace(self._calibrated(found.fp32, found.network, whole, found.caps), equalized=found)
        new = self._errors(new_state.qdq, self._search)
        where = {
            tensor: f"strength {group.alpha:g}, factors differ by {group.ratio:.1f}, {group.gain_db:+.1f} dB expected"
            for group in found.groups
            for tensor in group.tensors
        }
        return (new_state, new) if self._judge(RANGES, old, new, where) else (state, old)

    def _widened(self, state: State, old: NDArray[np.float64]) -> tuple[State, NDArray[np.float64]]:
        sites = {name: site for name, site in wide_sites(state.qdq)[0].items() if state.amax[name] > 0}
        if not sites:
            return state, old
        tried = []
        for thresholds in (by_mse, as_they_are):
            amax = {name: thresholds(state, site) for name, site in sites.items()}
            qdq = widen(state.qdq, sites, amax)
            try:
                tried.append((self._errors(shifted(qdq), self._search), amax, qdq))
            except GraphError as error:
                self._leave(CODES, error)
                return state, old
        new, amax, qdq = min(tried, key=lambda row: float(row[0].sum()))
        where = {
            name: f"0 to {amax[name]:.4g}" + (", constant channels for the border" if site.padded else "")
            for name, site in sites.items()
        }
        # finer steps do no harm: what other noise hides before the weights are rounded need not be sure
        return (replace(state, qdq=qdq), new) if self._judge(CODES, old, new, where, 0) else (state, old)

    def _rounded(self, state: State, old: NDArray[np.float64]) -> tuple[onnx.ModelProto, Callable[[], onnx.ModelProto]]:
        """The model to judge, from the rest of the samples, and how the one from all of them is made."""
        try:
            found = self._round(state, self._data.rest)
        except GraphError as error:  # the network cannot be run in parts
            self._leave(ROUNDING, error)
            return state.qdq, lambda: state.qdq
        new = self._errors(found.model, self._search)
        where = {
            layer.node: f"{LEFT}no other codes or bias do better"
            if layer.way == NEAREST
            else f"{layer.way.name}; {layer.changed:.0%} of the codes, {layer.before_db:.1f} to {layer.after_db:.1f} dB"
            for layer in found.layers
        } | {node: f"{LEFT}{why}" for node, why in found.left.items()}
        if not self._judge(ROUNDING, old, new, where):
            return state.qdq, lambda: state.qdq
        if not self._data.holds_back:
            return found.model, lambda: found.model
        ways = {layer.node: layer.way for layer in found.layers}
        return found.model, lambda: self._round(state, self._data.all, ways).model

    def _round(self, state: State, batches: Sequence[Batch], ways: Mapping[str, Way] | None = None) -> Rounded:
        done = self._on_stage("rounding weights by layer", len(self._placement.weights))
        return round_weights(state.fp32, state.qdq, batches, done, ways)

    def _table(self, state: State, model: onnx.ModelProto) -> CalibrationTable:
        """The scales of the model, as what each tensor has."""
        wide = {name: np.float32(127 * scale) for name, scale in scales_of(model).items()}
        given = self._auto.table
        return CalibrationTable({**state.amax, **wide}, replace(given.provenance, algorithm="closest"), given.warnings)

    def _sign(self, model: onnx.ModelProto, found: Closest, state: State) -> None:
        """Let the model say what it was made from."""
        write_origin(model, found.table)
        write_steps(model, found.describe())
        if state.equalized is not None:
            mark_rewritten(model, state.equalized.tensors, state.equalized.nodes)
        if any(step.name == ROUNDING and step.kept for step in found.steps):
            names = [spec.name for spec in input_specs(self._proto)]
            hashed, count = self._data.named(names)
            write_correction(model, hashed, count, found.table.provenance.preprocess)
