"""A GPU for searches that needs none: the time of an engine is a function of its model, known to the test."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import quantlab
from engine_double import FP16, INT8, HostRuntime
from models import floats
from quantlab.data import ArrayBatches, Batch
from quantlab.engines.engine import Engine
from quantlab.engines.inspector import Inspection
from quantlab.engines.table_calibrator import TableScalesCalibrator
from quantlab.onnx_model import GraphView, node_label
from quantlab.qdq.rules import WEIGHTED

OVERHEAD_US = 3.0
"""What this profiler adds to every layer."""
BORDER_US = 4.0


def layer_us(shape: tuple[int, ...], is_int8: bool) -> float:
    """Of a node by its weight's shape; INT8 is slower for some shapes."""
    number = int(hashlib.sha256(repr(shape).encode()).hexdigest()[:4], 16)
    plain = 10.0 + number % 13
    return plain * ((1.25 if number % 3 == 0 else 0.5) if is_int8 else 1.0)


def rows_and_times(model: onnx.ModelProto) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The layers of the engine of a model, and what the profiler says of them in ms."""
    view = GraphView(model)
    rows, times = [], {}
    shapes = {t.name.removesuffix("_quantized"): tuple(t.dims) for t in model.graph.initializer}
    before: dict[str, bool] = {}  # tensor -> whether an INT8 layer made it
    for node in model.graph.node:
        source = view.source(node.input[0]) if node.input else ""
        if node.op_type in WEIGHTED:
            is_int8 = view.maker(node.input[0], "DequantizeLinear") is not None
            if source in before and before[source] != is_int8:
                name = f"Reformatting CopyNode for Input Tensor 0 to {node_label(node)}"
                rows.append(_row(name, "Reformat", is_int8))
                times[name] = (BORDER_US + OVERHEAD_US) / 1000
            rows.append(_row(node_label(node), "CaskConvolution", is_int8))
            times[node_label(node)] = (
                layer_us(shapes[node.input[1].removesuffix("_dequantized")], is_int8) + OVERHEAD_US
            ) / 1000
            before.update(dict.fromkeys(node.output, is_int8))
        elif source in before:
            before.update(dict.fromkeys(node.output, before[source]))
    return rows, times


def _row(name: str, kind: str, is_int8: bool) -> dict[str, Any]:
    tensor = {"Name": name, "Format/Datatype": INT8 if is_int8 else FP16}
    return {"Name": name, "LayerType": kind, "Inputs": [tensor], "Outputs": []}


def latency_ms(model: onnx.ModelProto) -> float:
    """Of the engine of a model."""
    return sum(time - OVERHEAD_US / 1000 for time in rows_and_times(model)[1].values())


@dataclass
class TimedRuntime(HostRuntime):
    """Also counts its builds.

    Attributes:
        implicit_ms: Latency of an engine with TensorRT's own choice.
    """

    implicit_ms: float = 1.0
    built: list[str] = field(default_factory=list)

    def build(self, model: Any, options: Any, int8: Any = None) -> Engine:
        engine = super().build(model, options, int8)
        self.built.append(hashlib.sha256(engine.plan).hexdigest())
        return engine

    def inspect(self, engine: Engine, batch: Batch, runs: int = 20) -> Inspection:
        return Inspection(*rows_and_times(onnx.load_from_string(engine.plan)))

    def bench(self, _: Any, engines: Mapping[str, Engine], __: Any, ___: Any) -> list[Any]:
        """In place of `quantlab.tune.trials.bench`."""
        rows = []
        for name, engine in engines.items():
            implicit = TableScalesCalibrator.__name__ in engine.record.int8 or "Table" in engine.record.int8
            time = self.implicit_ms if implicit else latency_ms(onnx.load_from_string(engine.plan))
            rows.append(SimpleNamespace(name=name, rounds_ms=(time,) * 3))
        return rows


CHANNELS = (3, 8, 8, 8, 12, 12, 8, 16, 16, 8)


def deep_net(layers: int = 9) -> onnx.ModelProto:
    """Convolutions in a row, three of them the same, pooled to 4 classes."""
    nodes, weights, last = [], [], "x"
    for k in range(layers):
        shape = (CHANNELS[k + 1], CHANNELS[k], 3, 3)
        weights.append(numpy_helper.from_array(floats(*shape, seed=k, scale=0.3), f"w{k}"))
        nodes.append(helper.make_node("Conv", [last, f"w{k}"], [f"c{k}"], f"conv{k}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"], f"relu{k}"))
        last = f"r{k}"
    weights.append(numpy_helper.from_array(floats(CHANNELS[layers], 4, seed=99), "wg"))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "wg"], ["y"], "fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 3, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4, 4])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def images(count: int = 16, seed: int = 3) -> ArrayBatches:
    """For `deep_net`."""
    x = np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)
    return ArrayBatches({"x": x}, batch_size=4)


def noise_of(model: onnx.ModelProto, table: quantlab.CalibrationTable) -> list[float]:
    """What INT8 in each region alone adds, by one comparison each."""
    from quantlab.tune.regions import regions_of

    noise = []
    for region in regions_of(quantlab.qdq.prepare(model)).regions:
        made = quantlab.quantize(model, table, selection=quantlab.Selection(include=(region.name,)))
        row = quantlab.compare(model, {"q": made}, images()).results[1]
        noise.append(10 ** (-row.worst_sqnr_db / 10))
    return noise


def folder_files(folder: Path) -> dict[str, bytes]:
    """Name -> content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
