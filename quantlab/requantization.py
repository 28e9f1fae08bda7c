"""Models that have Q/DQ already: their scales as a table, placed anew, and the proof that little moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.comparison.metrics import ErrorSums, OutputError
from quantlab.data.batches import Batch, Batches, batch_length
from quantlab.errors import GraphError
from quantlab.large import copy_model
from quantlab.model import QDQ_OPS, Model, TensorSpec, fixed_batch, input_specs, load_model
from quantlab.numerics import scale_from_amax
from quantlab.ort import Session
from quantlab.qdq import Finding, Placement, Selection, Stripped, insert, lint, plan, prepare, strip
from quantlab.qdq.selection import WEIGHTED
from quantlab.qdq.view import GraphView

MIN_SQNR_DB = 15.0
"""Below this a repair is refused: the repaired model is then not the model that was given."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """model: the new Q/DQ model. before, after: lint findings. moved: per output, repaired against given. notes: what
    was done beyond moving Q/DQ. samples: of the proof. made_up: whether those were seeded random values."""

    model: onnx.ModelProto
    placement: Placement
    before: tuple[Finding, ...]
    after: tuple[Finding, ...]
    moved: Mapping[str, OutputError]
    notes: tuple[str, ...]
    samples: int
    made_up: bool


def import_scales(model: Model) -> CalibrationTable:
    """The activation scales of a Q/DQ model from any exporter as a table. GraphError if it has none."""
    return _table(strip(_with_qdq(load_model(model))))


def requantize(model: Model, table: CalibrationTable | None = None, selection: Selection | None = None) -> Repaired:
    """Strip a model's Q/DQ and place them anew by quantlab's rules, with `table` or with the scales it had.

    A tensor without a scale leaves its node in float, with the reason. Weights keep the scales they had where those are
    symmetric int8. Nothing is compared: `moved` is empty.
    """
    return _redo(_with_qdq(load_model(model)), table, selection, {})


def _redo(
    proto: onnx.ModelProto, table: CalibrationTable | None, selection: Selection | None, keep_float: Mapping[str, str]
) -> Repaired:
    stripped = strip(proto)
    if table is not None:
        table.check_names(stripped.model)
    used = stripped.amax_with_aliases(table.amax if table is not None else stripped.amax)
    prepared = prepare(stripped.model)
    placement = plan(prepared, selection, set(used), keep_float)
    amax = placement.shared_amax(used)
    result = insert(prepared, placement, lambda tensor: scale_from_amax(amax[tensor]), weight_amax=stripped.weight_amax)
    costs = [f"'{t}' shares a scale and gives up {c:.1f} dB of resolution" for t, c in placement.cost_db(used).items()]
    notes = (*stripped.notes, *result.warnings, *costs)
    return Repaired(result.model, placement, tuple(lint(proto)), tuple(lint(result.model)), {}, notes, 0, False)


def repair(model: Model, batches: Batches | None = None, min_sqnr_db: float = MIN_SQNR_DB) -> Repaired:
    """`requantize` with the model's own scales, and the proof: both on the same inputs, ONNX Runtime, unoptimised.

    Layers that were float as a whole stay float: the tool or the user who left them so may have had a reason.
    batches: real inputs; without them at least 8 seeded random samples are used, and said. GraphError if an output of
    the repaired model has a smaller SQNR against the given one than `min_sqnr_db`, or if ONNX Runtime cannot run the
    given one.
    """
    proto = _named(load_model(model))
    done = _redo(_with_qdq(proto), None, None, _float_layers(proto))
    before, after = Session(proto, optimize=False), Session(done.model, optimize=False)
    sums = {name: ErrorSums() for name in before.float_outputs}
    if not sums:
        raise GraphError("the model has no floating point output to compare", hint="quantlab quantize --requantize")
    specs, fixed = input_specs(proto), fixed_batch(proto)
    samples = 0
    for number, batch in enumerate(batches if batches is not None else _made_up(specs)):
        size = batch_length(batch, specs[0].name, number)
        if fixed is not None and 0 < size < fixed and number:
            continue  # a short last batch does not fit such a model
        samples += size
        want, got = before.run(batch, number=number), after.run(batch, number=number)
        for name, total in sums.items():
            total.add(want[name], got[name], name)
    moved = {name: total.result() for name, total in sums.items()}
    worst = min(moved, key=lambda name: moved[name].sqnr_db)
    if not moved[worst].sqnr_db >= min_sqnr_db:
        raise GraphError(
            f"the repair would move output '{worst}' to {moved[worst].sqnr_db:.1f} dB SQNR, less than {min_sqnr_db:g}",
            hint="quantize the float model (quantlab calibrate, quantlab quantize), or give --data and a lower bound",
        )
    return replace(done, moved=moved, samples=samples, made_up=batches is None)


def _named(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a name for every node."""
    if all(node.name for node in proto.graph.node):
        return proto
    result = copy_model(proto)
    used = {node.name for node in result.graph.node}
    for node in result.graph.node:
        if not node.name:
            node.name = next(n for k in range(len(used) + 1) if (n := f"{node.op_type}_{k}") not in used)
            used.add(node.name)
    return result


def _float_layers(proto: onnx.ModelProto) -> dict[str, str]:
    """Weighted nodes none of whose operands has Q/DQ -> why they stay float."""
    view = GraphView(proto)
    found = {}
    for node in proto.graph.node:
        if node.op_type in WEIGHTED and node.name:
            makers = [view.producer.get(name) for name in node.input[:2]]
            if not any(maker is not None and maker.op_type in QDQ_OPS for maker in makers):
                found[node.name] = "it was float in the given model"
    return found


def _with_qdq(proto: onnx.ModelProto) -> onnx.ModelProto:
    if not any(n.op_type in QDQ_OPS for n in proto.graph.node):
        raise GraphError("the model has no Q/DQ nodes", hint="quantize it: quantlab calibrate, quantlab quantize")
    return proto


def _table(stripped: Stripped) -> CalibrationTable:
    return CalibrationTable(dict(stripped.amax), Provenance(algorithm="imported", source="scales of a Q/DQ model"))


def _made_up(specs: list[TensorSpec], samples: int = 8) -> list[Batch]:
    """Batches of seeded normal values, `samples` or a little more in all."""
    generator = np.random.default_rng(0)
    first = next((s.shape[0] for s in specs if s.shape and isinstance(s.shape[0], int)), samples)
    return [_made_up_batch(specs, first, generator) for _ in range(-(-samples // first))]


def _made_up_batch(specs: list[TensorSpec], size: int, generator: np.random.Generator) -> Batch:
    batch = {}
    for spec in specs:
        if not np.issubdtype(spec.dtype, np.floating):
            raise GraphError(f"input '{spec.name}' is {spec.dtype}: values cannot be made up", hint="give --data")
        shape = tuple(d if isinstance(d, int) else (size if k == 0 else 16) for k, d in enumerate(spec.shape))
        batch[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
    return batch
