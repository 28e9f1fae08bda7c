"""TensorRT's INT8 calibrators over any stream of batches: plain classes to use, subclass and `isinstance`.

They work in a bare TensorRT script (`config.int8_calibrator = EntropyCalibrator2(batches)`), in Polygraphy's
`CreateConfig(int8=True, calibrator=...)` and in `quantlab.trt.build`. TensorRT swallows what goes wrong in a callback,
so call `raise_problem()` after the build, or use the calibrator in a `with` statement, which does.
"""

from __future__ import annotations

from typing import Any

from quantlab.engines.legacy_calibrator import LegacyStreamCalibrator
from quantlab.engines.stream_calibrator import CalibratorOptions, StreamCalibrator
from quantlab.engines.table_calibrator import TableScalesCalibrator
from quantlab.trt.features import FEATURES, VERSION, require_calibrators, trt
from quantlab.trt.network import network_layers

require_calibrators()

__all__ = [
    "CALIBRATORS",
    "CalibratorOptions",
    "EntropyCalibrator",
    "EntropyCalibrator2",
    "LegacyCalibrator",
    "MinMaxCalibrator",
    "StreamCalibrator",
    "TableCalibrator",
]


class EntropyCalibrator2(StreamCalibrator, trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
    """TensorRT's default: entropy, every tensor of the network before fusion."""

    trt_base = trt.IInt8EntropyCalibrator2
    algorithm = "EntropyCalibration2"
    tensorrt = VERSION
    int64 = FEATURES.int64


class MinMaxCalibrator(StreamCalibrator, trt.IInt8MinMaxCalibrator):  # type: ignore[misc]
    """The largest magnitude of every tensor; NVIDIA's advice for transformers."""

    trt_base = trt.IInt8MinMaxCalibrator
    algorithm = "MinMaxCalibration"
    tensorrt = VERSION
    int64 = FEATURES.int64


class EntropyCalibrator(StreamCalibrator, trt.IInt8EntropyCalibrator):  # type: ignore[misc]
    """The first entropy calibrator: the same arithmetic, only tensors that survive fusion."""

    trt_base = trt.IInt8EntropyCalibrator
    algorithm = "EntropyCalibration"
    tensorrt = VERSION
    int64 = FEATURES.int64


class LegacyCalibrator(LegacyStreamCalibrator, trt.IInt8LegacyCalibrator):  # type: ignore[misc]
    """TensorRT's percentile calibrator. quantile, regression_cutoff: 0..1, TensorRT's names."""

    trt_base = trt.IInt8LegacyCalibrator
    tensorrt = VERSION
    int64 = FEATURES.int64


class TableCalibrator(TableScalesCalibrator, trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
    """Hands TensorRT the scales of a `CalibrationTable` from any algorithm: no batch is asked for."""

    trt_base = trt.IInt8EntropyCalibrator2
    tensorrt = VERSION

    def complete(self, network: Any) -> None:
        """Add what only TensorRT's network has (see `complete_table`). A bare script must call it after parsing where
        the network has a Gemm, or the layers around it run in float; `quantlab.trt.build` does."""
        self.complete_with(network_layers(network))


CALIBRATORS: dict[str, type[StreamCalibrator]] = {
    "entropy2": EntropyCalibrator2,
    "minmax": MinMaxCalibrator,
    "entropy": EntropyCalibrator,
    "legacy": LegacyCalibrator,
}
"""By the names of `quantlab.engines.choose_int8.CALIBRATORS`."""
