"""The driver through NVIDIA's cuda-python: the device's primary context, with CUDA graphs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda.bindings import driver as cuda
from numpy.typing import NDArray

from quantlab.errors import DeviceError
from quantlab.memory.driver import DeviceInfo

_CONTEXTS: dict[int, Any] = {}
"""The primary context of each device, retained for the life of the process."""


class CudaPythonDriver:
    """See `Driver`."""

    name = "cuda-python"

    def __init__(self, index: int = 0) -> None:
        _check(cuda.cuInit(0), f"CUDA device {index} cannot be opened")
        self._device = _check(cuda.cuDeviceGet(index), f"CUDA device {index} cannot be opened")
        if index not in _CONTEXTS:
            _CONTEXTS[index] = _check(cuda.cuDevicePrimaryCtxRetain(self._device), "no primary context")
        self._context = _CONTEXTS[index]
        attribute = cuda.CUdevice_attribute
        major, minor = (
            _check(cuda.cuDeviceGetAttribute(a, self._device), "device attributes")
            for a in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        name = _check(cuda.cuDeviceGetName(256, self._device), "device name").split(b"\0")[0].decode()
        total = _check(cuda.cuDeviceTotalMem(self._device), "device memory")
        bus = _check(cuda.cuDeviceGetPCIBusId(64, self._device), "device address").split(b"\0")[0].decode()
        self.info = DeviceInfo(index, name, (int(major), int(minor)), int(total), bus)

    def activate(self) -> None:
        _check(cuda.cuCtxPushCurrent(self._context), "the context cannot be made current")

    def deactivate(self) -> None:
        _check(cuda.cuCtxPopCurrent(), "the context cannot be popped")

    def allocate(self, size: int) -> int:
        return int(_check(cuda.cuMemAlloc(size), f"out of device memory: {size} bytes asked"))

    def free(self, address: int) -> None:
        _check(cuda.cuMemFree(address), "device memory cannot be freed")

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        address = int(_check(cuda.cuMemHostAlloc(size, 0), f"out of page-locked memory: {size} bytes asked"))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        _check(cuda.cuMemFreeHost(array.ctypes.data), "page-locked memory cannot be freed")

    def new_stream(self) -> Any:
        flags = cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        return _check(cuda.cuStreamCreate(flags), "a stream cannot be made")

    def free_stream(self, stream: Any) -> None:
        _check(cuda.cuStreamDestroy(stream), "a stream cannot be freed")

    def handle(self, stream: Any) -> int:
        return int(stream)

    def synchronize(self, stream: Any) -> None:
        _check(cuda.cuStreamSynchronize(stream), "the device failed")

    def synchronize_device(self) -> None:
        _check(cuda.cuCtxSynchronize(), "the device failed")

    def copy_in(self, address: int, host: NDArray[np.uint8], stream: Any) -> None:
        _check(cuda.cuMemcpyHtoDAsync(address, host.ctypes.data, host.size, stream), "copy to the device")

    def copy_out(self, host: NDArray[np.uint8], address: int, stream: Any) -> None:
        _check(cuda.cuMemcpyDtoHAsync(host.ctypes.data, address, host.size, stream), "copy from the device")

    def record(self, stream: Any) -> Any:
        event = _Event()
        _check(cuda.cuEventRecord(event.handle, stream), "an event cannot be recorded")
        return event

    def elapsed_ms(self, start: Any, end: Any) -> float:
        _check(cuda.cuEventSynchronize(end.handle), "the device failed")
        return float(_check(cuda.cuEventElapsedTime(start.handle, end.handle), "events"))

    def device_of(self, address: int) -> int | None:
        attribute = cuda.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, found = cuda.cuPointerGetAttribute(attribute, address)
        return int(found) if status == cuda.CUresult.CUDA_SUCCESS else None  # it fails for memory of the host

    def memory_used(self) -> int:
        free, total = _check(cuda.cuMemGetInfo(), "device memory")
        return int(total) - int(free)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _check(cuda.cuStreamBeginCapture(stream, mode), "graph capture")
        try:
            work()
        finally:
            graph = _check(cuda.cuStreamEndCapture(stream), "graph capture")
        executable = _check(cuda.cuGraphInstantiate(graph, 0), "graph")
        _check(cuda.cuGraphDestroy(graph), "graph")
        return executable

    def launch(self, graph: Any, stream: Any) -> None:
        _check(cuda.cuGraphLaunch(graph, stream), "graph launch")

    def free_graph(self, graph: Any) -> None:
        _check(cuda.cuGraphExecDestroy(graph), "graph")


class _Event:
    """A CUDA event that is destroyed with its Python object."""

    def __init__(self) -> None:
        self.handle = _check(cuda.cuEventCreate(0), "an event cannot be made")

    def __del__(self) -> None:
        cuda.cuEventDestroy(self.handle)


def _check(result: tuple[Any, ...], what: str) -> Any:
    """The value(s) of a call, or DeviceError with CUDA's own name and text of the error."""
    status, *values = result
    if status != cuda.CUresult.CUDA_SUCCESS:
        name = cuda.cuGetErrorName(status)[1]
        text = name.decode() if isinstance(name, bytes) else str(status)
        hint = "use a smaller batch or workspace" if "MEMORY" in text else "run quantlab doctor"
        raise DeviceError(f"{what}: {text}", hint=hint)
    return values[0] if len(values) == 1 else tuple(values)
