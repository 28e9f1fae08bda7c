"""The driver through pycuda: the device's primary context, never `pycuda.autoinit`, which fights with PyTorch.

pycuda keeps a stack of contexts per thread; every push here has its pop, or the process aborts when it ends.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

from quantlab.errors import DeviceError
from quantlab.memory.driver import DeviceInfo

_DEVICE_ORDINAL = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
_CONTEXTS: dict[int, Any] = {}
"""The primary context of each device, retained for the life of the process (`detach` would leave it on the stack)."""


@contextmanager
def _errors(what: str, hint: str = "run quantlab doctor") -> Iterator[None]:
    try:
        yield
    except cuda.Error as error:
        raise DeviceError(f"{what}: {error}", hint=hint) from error


class PycudaDriver:
    """See `Driver`. CUDA graphs are not in pycuda: `capture` raises."""

    name = "pycuda"

    def __init__(self, index: int = 0) -> None:
        with _errors(f"CUDA device {index} cannot be opened"):
            cuda.init()
            device = cuda.Device(index)
            if index not in _CONTEXTS:
                _CONTEXTS[index] = device.retain_primary_context()
            major, minor = device.compute_capability()
            self.info = DeviceInfo(index, device.name(), (major, minor), device.total_memory(), device.pci_bus_id())
        self._context = _CONTEXTS[index]
        self._allocations: dict[int, Any] = {}

    def activate(self) -> None:
        with _errors("the context cannot be made current"):
            self._context.push()

    def deactivate(self) -> None:
        cuda.Context.pop()

    def allocate(self, size: int) -> int:
        with _errors(f"out of device memory: {size} bytes asked", "use a smaller batch or workspace"):
            allocation = cuda.mem_alloc(size)
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        with _errors("device memory cannot be freed"):
            self._allocations.pop(address).free()

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        with _errors(f"out of page-locked memory: {size} bytes asked", "use a smaller batch"):
            array: NDArray[np.uint8] = cuda.pagelocked_empty(size, np.uint8)
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        base: Any = array.base
        with _errors("page-locked memory cannot be freed"):
            base.free()

    def new_stream(self) -> Any:
        with _errors("a stream cannot be made"):
            return cuda.Stream()

    def free_stream(self, stream: Any) -> None:
        with _errors("the device failed"):
            stream.synchronize()

    def handle(self, stream: Any) -> int:
        return int(stream.handle)

    def synchronize(self, stream: Any) -> None:
        with _errors("the device failed", "run the batch again alone"):
            stream.synchronize()

    def synchronize_device(self) -> None:
        with _errors("the device failed"):
            cuda.Context.synchronize()

    def copy_in(self, address: int, host: NDArray[np.uint8], stream: Any) -> None:
        with _errors("copy to the device"):
            cuda.memcpy_htod_async(address, host, stream)

    def copy_out(self, host: NDArray[np.uint8], address: int, stream: Any) -> None:
        with _errors("copy from the device"):
            cuda.memcpy_dtoh_async(host, address, stream)

    def record(self, stream: Any) -> Any:
        with _errors("an event cannot be recorded"):
            event = cuda.Event()
            event.record(stream)
        return event

    def elapsed_ms(self, start: Any, end: Any) -> float:
        with _errors("the device failed"):
            end.synchronize()
            return float(start.time_till(end))

    def device_of(self, address: int) -> int | None:
        found = ctypes.c_int(-1)  # pycuda has no call for it; the library is loaded already
        status = ctypes.CDLL("libcuda.so.1").cuPointerGetAttribute(
            ctypes.byref(found), _DEVICE_ORDINAL, ctypes.c_uint64(address)
        )
        return None if status else found.value

    def memory_used(self) -> int:
        with _errors("device memory"):
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
