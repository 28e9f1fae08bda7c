"""Models that have Q/DQ already: their scales as a table, and placed anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from quantlab.calibration import CalibrationTable, Provenance
from quantlab.calibration.made_from import keep_origin, write_origin
from quantlab.numerics import OutputError, scale_from_amax
from quantlab.onnx_model import (
    Model,
    copy_model,
    has_float_weights,
    load_model,
    require_finite,
    require_qdq,
    unique_names,
)
from quantlab.qdq.dropped import dropped_notes, int8_layers
from quantlab.qdq.finding import Finding
from quantlab.qdq.insert import insert, needs_float_weights
from quantlab.qdq.lint import lint
from quantlab.qdq.names import calibrated_name
from quantlab.qdq.placement import Placement
from quantlab.qdq.planning import plan_again
from quantlab.qdq.prepare import prepare
from quantlab.qdq.selection import Selection
from quantlab.qdq.strip import strip

FLOAT_BEFORE = "it was float in the given model"


@dataclass(frozen=True, slots=True)
class Repaired:
    """A model whose Q/DQ were placed anew.

    Attributes:
        model: The new Q/DQ model.
        placement: Where its Q/DQ are.
        before: What `lint` says of the given model.
        after: What `lint` says of the new one.
        moved: Per output, how far the new model is from the given one; empty where nothing was compared.
        notes: What was done beyond moving Q/DQ, and what has none any more.
        samples: On how many samples they were compared.
        made_up: Whether those were seeded random values.
    """

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
    proto = load_model(model)
    require_qdq(proto)
    require_finite(proto)
    amax = {calibrated_name(tensor): value for tensor, value in strip(proto).amax.items()}
    return CalibrationTable(amax, Provenance(algorithm="imported", source="scales of a Q/DQ model"))


def _renamed(table: CalibrationTable, stripped: onnx.ModelProto) -> CalibrationTable:
    """A table of the FP32 model, with the names that its tensors have in a model made of that."""
    made = {calibrated_name(name, table.amax): name for node in stripped.graph.node for name in node.output}
    return replace(table, amax={made.get(tensor, tensor): amax for tensor, amax in table.amax.items()})


def requantize(
    model: Model,
    table: CalibrationTable | None = None,
    selection: Selection | None = None,
) -> Repaired:
    """Strip a model's Q/DQ and place them anew by quantlab's rules.

    Weights keep the scales they had where those are symmetric int8. Without a table, layers that were float as a whole
    stay float unless the selection includes them: the tool or the user who left them so may have had a reason. So a
    model that was placed by these rules comes back as it was. Nothing is compared: `moved` is empty.

    Args:
        model: A model with Q/DQ, from any exporter.
        table: The scales; by default those that the model has.
        selection: Which nodes to quantize or to leave in float.

    Returns:
        The new model; its notes say what lost its Q/DQ. A tensor without a scale leaves its node in float, with the
        reason.

    Raises:
        GraphError: The model has no Q/DQ, they cannot be taken out, or a weight, bias or scale is not finite.
        DataError: The table is of another model.
    """
    proto = _with_names(load_model(model))
    require_qdq(proto)
    require_finite(proto)
    selection, stripped = selection or Selection(), strip(proto)
    if table is not None:
        table = _renamed(table, stripped.model)
        table.check_names(stripped.model)
    used = stripped.amax_with_aliases(table.amax if table is not None else stripped.amax)
    prepared = prepare(stripped.model)
    layers = int8_layers(proto)
    were_int8 = [node for node, in_int8 in layers.items() if in_int8]
    keep_float: dict[str, str] = {}
    if table is None:
        asked_for = selection.asked_for([(node.name, node.op_type) for node in prepared.graph.node])
        keep_float = {n: FLOAT_BEFORE for n, in_int8 in layers.items() if not in_int8 and n not in asked_for}
    placement = plan_again(prepared, selection, set(used), keep_float, were_int8)
    amax = placement.shared_amax(used)
    result = insert(
        prepared,
        placement,
        lambda tensor: scale_from_amax(amax[tensor]),
        float_weights=needs_float_weights(prepared) or has_float_weights(proto),
        weight_amax=stripped.weight_amax,
    )
    if table is not None:
        write_origin(result.model, table)
    else:
        keep_origin(result.model, proto)
    dropped = dropped_notes(prepared, placement, stripped.amax, stripped.aliases, were_int8)
    costs = [f"'{t}' shares a scale and gives up {c:.1f} dB of resolution" for t, c in placement.cost_db(used).items()]
    notes = (*stripped.notes, *dropped, *result.warnings, *costs)
    return Repaired(result.model, placement, tuple(lint(proto)), tuple(lint(result.model)), {}, notes, 0, False)


def _with_names(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a name for every node that no other has: layers that stay float are known by it."""
    names = unique_names((node.name, node.op_type) for node in proto.graph.node)
    if all(node.name == name for node, name in zip(proto.graph.node, names, strict=True)):
        return proto
    result = copy_model(proto)
    for node, name in zip(result.graph.node, names, strict=True):
        node.name = name
    return result
