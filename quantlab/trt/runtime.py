"""`quantlab.engines.runtime.Runtime` by TensorRT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from quantlab.calibration import CalibrationTable
from quantlab.data import Batch, Batches
from quantlab.engines.engine import Engine
from quantlab.engines.inspector import Inspection
from quantlab.engines.int8 import Int8Source
from quantlab.engines.options import BuildOptions
from quantlab.engines.stream_calibrator import CalibratorOptions
from quantlab.trt.audit import RUNS, inspect
from quantlab.trt.build import build
from quantlab.trt.run import Runner

if TYPE_CHECKING:
    from quantlab.engines.runtime import Runtime


class TensorrtRuntime:
    """Builds and runs engines on the GPU of this machine."""

    def build(self, model: onnx.ModelProto, options: BuildOptions, int8: Int8Source | None = None) -> Engine:
        """See `quantlab.trt.build.build`."""
        return build(model, options, int8)

    def open(self, engine: Engine, provider: str | None = None) -> Runner:
        """See `quantlab.trt.run.Runner`."""
        return Runner(engine, provider)

    def inspect(self, engine: Engine, batch: Batch, runs: int = RUNS) -> Inspection:
        """See `quantlab.trt.audit.inspect`."""
        return inspect(engine, batch, runs)

    def stream_calibrator(self, name: str, batches: Batches, options: CalibratorOptions | None = None) -> Int8Source:
        """One of TensorRT's own. See `quantlab.engines.runtime.Runtime.stream_calibrator`."""
        from quantlab.trt.calibrators import CALIBRATORS  # where TensorRT has none, importing it says so

        return CALIBRATORS[name](batches, options)

    def table_calibrator(self, table: CalibrationTable) -> Int8Source:
        """A `quantlab.trt.calibrators.TableCalibrator`; MissingDependencyError if this TensorRT has none."""
        from quantlab.trt.calibrators import TableCalibrator

        return TableCalibrator(table)


if TYPE_CHECKING:
    _RUNTIME: Runtime = TensorrtRuntime()
