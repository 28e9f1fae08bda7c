"""TensorRT's INT8 calibrators over any stream of batches: plain classes to use, subclass and `isinstance`.

They work in a bare TensorRT script (`config.int8_calibrator = EntropyCalibrator2(batches)`), in Polygraphy's
`CreateConfig(int8=True, calibrator=...)` and in `quantlab.trt.build`. TensorRT swallows what goes wrong in a callback,
so call `raise_problem()` after the build, or use the calibrator in a `with` statement, which does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from quantlab.calibration.cache_record import CacheRecord, refusals, save_cache
from quantlab.calibration.feeder import BatchFeeder, fingerprint
from quantlab.calibration.trt_cache import TrtCache, version_digits
from quantlab.data.batches import Batches
from quantlab.data.preprocess import recorded
from quantlab.errors import ConfigError, DataError
from quantlab.memory import DeviceMemory, open_memory
from quantlab.model import TensorSpec
from quantlab.trt.features import VERSION, trt
from quantlab.trt.table_calibrator import TableCalibrator

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


@dataclass(frozen=True, slots=True)
class CalibratorOptions:
    """cache: file to reuse and write. trust_cache: use a cache that has no fitting record all the same.
    expected_batches: a shorter stream is an error (default: its length, where it has one).
    open_memory: device memory, by default of the first provider installed."""

    cache: Path | None = None
    trust_cache: bool = False
    expected_batches: int | None = None
    open_memory: Callable[[], DeviceMemory] = open_memory


class StreamCalibrator:
    """What all calibrators share. The bound TensorRT class comes second in each class below.

    inputs: the network's inputs (`network_inputs(network)`, or `quantlab.model.input_specs(proto)`); without them the
    first batch sets what the others must be. model_hash: names the model in the cache's record.
    """

    trt_base: Any = None
    algorithm = ""

    def __init__(
        self,
        batches: Batches,
        options: CalibratorOptions | None = None,
        *,
        inputs: Sequence[TensorSpec] | None = None,
        model_hash: str = "",
    ) -> None:
        self.trt_base.__init__(self)  # must be called by name, or the process dies
        self.options = options or CalibratorOptions()
        if isinstance(batches, Iterator):
            raise ConfigError(
                f"batches are a {type(batches).__name__}, which can be read only once",
                hint="pass a list, or quantlab.IterableBatches(function)",
            )
        self.batches = batches
        self.model_hash = model_hash
        self.gpu = ""
        self.tensors: tuple[str, ...] = ()
        self.used_cache = False
        self.written: bytes | None = None
        self._problem: BaseException | None = None
        self._checked = False
        self._batch_size = 0
        self._feeder: BatchFeeder | None = None
        if inputs is not None:
            self.bind(inputs)

    def bind(self, inputs: Sequence[TensorSpec]) -> None:
        """Tell the network's inputs, before TensorRT asks for the first batch."""
        self._feeder = BatchFeeder(self.batches, inputs, self.options.open_memory, self.options.expected_batches)
        sizes = {s.shape[0] for s in inputs if s.shape and isinstance(s.shape[0], int)}
        self._batch_size = sizes.pop() if len(sizes) == 1 else 0

    @property
    def feeder(self) -> BatchFeeder:
        """The stream of batches; made from the first batch where the inputs were not told."""
        if self._feeder is None:
            self.bind(_specs_of_first(self.batches))
        assert self._feeder is not None
        return self._feeder

    def check_cache(self) -> bool:
        """True if the cache file exists and fits; DataError with the reasons if it exists and does not."""
        path = self.options.cache
        if path is None or not path.exists():
            return False
        if self.options.trust_cache:
            TrtCache.load(path)
        elif not self._checked:
            reasons = refusals(path, self._expected_record(), self.tensors)
            if reasons:
                raise DataError(
                    f"calibration cache {path} is not used: {'; '.join(reasons)}",
                    hint=f"delete {path} to calibrate again, or pass trust_cache to use it all the same",
                )
        self._checked = True
        return True

    def _expected_record(self) -> CacheRecord:
        """What this calibration would write; the data are read once to be hashed."""
        data_hash, batches, batch_size = fingerprint(self.batches)
        return replace(self._record(), data_hash=data_hash, batches=batches, batch_size=batch_size)

    def _record(self) -> CacheRecord:
        return CacheRecord(
            algorithm=self.algorithm,
            model_hash=self.model_hash,
            data_hash=self.feeder.data_hash,
            preprocess=recorded(self.batches),
            batch_size=self.feeder.batch_size,
            batches=self.feeder.count,
            tensorrt=VERSION,
            gpu=self.gpu,
        )

    # --- TensorRT's callbacks; none of them may raise

    def get_batch_size(self) -> int:
        """Samples per batch. TensorRT divides nothing by it; networks with explicit batch carry it in the shape."""
        try:
            return self._batch_size or _batch_size_of_first(self.batches)
        except BaseException as error:
            self._problem = self._problem or error
            return 1

    def get_batch(self, names: Sequence[str]) -> list[int] | None:
        """Device addresses of the next batch; None at the end, or after an error, which is kept."""
        if self.used_cache and self._problem is None:
            self._problem = DataError(
                f"TensorRT refused the calibration cache {self.options.cache}", hint="delete it to calibrate again"
            )
        if self._problem is not None:
            return None
        try:
            return self.feeder.next_batch(names)
        except BaseException as error:
            self._problem = error
            return None

    def read_calibration_cache(self) -> bytes | None:
        """The cache to use in place of batches, or None."""
        try:
            if self._problem is None and self.written is None and self.check_cache():
                assert self.options.cache is not None
                self.used_cache = True
                cache = TrtCache.load(self.options.cache)
                # TensorRT refuses a first line of another calibrator; whoever trusts the cache has decided already
                return TrtCache(self.header, cache.scales).to_bytes() if self.options.trust_cache else cache.to_bytes()
        except BaseException as error:
            self._problem = error
        return None

    def write_calibration_cache(self, cache: object) -> None:
        """Keep what TensorRT calibrated; it is written to the file only if nothing went wrong."""
        self.written = bytes(memoryview(cache))  # type: ignore[arg-type]  # TensorRT passes a buffer
        try:
            if self.options.cache is not None and not self.used_cache and self._first_problem() is None:
                save_cache(self.options.cache, self.written, self._record())
        except BaseException as error:
            self._problem = self._problem or error

    # --- after the build

    @property
    def error(self) -> BaseException | None:
        """What went wrong in a callback so far."""
        return self._problem or (self._feeder.error if self._feeder is not None else None)

    @property
    def header(self) -> str:
        """The first line of this calibrator's caches."""
        return f"TRT-{version_digits(VERSION)}-{self.algorithm}"

    def _first_problem(self) -> BaseException | None:
        if self._problem is not None or self.used_cache:
            return self._problem
        try:
            self.feeder.raise_problem()
        except BaseException as error:
            return error
        return None

    def raise_problem(self) -> None:
        """Raise the first error of the calibration, with its batch number; free the device memory in any case."""
        self.close()
        problem = self._first_problem()
        if problem is not None:
            raise problem

    @property
    def warnings(self) -> tuple[str, ...]:
        """Facts about the calibration that its user must know."""
        return self._feeder.warnings if self._feeder is not None else ()

    def close(self) -> None:
        """Free the device memory."""
        if self._feeder is not None:
            self._feeder.close()

    def __enter__(self) -> StreamCalibrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise what went wrong in the calibration, unless the calibrator was never asked for anything."""
        asked = self._feeder is not None and (self._feeder.count or self._feeder.ended or self._feeder.error)
        if kind is None and (asked or self._problem is not None):
            self.raise_problem()
        self.close()


class EntropyCalibrator2(StreamCalibrator, trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
    """TensorRT's default: entropy, every tensor of the network before fusion."""

    trt_base = trt.IInt8EntropyCalibrator2
    algorithm = "EntropyCalibration2"


