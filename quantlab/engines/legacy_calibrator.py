"""TensorRT's percentile calibrator, without TensorRT."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from quantlab.data import Batch, Batches
from quantlab.engines.stream_calibrator import CalibratorOptions, StreamCalibrator
from quantlab.errors import ConfigError
from quantlab.onnx_model import TensorSpec


def legacy_header(quantile: float, regression_cutoff: float) -> str:
    """The first line of a legacy calibrator's cache.

    Args:
        quantile: Share of the values that is kept, 0..1.
        regression_cutoff: TensorRT's name, 0..1.

    Returns:
        Cutoff and quantile as the bits of float64, in hex without zeros in front.
    """
    return f"0 {_bits(regression_cutoff)} {_bits(quantile)}"


def _bits(value: float) -> str:
    return f"{int.from_bytes(struct.pack('>d', value), 'big'):x}"


class LegacyStreamCalibrator(StreamCalibrator):
    """See `StreamCalibrator`.

    Args:
        batches, options, inputs, model_hash, cache: See there.
        quantile: Share of the values to keep, 0..1.
        regression_cutoff: 0..1, TensorRT's name.

    Raises:
        ConfigError: One of them is outside of 0..1.
    """

    algorithm = "LegacyCalibration"

    def __init__(
        self,
        batches: Batches | Callable[[], Iterable[Batch]],
        options: CalibratorOptions | None = None,
        *,
        quantile: float = 0.9999,
        regression_cutoff: float = 1.0,
        inputs: Sequence[TensorSpec] | None = None,
        model_hash: str = "",
        cache: str | Path | None = None,
    ) -> None:
        for name, value in (("quantile", quantile), ("regression_cutoff", regression_cutoff)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} {value} is not in [0, 1]", hint="0.9999 and 1.0 are usual")
        self._quantile, self._cutoff = quantile, regression_cutoff
        super().__init__(batches, options, inputs=inputs, model_hash=model_hash, cache=cache)
        self.algorithm = f"LegacyCalibration {quantile:g} {regression_cutoff:g}"

    @property
    def header(self) -> str:
        """The legacy calibrator's first line."""
        return legacy_header(self._quantile, self._cutoff)

    def get_quantile(self) -> float:
        """Share of the values to keep."""
        return self._quantile

    def get_regression_cutoff(self) -> float:
        """1.0 switches TensorRT's search off, so that the quantile alone decides."""
        return self._cutoff

    def read_histogram_cache(self, length: int) -> None:
        """No histogram is kept between builds."""

    def write_histogram_cache(self, data: object, length: int = 0) -> None:
        """No histogram is kept between builds."""
