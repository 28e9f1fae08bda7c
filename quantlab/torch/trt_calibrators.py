"""quantlab's calibrators over the bases of Torch-TensorRT, for its TorchScript compiler: `calibrator=` of its compile.

The compiler takes no other base, TensorRT's own neither (2.2.0, whatever its documentation says). What goes wrong in a
callback is swallowed as by TensorRT: call `raise_problem()` after the compilation, or use a `with` statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quantlab.engines.stream_calibrator import StreamCalibrator
from quantlab.torch.package import torch_tensorrt_core
from quantlab.trt.features import FEATURES, VERSION

__all__ = ["EntropyCalibrator", "EntropyCalibrator2", "MinMaxCalibrator"]
_CORE: Any = torch_tensorrt_core()


class _ByPlace(StreamCalibrator):
    """Torch-TensorRT calls the inputs of every network `input_0`, `input_1`, ...: the batch's own, in order."""

    tensorrt = VERSION
    int64 = FEATURES.int64

    def get_batch(self, names: Sequence[str]) -> list[int] | None:
        """Device addresses of the next batch, or None at the end."""
        return super().get_batch(self._names_of(names))

    def read_calibration_cache(self) -> bytes:  # the binding takes buffers only
        """The cache to use in place of batches; empty for none."""
        return super().read_calibration_cache() or b""

    def _names_of(self, names: Sequence[str]) -> list[str]:
        try:
            places = [int(name.removeprefix("input_")) for name in names]
            known = [spec.name for spec in self.feeder.specs]
            return [known[place] for place in places]
        except BaseException as error:  # nothing may leave a callback
            self._problem = self._problem or error
            return list(names)


class EntropyCalibrator2(_ByPlace, _CORE.IInt8EntropyCalibrator2):  # type: ignore[misc]
    """TensorRT's default: entropy, every tensor of the network before fusion."""

    trt_base = _CORE.IInt8EntropyCalibrator2
    algorithm = "EntropyCalibration2"


class MinMaxCalibrator(_ByPlace, _CORE.IInt8MinMaxCalibrator):  # type: ignore[misc]
    """The largest magnitude of every tensor; NVIDIA's advice for transformers."""

    trt_base = _CORE.IInt8MinMaxCalibrator
    algorithm = "MinMaxCalibration"


class EntropyCalibrator(_ByPlace, _CORE.IInt8EntropyCalibrator):  # type: ignore[misc]
    """The first entropy calibrator: the same arithmetic, only tensors that survive fusion."""

    trt_base = _CORE.IInt8EntropyCalibrator
    algorithm = "EntropyCalibration"
