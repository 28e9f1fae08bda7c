"""Runs a network with any subset of its sites in INT8, from the last tensor on that no site of the subset changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.comparison.backend import comparable
from quantlab.data import Batch
from quantlab.onnx_model import copy_model, input_specs
from quantlab.ort import Session
from quantlab.tune.switched_graph import Site, SwitchedGraph, cut_tensors, part_from

CUTS = 8
"""Places where a run can start; each is a session with the weights behind it."""

Outputs = dict[str, NDArray[Any]]


class SwitchedModel:
    """One network whose sites are switched at run time, on ONNX Runtime as it is written.

    Args:
        graph: The network with its switches.

    Attributes:
        outputs: The names of its outputs, without sequences, maps and strings.
        float_outputs: The names of those of floating point type.

    Raises:
        GraphError: ONNX Runtime cannot load it.
    """

    def __init__(self, graph: SwitchedGraph) -> None:
        self._graph = graph
        self._order = {node.name: k for k, node in enumerate(graph.prepared.graph.node)}
        self._cuts = _chosen_cuts(graph, self._order)
        self._inputs = {spec.name for spec in input_specs(graph.prepared)}
        exposed = copy_model(graph.model)
        known = {o.name for o in exposed.graph.output}
        exposed.graph.output.extend(onnx.ValueInfoProto(name=t) for t in self._cuts if t not in known)
        self._whole = Session(exposed, optimize=False, shares_cores=True)
        self._parts: dict[str, Session] = {}
        self.outputs = [o.name for o in comparable(graph.model).graph.output]
        self.float_outputs = [name for name in self.outputs if name in self._whole.float_outputs]

    def run_fp32(self, batch: Batch) -> tuple[Outputs, Outputs]:
        """The outputs of a batch in FP32, and the tensors from which `run` can start."""
        found = self._whole.run({**batch, **self._switches(())}, [*self.outputs, *self._cuts])
        return {name: found[name] for name in self.outputs}, {name: found[name] for name in self._cuts}

    def run(self, batch: Batch, sites: Collection[Site], starts: Mapping[str, NDArray[Any]] | None = None) -> Outputs:
        """The outputs of a batch with some sites in INT8.

        Args:
            batch: Input name -> array.
            sites: Those in INT8.
            starts: What `run_fp32` gave for this batch beside the outputs; without it the whole network runs.

        Returns:
            Outputs by name.

        Raises:
            DataError: The batch does not fit.
            GraphError: The network fails on it.
        """
        first = min((self._order[site.node] for site in sites), default=len(self._order))
        cut = next((t for t, before in reversed(self._cuts.items()) if before <= first), None) if starts else None
        if cut is None or starts is None:
            return self._whole.run({**batch, **self._switches(sites)}, self.outputs)
        if cut not in self._parts:
            value = next(v for v in self._graph.prepared.graph.value_info if v.name == cut)
            part = part_from(self._graph.model, value, list(self._graph.switches.values()))
            self._parts[cut] = Session(part, optimize=False, shares_cores=True)
        session = self._parts[cut]
        wanted = {spec.name for spec in session.inputs} - {cut}
        fed = {name: on for name, on in self._switches(sites).items() if name in wanted}
        return session.run({cut: starts[cut], **fed}, self.outputs)

    def _switches(self, sites: Collection[Site]) -> dict[str, NDArray[np.bool_]]:
        on = set(sites)
        return {name: np.asarray(site in on) for site, name in self._graph.switches.items()}


def _chosen_cuts(graph: SwitchedGraph, order: Mapping[str, int]) -> dict[str, int]:
    """At most CUTS tensors, so that as many nodes with sites lie between each two: tensor -> nodes before it."""
    nodes = sorted({order[site.node] for site in graph.sites})
    cuts = cut_tensors(graph.prepared)
    chosen = {}
    for k in range(1, CUTS + 1):
        node = nodes[k * len(nodes) // (CUTS + 1)]
        best = max((t for t, before in cuts.items() if before <= node), key=lambda t: cuts[t], default=None)
        if best is not None:
            chosen[best] = cuts[best]
    return chosen
