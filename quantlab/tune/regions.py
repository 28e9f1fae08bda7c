"""A network in regions: a layer with weights and everything that TensorRT may fuse into it or run right behind it.

A region is what a search decides about as a whole: INT8 or float. Where the regions on both sides of a border are
decided differently, TensorRT converts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import onnx

from quantlab.engines.inspector import Inspection, layer_audit
from quantlab.errors import BuildError
from quantlab.onnx_model import QDQ_OPS, GraphView, node_label
from quantlab.qdq.measured import BATCH
from quantlab.qdq.payoff import work_of
from quantlab.qdq.rules import row_of


@dataclass(frozen=True, slots=True)
class Region:
    """One of them.

    Attributes:
        name: Of its node with weights.
        nodes: All of its nodes, in network order.
        signature: The same for regions of the same operators, attributes and shapes.
        work: Multiplications of its weighted node, for sharing time out; 1 if unknown.
    """

    name: str
    nodes: tuple[str, ...]
    signature: str
    work: int


@dataclass(frozen=True, slots=True)
class Border:
    """A tensor that one region makes and another reads.

    Attributes:
        source: Index of the region that makes it.
        target: Index of the region that reads it.
        tensor: Its name.
        values: How many it has; a dynamic dimension counts as it does in `quantlab.qdq.payoff`.
    """

    source: int
    target: int
    tensor: str
    values: int


@dataclass(frozen=True)
class Regions:
    """All regions of a prepared model.

    Attributes:
        regions: In network order.
        borders: Each tensor between two of them once per reading region.
    """

    regions: tuple[Region, ...]
    borders: tuple[Border, ...]

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Node -> its region."""
        return {node: k for k, region in enumerate(self.regions) for node in region.nodes}

    @property
    def structure(self) -> str:
        """A hash of all signatures in order: the same for every network of this architecture and these shapes."""
        text = "\n".join(region.signature for region in self.regions)
        text += "".join(f"\n{border.source}>{border.target} {border.values}" for border in self.borders)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def signature_of(self, border: Border) -> str:
        """The same for borders between the same kinds of regions."""
        source, target = self.regions[border.source], self.regions[border.target]
        return f"{source.signature}>{target.signature}:{border.values}"


def regions_of(prepared: onnx.ModelProto) -> Regions:
    """Take a model apart.

    Args:
        prepared: See `quantlab.qdq.prepare`.

    Returns:
        Its regions; none if no node has weights.
    """
    view = GraphView(prepared)
    nodes = list(prepared.graph.node)
    owner = _owners(nodes, view)
    members: dict[int, list[onnx.NodeProto]] = {}
    for position, node in enumerate(nodes):
        if position in owner:
            members.setdefault(owner[position], []).append(node)
    shapes, work = _shapes(prepared), work_of(prepared)
    order = sorted(members)
    renumbered = {old: new for new, old in enumerate(order)}
    regions = tuple(_region(nodes[k], members[k], shapes, view, work.get(node_label(nodes[k]), 1)) for k in order)
    home = {name: renumbered[owner[p]] for p, n in enumerate(nodes) if p in owner for name in n.output}
    borders = {
        (home[name], renumbered[owner[p]], name): None
        for p, node in enumerate(nodes)
        if p in owner
        for name in node.input
        if name in home and home[name] != renumbered[owner[p]]
    }
    return Regions(regions, tuple(Border(a, b, name, _count(shapes.get(name))) for a, b, name in borders))


def _owners(nodes: list[onnx.NodeProto], view: GraphView) -> dict[int, int]:
    """Position of a node -> position of the weighted node that it belongs to: the last one before it, else the first
    one behind it."""
    owner: dict[int, int] = {}
    made: dict[str, int] = {}
    for position, node in enumerate(nodes):
        before = [made[name] for name in node.input if name in made]
        if row_of(node.op_type, node.domain).weight_input is not None:
            owner[position] = position
        elif before:
            owner[position] = max(before)
        if position in owner:
            made.update(dict.fromkeys(node.output, owner[position]))
    places = {id(node): position for position, node in enumerate(nodes)}
    for position in reversed(range(len(nodes))):
        readers = [places[id(r)] for name in nodes[position].output for r, _ in view.readers.get(name, [])]
        behind = [owner[p] for p in readers if p in owner]
        if position not in owner and behind:
            owner[position] = min(behind)
    return owner