class MinMaxCalibrator(StreamCalibrator, trt.IInt8MinMaxCalibrator):  # type: ignore[misc]
    """The largest magnitude of every tensor; NVIDIA's advice for transformers."""

    trt_base = trt.IInt8MinMaxCalibrator
    algorithm = "MinMaxCalibration"


class EntropyCalibrator(StreamCalibrator, trt.IInt8EntropyCalibrator):  # type: ignore[misc]
    """The first entropy calibrator: the same arithmetic, only tensors that survive fusion."""

    trt_base = trt.IInt8EntropyCalibrator
    algorithm = "EntropyCalibration"


class LegacyCalibrator(StreamCalibrator, trt.IInt8LegacyCalibrator):  # type: ignore[misc]
    """TensorRT's percentile calibrator. quantile, regression_cutoff: 0..1, TensorRT's names."""

    trt_base = trt.IInt8LegacyCalibrator
    algorithm = "LegacyCalibration"

    def __init__(
        self,
        batches: Batches,
        options: CalibratorOptions | None = None,
        *,
        quantile: float = 0.9999,
        regression_cutoff: float = 1.0,
        inputs: Sequence[TensorSpec] | None = None,
        model_hash: str = "",
    ) -> None:
        for name, value in (("quantile", quantile), ("regression_cutoff", regression_cutoff)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} {value} is not in [0, 1]", hint="0.9999 and 1.0 are usual")
        self._quantile, self._cutoff = quantile, regression_cutoff
        StreamCalibrator.__init__(self, batches, options, inputs=inputs, model_hash=model_hash)
        self.algorithm = f"LegacyCalibration {quantile:g} {regression_cutoff:g}"

    @property
    def header(self) -> str:
        """The legacy calibrator's first line: cutoff and quantile as the bits of float64."""
        return f"0 {struct.pack('>d', self._cutoff).hex()} {struct.pack('>d', self._quantile).hex()}"

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


CALIBRATORS: dict[str, type[StreamCalibrator]] = {
    "entropy2": EntropyCalibrator2,
    "minmax": MinMaxCalibrator,
    "entropy": EntropyCalibrator,
    "legacy": LegacyCalibrator,
}
"""By the names the CLI knows."""


def _specs_of_first(batches: Batches) -> list[TensorSpec]:
    first = next(iter(batches), None)
    if first is None:
        raise DataError("there are no calibration batches", hint="the stream is empty: check the data")
    return [TensorSpec(name, np.asarray(x).dtype, (None, *np.asarray(x).shape[1:])) for name, x in first.items()]


def _batch_size_of_first(batches: Batches) -> int:
    first = next(iter(batches), None)
    if not first:
        raise DataError("there are no calibration batches", hint="the stream is empty: check the data")
    return int(next(iter(first.values())).shape[0])
