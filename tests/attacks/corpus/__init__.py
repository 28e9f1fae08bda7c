"""Models as no tutorial has them: every kind that an exporter, a tool or an accident writes. Seeded and small."""

from __future__ import annotations

from collections.abc import Iterator

from corpus.control_flow import control_flow, functions
from corpus.inputs import inputs
from corpus.names import names
from corpus.nets import Case
from corpus.plugins import plugins
from corpus.quantized import quantized
from corpus.structure import structure
from corpus.values import values
from corpus.versions import tasks, versions

__all__ = ["Case", "corpus"]


def corpus() -> Iterator[Case]:
    """All of it."""
    for family in (plugins, control_flow, functions, quantized, inputs, names, structure, values, versions, tasks):
        yield from family()
