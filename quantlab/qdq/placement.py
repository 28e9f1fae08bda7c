"""Where Q/DQ goes, as data: which tensors, which weights, which node inputs read them, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from quantlab.errors import Notice
from quantlab.plain_text import printable
from quantlab.qdq.names import calibrated_name
from quantlab.tabular import Rows, Tabular


@dataclass(frozen=True, slots=True)
class Skipped:
    """A node that stays float.

    Attributes:
        node: Its name.
        op: Its operator.
        reason: Why it stays float.
    """

    node: str
    op: str
    reason: str

    @property
    def lacks(self) -> str:
        """The tensor that has no scale, if that is the reason, else ''."""
        reason = self.reason
        return reason.tensor if isinstance(reason, Notice) and reason.kind == "no_scale" else ""


class SkippedNodes(Tabular, tuple[Skipped, ...]):
    """The nodes that stay float: a tuple that prints as a table."""

    __slots__ = ()

    def to_rows(self) -> Rows:
        """Node, operator and reason."""
        rows = tuple((one.node, one.op, str(one.reason)) for one in self)
        return Rows(("node", "op", "reason"), rows, f"{len(self)} nodes stay float")

    def __str__(self) -> str:
        return self.to_rows().to_text()


@dataclass(frozen=True, slots=True)
class WeightSite:
    """A constant input that becomes int8.

    Attributes:
        node: The layer that reads it.
        input: The index of that input.
        tensor: The constant.
        axis: One scale per index of this axis; None for one scale.
    """

    node: str
    input: int
    tensor: str
    axis: int | None


@dataclass(frozen=True, slots=True)
class Placement(Tabular):
    """Where Q/DQ goes.

    Attributes:
        activations: (node, input index, tensor) that read a per-tensor pair; one pair serves all readers of a tensor.
        weights: The constants that become int8.
        skipped: The nodes that stay float.
        groups: Tensors that take one scale, so that INT8 passes between them unchanged.
        why: (node, input index) -> the rule by which it reads INT8.
    """

    activations: tuple[tuple[str, int, str], ...]
    weights: tuple[WeightSite, ...]
    skipped: tuple[Skipped, ...]
    groups: tuple[tuple[str, ...], ...] = ()
    why: Mapping[tuple[str, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "skipped", SkippedNodes(self.skipped))

    def to_rows(self) -> Rows:
        """One row per decision: activations and weights that become INT8, then the nodes that stay float."""
        shared = {tensor for group in self.groups for tensor in group}
        rows: list[tuple[object, ...]] = [
            (
                "activation",
                tensor,
                node,
                index,
                self.why.get((node, index), "given"),
                "yes" if tensor in shared else None,
            )
            for node, index, tensor in self.activations
        ]
        for site in self.weights:
            kind = "one scale" if site.axis is None else f"scales along axis {site.axis}"
            rows.append(("weight", site.tensor, site.node, site.input, kind, None))
        rows += [("float", None, s.node, None, f"{s.op}: {s.reason}", None) for s in self.skipped]
        columns = ("kind", "tensor", "node", "input", "why", "shares_scale")
        counts = f"{len(self.tensors)} tensors and {len(self.weights)} weights in INT8"
        return Rows.of(columns, rows, f"{counts}, {len(self.skipped)} nodes stay float")

    @property
    def tensors(self) -> tuple[str, ...]:
        """The activation tensors that need a scale, in network order, each once."""
        return tuple(dict.fromkeys(tensor for _, _, tensor in self.activations))

    def per_tensor_weights(self) -> Placement:
        """The same with one scale per weight."""
        return replace(self, weights=tuple(replace(site, axis=None) for site in self.weights))

    def describe(self) -> list[str]:
        """One line per decision, in network order within each kind: for people and for diff."""
        partners = {t: [other for other in group if other != t] for group in self.groups for t in group}
        sites_of: dict[str, list[tuple[str, int]]] = {}
        for node, index, tensor in self.activations:
            sites_of.setdefault(tensor, []).append((node, index))
        lines = []
        for tensor, sites in sites_of.items():
            readers = ", ".join(f"{node}[{index}] ({self.why.get((node, index), 'given')})" for node, index in sites)
            shared = f"; one scale with {', '.join(partners[tensor])}" if tensor in partners else ""
            lines.append(f"activation {tensor}: read by {readers}{shared}")
        for site in self.weights:
            kind = "one scale" if site.axis is None else f"scales along axis {site.axis}"
            lines.append(f"weight {site.tensor}: {site.node}[{site.input}], {kind}")
        lines += [f"float {s.node} ({s.op}): {s.reason}" for s in self.skipped]
        return [printable(line) for line in lines]

    def shared_amax(self, amax: Mapping[str, np.float32]) -> dict[str, np.float32]:
        """The amax of every quantized tensor: its own, or the largest of its group."""
        given = self._given(amax)
        result = {t: given[t] for t in self.tensors if t in given}
        for group in self.groups:
            known = [given[t] for t in group if t in given]
            result |= dict.fromkeys(group, max(known)) if known else {}
        return result

    def cost_db(self, amax: Mapping[str, np.float32]) -> dict[str, float]:
        """What sharing a scale costs each tensor that gets a coarser one: dB of resolution."""
        shared, given = self.shared_amax(amax), self._given(amax)
        ratios = {t: float(shared[t]) / float(given[t]) for t in shared if given.get(t, 0) > 0}
        return {t: float(20 * np.log10(ratio)) for t, ratio in ratios.items() if ratio > 1}

    def _given(self, amax: Mapping[str, np.float32]) -> dict[str, np.float32]:
        """The amax of tensors of the prepared model, by those of the FP32 model that they were made of."""
        names = {t: calibrated_name(t, amax) for t in (*self.tensors, *(t for group in self.groups for t in group))}
        return {t: amax[name] for t, name in names.items() if name in amax}