def _shapes(proto: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    known = (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
    shapes: dict[str, tuple[int | str, ...]] = {
        v.name: tuple(d.dim_value if d.HasField("dim_value") else "?" for d in v.type.tensor_type.shape.dim)
        for v in known
    }
    return shapes | {t.name: tuple(t.dims) for t in proto.graph.initializer}


def _count(shape: tuple[int | str, ...] | None) -> int:
    return prod(d if isinstance(d, int) else BATCH for d in shape) if shape else 1


def _region(
    layer: onnx.NodeProto,
    nodes: list[onnx.NodeProto],
    shapes: Mapping[str, tuple[int | str, ...]],
    view: GraphView,
    work: int,
) -> Region:
    def text(node: onnx.NodeProto) -> Iterator[str]:
        yield node.op_type
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            yield f"{attribute.name}={onnx.helper.printable_attribute(attribute)}"
        for name in node.input:
            yield f"{'constant' if name and view.is_constant(name) else 'tensor'} {shapes.get(name)}"

    content = "\n".join(line for node in nodes for line in text(node))
    signature = f"{layer.op_type} {hashlib.sha256(content.encode()).hexdigest()[:12]}"
    return Region(node_label(layer), tuple(node_label(n) for n in nodes), signature, work)


_COPY = "Reformatting CopyNode for "


def times_us(inspection: Inspection, regions: Regions, model: onnx.ModelProto, latency_ms: float) -> list[float]:
    """Share the latency of an engine out to regions.

    The profiler adds about as much to every layer, so that their times add up to more than the latency: the same is
    taken off each of them. A conversion counts for the region that reads its result. A layer of several regions, such
    as one that TensorRT compiles as a whole and whose inside it does not show, is shared out by work.

    Args:
        inspection: Of the engine.
        regions: Of its network.
        model: What the engine was built from: the prepared model, or with Q/DQ nodes.
        latency_ms: Of the engine as it runs.

    Returns:
        Microseconds of every region; they add up to the latency.

    Raises:
        BuildError: No layer of the engine can be found in the model.
    """
    home = dict(regions.index) | _qdq_homes(model, regions)
    layers = [layer_audit(row, inspection.times_ms) for row in inspection.rows]
    running = [layer for layer in layers if layer.time_ms > 0]
    total = [0.0] * len(regions.regions)
    owners, is_known = [0], False
    shares = without_overhead([1000 * layer.time_ms for layer in running], 1000 * latency_ms)
    for layer, time_us in zip(running, shares, strict=True):
        names = [name.split(" to ", 1)[-1] if name.startswith(_COPY) else name for name in layer.nodes]
        found = sorted({home[name] for name in names if name in home})
        if layer.precision == "hidden":  # the name has its first and its last node only
            found = list(range(found[0], found[-1] + 1) if found else range(len(total)))
        is_known = is_known or bool(found)
        owners = found or owners[-1:]
        work = [regions.regions[k].work for k in owners]
        for k, part in zip(owners, work, strict=True):
            total[k] += time_us * part / sum(work)
    if not is_known:
        raise BuildError(
            "no layer of the engine has a name of the model's nodes, so that its time cannot be shared out",
            hint="is the engine's profiling verbosity 'detailed'?",
        )
    return total


def without_overhead(times_us: Sequence[float], latency_us: float) -> list[float]:
    """Take the same time off each, none below 0, so that they add up to the latency; scale where they are too short.

    Args:
        times_us: Of layers, by the profiler.
        latency_us: Of all of them together.

    Returns:
        As many times.
    """
    if sum(times_us) <= latency_us:
        return [time * latency_us / sum(times_us) for time in times_us]
    left = sorted(times_us)
    rest = sum(left) - latency_us  # to take off
    overhead, done = 0.0, 0.0
    for position, time in enumerate(left):
        overhead = (rest - done) / (len(left) - position)
        if overhead <= time:
            break
        done += time
    return [max(0.0, time - overhead) for time in times_us]


def _qdq_homes(model: onnx.ModelProto, regions: Regions) -> dict[str, int]:
    """Q/DQ node -> the region that reads what it makes."""
    view = GraphView(model)
    homes: dict[str, int] = {}
    for node in reversed(model.graph.node):
        if node.op_type in QDQ_OPS:
            readers = [node_label(reader) for reader, _ in view.readers.get(node.output[0], [])]
            known = [homes.get(name, regions.index.get(name, -1)) for name in readers]
            if any(k >= 0 for k in known):
                homes[node_label(node)] = min(k for k in known if k >= 0)
    return homes
