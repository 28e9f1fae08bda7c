"""What TensorRT's INT8 calibrators do over any stream of batches, without TensorRT: batches, cache, errors.

The classes that TensorRT takes are in `quantlab.trt.calibrators`: these here first, TensorRT's bases second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from quantlab.calibration.cache_header import version_digits
from quantlab.calibration.cache_record import CacheRecord, refusals, save_cache
from quantlab.calibration.feeder import BatchFeeder, fingerprint
from quantlab.calibration.trt_cache import TrtCache
from quantlab.data import Batch, Batches, BatchSize, IterableBatches, stream_facts
from quantlab.data.batches import require_stream
from quantlab.data.facts import device_view
from quantlab.engines.int8 import CalibratorConfig, ParsedNetwork
from quantlab.engines.network import WHOLE_NETWORK, cached_tensors
from quantlab.errors import ConfigError, DataError, Notice
from quantlab.files import is_file
from quantlab.memory import DeviceMemory, open_memory
from quantlab.memory.buffers import device_address
from quantlab.onnx_model import TensorSpec


@dataclass(frozen=True, slots=True)
class CalibratorOptions:
    """How a calibrator works.

    Attributes:
        cache: File to reuse and write.
        trust_cache: Use a cache that has no fitting record all the same.
        expected_batches: A shorter stream is an error (default: its length, where it has one).
        open_memory: Device memory, by default of the first provider installed.
    """

    cache: Path | None = None
    trust_cache: bool = False
    expected_batches: int | None = None
    open_memory: Callable[[], DeviceMemory] = open_memory


class StreamCalibrator:
    """What all calibrators share. A bound class of TensorRT comes second among the bases.

    Args:
        batches: Re-iterable, or a function that gives an iterator over them anew each time.
        options: Cache, expected length, device memory.
        inputs: The network's inputs (`quantlab.onnx_model.input_specs(proto)`); without them the first batch sets what
            the others must be.
        model_hash: Names the model in the cache's record.
        cache: That of the options, by Polygraphy's name.

    Raises:
        ConfigError: `batches` can be read only once or not at all, or two caches were given.
    """

    trt_base: Any = object
    algorithm = ""
    tensorrt = ""
    """The version that calibrates; it stands in caches and their records."""
    int64 = False
    """Whether it has 64-bit integers; without them its parser makes int32 of such inputs."""

    def __init__(
        self,
        batches: Batches | Callable[[], Iterable[Batch]],
        options: CalibratorOptions | None = None,
        *,
        inputs: Sequence[TensorSpec] | None = None,
        model_hash: str = "",
        cache: str | Path | None = None,
    ) -> None:
        self.trt_base.__init__(self)  # must be called by name, or the process dies
        self.options = options or CalibratorOptions()
        if cache is not None and self.options.cache is not None:
            raise ConfigError("cache and options.cache were both given", hint="give one of them")
        if cache is not None:
            self.options = replace(self.options, cache=Path(cache))
        if not isinstance(batches, Iterable) and callable(batches):
            batches = IterableBatches(batches)
        require_stream(batches)
        self.batches = batches
        self.model_hash = model_hash
        self.used_cache = False
        self.written: bytes | None = None
        self._gpu = ""
        self._tensors: tuple[str, ...] = ()
        self._problem: BaseException | None = None
        self._checked = False
        self._batch_size = 0
        self._feeder: BatchFeeder | None = None
        if inputs is not None:
            self.bind(inputs)

    def bind(self, inputs: Sequence[TensorSpec]) -> None:
        """Fix the network's inputs, before TensorRT asks for the first batch; those of the ONNX model will do."""
        inputs = [self._parsed(spec) for spec in inputs]
        self._feeder = BatchFeeder(self.batches, inputs, self.options.open_memory, self.options.expected_batches)
        self._batch_size = BatchSize.of(inputs).fixed or 0

    def _parsed(self, spec: TensorSpec) -> TensorSpec:
        """An input as TensorRT's parser makes it. A calibrator hands over bare addresses: another type than the
        network's would be read as other numbers, in silence."""
        if spec.dtype == np.float64:
            raise DataError(
                f"input '{spec.name}': TensorRT has no float64", hint="convert the batches with astype(numpy.float32)"
            )
        return replace(spec, dtype=np.dtype(np.int32)) if spec.dtype == np.int64 and not self.int64 else spec

    def prepare(self, network: ParsedNetwork, config: CalibratorConfig) -> None:
        """Become the calibrator of a build; DataError if the cache file exists and does not fit.

        See `Int8Source.prepare`.
        """
        self.model_hash, self._gpu = self.model_hash or network.model_hash, network.gpu
        inputs = network.inputs()
        if self.algorithm in WHOLE_NETWORK:
            self._tensors = cached_tensors([spec.name for spec in inputs], network.layers())
        self.bind(inputs)
        self.check_cache()
        network.attach(self, config)

    def __deepcopy__(self, memo: dict[int, object]) -> StreamCalibrator:
        """Itself: who copies settings, as Torch-TensorRT does, means this calibrator, its stream and its memory."""
        return self

    @property
    def description(self) -> str:
        """The algorithm, for the engine's record."""
        return self.algorithm

    @property
    def feeder(self) -> BatchFeeder:
        """The stream of batches; made from the first batch where the inputs are not known."""
        if self._feeder is None:
            self.bind(_specs_of(_first_of(self.batches)))
        assert self._feeder is not None
        return self._feeder

    def check_cache(self) -> bool:
        """True if the cache file exists and fits; DataError with the reasons if it exists and does not."""
        path = self.options.cache
        if path is None or not is_file(path):
            return False
        if self.options.trust_cache:
            TrtCache.load(path)
        elif not self._checked:
            reasons = refusals(path, self._expected_record(), self._tensors)
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
            preprocess=stream_facts(self.batches).preprocess,
            batch_size=self.feeder.batch_size,
            batches=self.feeder.count,
            tensorrt=self.tensorrt,
            gpu=self._gpu,
        )

    # --- TensorRT's callbacks; none of them may raise

    def get_batch_size(self) -> int:
        """Samples per batch. TensorRT divides nothing by it; networks with explicit batch carry it in the shape."""
        try:
            return self._batch_size or int(next(iter(_first_of(self.batches).values())).shape[0])
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

    def write_calibration_cache(self, cache: Any) -> None:
        """Keep what TensorRT calibrated (a buffer); it is written to the file only if nothing went wrong."""
        self.written = bytes(memoryview(cache))
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
        return f"TRT-{version_digits(self.tensorrt)}-{self.algorithm}"

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
    def warnings(self) -> tuple[Notice, ...]:
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


def _first_of(batches: Batches) -> Batch:
    first = next(iter(device_view(batches)), None)
    if not first:
        raise DataError("there are no calibration batches", hint="the stream is empty: check the data")
    return first


def _specs_of(batch: Batch) -> list[TensorSpec]:
    layouts = {name: device_address(x) or (0, np.shape(x), np.asarray(x).dtype) for name, x in batch.items()}
    return [TensorSpec(name, dtype, (None, *shape[1:])) for name, (_, shape, dtype) in layouts.items()]
