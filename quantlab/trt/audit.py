"""What TensorRT shows of an engine: the engine inspector and the per-layer profile."""

from __future__ import annotations

import onnx

from quantlab.data import Batch
from quantlab.engines.audit import Audit, audit_inspection
from quantlab.engines.engine import Engine
from quantlab.engines.inspector import Inspection, layer_rows
from quantlab.trt.features import trt
from quantlab.trt.run import Lane, Runner

RUNS = 20


def audit(engine: Engine, proto: onnx.ModelProto, batch: Batch, runs: int = RUNS) -> Audit:
    """Inspect and profile an engine, and map it back to its model.

    Args:
        engine: Built with details.
        proto: The model that it was built from.
        batch: To run it on.
        runs: How often, for the times.

    Returns:
        What of the model runs in INT8.

    Raises:
        BuildError: The engine was built without details.
    """
    return audit_inspection(inspect(engine, batch, runs), engine, proto)


def inspect(engine: Engine, batch: Batch, runs: int = RUNS) -> Inspection:
    """Look into an engine. See `quantlab.engines.runtime.Runtime.inspect`."""
    with Runner(engine) as runner:
        lane = runner.lane
        lane(batch)
        inspector = runner.cuda_engine.create_engine_inspector()
        inspector.execution_context = lane.context  # without shapes every format reads N/A
        rows = layer_rows(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        del inspector
        return Inspection(rows, _profile(lane, runs))


class _Profiler(trt.IProfiler):  # type: ignore[misc]
    def __init__(self) -> None:
        trt.IProfiler.__init__(self)
        self.total_ms: dict[str, float] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """TensorRT calls this for every layer of every run."""
        self.total_ms[layer_name] = self.total_ms.get(layer_name, 0.0) + ms


def _profile(lane: Lane, runs: int) -> dict[str, float]:
    """Mean milliseconds per layer name."""
    lane.enqueue()
    lane.driver.synchronize(lane.stream)
    profiler = _Profiler()
    lane.context.profiler = profiler
    for _ in range(runs):
        lane.enqueue()
        lane.driver.synchronize(lane.stream)
    return {name: total / runs for name, total in profiler.total_ms.items()}
