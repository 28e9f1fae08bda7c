"""The driver through pycuda: the device's primary context, never `pycuda.autoinit`, which fights with PyTorch.

pycuda keeps a stack of contexts per thread; every push here has its pop, or the process aborts when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

from quantlab.errors import DeviceError
from quantlab.memory.driver import DeviceInfo


class PycudaDriver:
    """See `Driver`. CUDA graphs are not in pycuda: `capture` raises."""

    name = "pycuda"

    def __init__(self, index: int = 0) -> None:
        try:
            cuda.init()
            device = cuda.Device(index)
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise DeviceError(f"CUDA device {index} cannot be opened: {error}", hint="run quantlab doctor") from error
        major, minor = device.compute_capability()
        self.info = DeviceInfo(index, device.name(), (major, minor), device.total_memory())
        self._allocations: dict[int, Any] = {}

    def activate(self) -> None:
        self._context.push()

    def deactivate(self) -> None:
        cuda.Context.pop()

    def close(self) -> None:
        self._context.detach()

    def allocate(self, size: int) -> int:
        try:
            allocation = cuda.mem_alloc(size)
        except cuda.Error as error:
            raise _out_of_memory(size, error) from error
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        self._allocations.pop(address).free()

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        array: NDArray[np.uint8] = cuda.pagelocked_empty(size, np.uint8)
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        base: Any = array.base
        base.free()

    def new_stream(self) -> Any:
        return cuda.Stream()

    def free_stream(self, stream: Any) -> None:
        stream.synchronize()

    def handle(self, stream: Any) -> int:
        return int(stream.handle)

    def synchronize(self, stream: Any) -> None:
        try:
            stream.synchronize()
        except cuda.Error as error:
            raise DeviceError(f"the device failed: {error}", hint="run the batch again alone") from error

    def copy_in(self, address: int, host: NDArray[np.uint8], stream: Any) -> None:
        cuda.memcpy_htod_async(address, host, stream)

    def copy_out(self, host: NDArray[np.uint8], address: int, stream: Any) -> None:
        cuda.memcpy_dtoh_async(host, address, stream)

    def record(self, stream: Any) -> Any:
        event = cuda.Event()
        event.record(stream)
        return event

    def elapsed_ms(self, start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.time_till(end))

    def memory_used(self) -> int:
        free, total = cuda.mem_get_info()
        return int(total - free)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:  # noqa: ARG002
        raise DeviceError(
            "pycuda has no CUDA graphs", hint="pip install cuda-python, and use the provider 'cuda-python'"
        )

    def launch(self, graph: Any, stream: Any) -> None:  # noqa: ARG002
        raise DeviceError("pycuda has no CUDA graphs", hint="use the provider 'cuda-python'")

    def free_graph(self, graph: Any) -> None:
        pass


def _out_of_memory(size: int, error: Exception) -> DeviceError:
    return DeviceError(f"out of device memory: {size} bytes asked ({error})", hint="use a smaller batch or workspace")
