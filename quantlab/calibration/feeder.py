"""What a TensorRT calibrator needs, without TensorRT: batches on the device, one after another, checked, counted.

TensorRT takes None from `get_batch` as the end of the data and swallows exceptions, so that a loader which fails in the
middle gives a calibration on too few batches, in silence. The feeder keeps the first error with its batch number and
counts what was asked for; `raise_problem` after the build brings it out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from quantlab.data import Batch, Batches, BatchSize, WholeBatches, check_batch, stream_facts
from quantlab.data.batches import batch_length
from quantlab.data.check import check_names, check_shape, narrowed
from quantlab.data.facts import device_view
from quantlab.data.hash import hash_batch
from quantlab.errors import DataError, Notice, QuantlabError
from quantlab.memory.buffers import DeviceMemory, device_address, require_device
from quantlab.onnx_model import TensorSpec

ON_DEVICE = b"on device"  # data on the device are not read back to be hashed
_NOT_HASHED = Notice(
    "the batches stayed on the device and were not hashed: a calibration cache is not refused for other data of the "
    "same preprocess and number",
    "other_origin",
)
_SLOTS = 2  # one batch is calibrated while the next is loaded and staged


class BatchFeeder:
    """Streams batches to device memory, the next one loading while TensorRT works on this one.

    Data on the device already (`__cuda_array_interface__`, or `on_device()` of the stream) is passed on as it is. Who
    made it may write the next batch to the same place: that one is then loaded when TensorRT asks for it, not before.
    A last batch that is smaller than the others is left out and reported in `warnings`.

    Args:
        batches: Re-iterable.
        specs: The network's inputs, with the shapes of the calibration profile.
        open_memory: Device memory to upload to.
        expected: How many batches there must be; by default `len(batches)` where it is known.

    Attributes:
        specs: As given.
        expected: As given, or found.
        count: Batches fed so far.
        samples: Samples fed so far.
        batch_size: Samples of the first batch.
        ended: Whether the stream has ended without an error.
        error: The first error of the stream.
    """

    def __init__(
        self,
        batches: Batches,
        specs: Sequence[TensorSpec],
        open_memory: Callable[[], DeviceMemory],
        expected: int | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self.expected = expected if expected is not None else stream_facts(batches).batches
        self.count = self.samples = self.batch_size = 0
        self.ended = False
        self.error: BaseException | None = None
        self._batches = WholeBatches(device_view(batches), _size, BatchSize.of(self.specs).fixed)
        self._open_memory = open_memory
        self._digest, self._on_device = hashlib.sha256(), False
        self._source: Iterator[Batch] | None = None
        self._loader: ThreadPoolExecutor | None = None
        self._next: Future[Batch | None] | None = None
        self._memory: DeviceMemory | None = None
        self._held: Batch | None = None  # TensorRT reads it until it asks for the next

    def next_batch(self, names: Sequence[str]) -> list[int] | None:
        """Device addresses of one batch in the order of `names`; None at the end or after an error. Never raises."""
        if self.ended or self.error is not None:
            return None
        try:
            return self._advance(names)
        except BaseException as error:  # whatever it is, TensorRT must not see it
            self.error = _with_batch_number(error, self.count)
            self.close()
            return None

    def _advance(self, names: Sequence[str]) -> list[int] | None:
        if self._memory is None:
            self._memory = self._open_memory().__enter__()
            self._source = iter(self._batches)
            self._loader = ThreadPoolExecutor(1, thread_name_prefix="quantlab-feeder")
        assert self._loader is not None
        if self._next is None:
            self._memory.driver.synchronize_device()  # TensorRT may still read the batch before
            self._held = None
            self._next = self._loader.submit(self._load)
        batch = self._next.result()
        if batch is None:
            self.ended = True
            self.close()
            return None
        addresses = self._place(batch, names)
        self._held = batch
        is_placed = any(device_address(x) is not None for x in batch.values())
        self._next = None if is_placed else self._loader.submit(self._load)
        return addresses

    def _load(self) -> Batch | None:
        assert self._source is not None
        return next(self._source, None)

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """What was left out of the data, and what its record cannot say, once the stream has ended."""
        if not self.ended:
            return ()
        return (*self._batches.notices(), *((_NOT_HASHED,) if self._on_device else ()))

    def _place(self, batch: Batch, names: Sequence[str]) -> list[int]:
        assert self._memory is not None
        if missing := sorted(set(names) ^ {s.name for s in self.specs}):
            raise DataError(
                f"TensorRT asks for input(s) {', '.join(names)}, the network has others: {missing}",
                hint="bind the calibrator with network_inputs(network) of the network that is built",
            )
        fed = narrowed(batch, self.specs)
        check_names(fed, self.specs)
        placed = {n: found for n, x in fed.items() if (found := device_address(x)) is not None}
        on_host = [spec for spec in self.specs if spec.name not in placed]
        check_batch({spec.name: fed[spec.name] for spec in on_host}, on_host)
        for spec in self.specs:
            if spec.name in placed:
                address, shape, dtype = placed[spec.name]
                check_shape(spec, dtype, shape)
                require_device(self._memory.driver, spec.name, address)
        if placed:
            self._memory.driver.synchronize_device()  # whatever still writes the batch, in any stream
            self._on_device = True
            self._digest.update(ON_DEVICE)
        else:
            hash_batch(self._digest, batch)  # as it is: the same data have the same hash wherever they calibrate
        addresses = [self._address(name, fed[name]) for name in names]
        self.batch_size = self.batch_size or _size(batch)
        self.samples += _size(batch)
        self.count += 1
        return addresses

    def _address(self, name: str, value: Any) -> int:
        assert self._memory is not None
        placed = device_address(value)
        if placed is None:
            return self._memory.upload(f"{name}/{self.count % _SLOTS}", np.ascontiguousarray(value))
        return placed[0]

    @property
    def data_hash(self) -> str:
        """SHA-256 over what was fed so far; the same as offline calibration's for the same batches."""
        return self._digest.hexdigest()

    def raise_problem(self) -> None:
        """Raise the first error of the stream, or DataError if it was shorter than expected or not read to its end."""
        if self.error is not None:
            raise self.error
        if not self.ended:
            raise DataError(
                f"TensorRT stopped after {self.count} batches, before the end of the data",
                hint="look at TensorRT's own messages",
            )
        wanted = None if self.expected is None else self.expected - len(self._batches.notices())
        if self.count == 0 or (wanted is not None and self.count < wanted):
            raise DataError(
                f"the calibration stream ended after {self.count} batches, expected {self.expected}",
                hint="check the loader; scales from too little data are not what was asked for",
            )

    def close(self) -> None:
        """Stop loading and free the device memory; harmless when done already."""
        if self._loader is not None:
            self._loader.shutdown(wait=True, cancel_futures=True)
            self._loader = None
        self._held = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def fingerprint(batches: Batches) -> tuple[str, int, int]:
    """(data_hash, batches, batch_size) that a feeder would have at the end of this stream, from one read of it."""
    digest = hashlib.sha256()
    count = batch_size = 0
    for batch in WholeBatches(device_view(batches), _size):
        batch_size = batch_size or _size(batch)
        count += 1
        if any(device_address(x) is not None for x in batch.values()):
            digest.update(ON_DEVICE)
        else:
            hash_batch(digest, batch)
    return digest.hexdigest(), count, batch_size


def _size(batch: Batch) -> int:
    """The samples of a batch by its first array, which may be on the device."""
    first = next(iter(batch.items()), None) if isinstance(batch, Mapping) else None
    placed = device_address(first[1]) if first else None
    if placed is None:
        return batch_length(batch, first[0] if first else "")
    return placed[1][0] if placed[1] else 0


def _with_batch_number(error: BaseException, number: int) -> BaseException:
    """The same exception, saying in which batch it happened."""
    text = f"while calibrating, in batch {number}"
    if isinstance(error, QuantlabError):
        error.batch = number if error.batch is None else error.batch
    elif hasattr(error, "add_note"):
        error.add_note(text)
    elif isinstance(error, OSError) and error.errno is not None:  # Python 3.10 has no notes
        error.strerror = f"{error.strerror} ({text})"
    else:
        error.args = (f"{error.args[0]} ({text})" if error.args else text, *error.args[1:])
    return error
