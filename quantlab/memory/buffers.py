"""Named device buffers over any driver: grown on demand, filled through page-locked memory, all freed at the end."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import DataError, DeviceError
from quantlab.memory.driver import Driver


class DeviceMemory:
    """A context manager that frees everything. Use it in the thread that entered it."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._device: dict[str, tuple[int, int]] = {}  # name -> address, capacity
        self._pinned: dict[str, NDArray[np.uint8]] = {}
        self._layout: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._open = False

    def __enter__(self) -> DeviceMemory:
        self.driver.activate()
        try:
            self.stream = self.driver.new_stream()
        except BaseException:
            self.driver.deactivate()
            raise
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except DeviceError:
            if kind is None:  # else it follows from what is in flight, which says more
                raise

    def close(self) -> None:
        """Free every buffer and leave the context, whatever fails on the way; harmless when done already."""
        if not self._open:
            return
        self._open = False
        with ExitStack() as last:  # runs all of it, in reverse order, and raises the first error at the end
            last.callback(self.driver.deactivate)
            last.callback(self.driver.free_stream, self.stream)
            for address, _ in self._device.values():
                last.callback(self.driver.free, address)
            for array in self._pinned.values():
                last.callback(self.driver.free_pinned, array)
            self._device.clear()
            self._pinned.clear()
            del self.stream

    def reserve(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
        """Make room for an array.

        Args:
            name: Of the buffer; it may move when it has to grow.
            shape: Of the array.
            dtype: Of the array.

        Returns:
            The device address; the content is undefined.

        Raises:
            DeviceError: There is not enough memory.
        """
        size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        address, capacity = self._device.get(name, (0, 0))
        if size > capacity:
            if address:
                del self._device[name]
                self.driver.free(address)
            address = self.driver.allocate(size)
            self._device[name] = (address, size)
        self._layout[name] = (shape, dtype)
        return address

    def staging(self, name: str) -> NDArray[Any]:
        """Page-locked host memory in the shape of buffer `name`; valid until the buffer grows."""
        shape, dtype = self._layout[name]
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if name not in self._pinned or self._pinned[name].size < size:
            if name in self._pinned:
                self.driver.free_pinned(self._pinned.pop(name))
            self._pinned[name] = self.driver.allocate_pinned(max(1, size))
        array: NDArray[Any] = self._pinned[name][:size].view(dtype).reshape(shape)
        return array

    def send(self, name: str, stream: Any = None) -> None:
        """Copy from staging to the device; returns before it is done.

        Args:
            name: Of the buffer.
            stream: What the copy is ordered in; None for the stream of this memory.
        """
        host = self.staging(name).reshape(-1).view(np.uint8)
        self.driver.copy_in(self._device[name][0], host, self.stream if stream is None else stream)

    def fetch(self, name: str, stream: Any = None) -> None:
        """Copy from the device to staging; returns before it is done.

        Args:
            name: Of the buffer.
            stream: What the copy is ordered in; None for the stream of this memory.
        """
        host = self.staging(name).reshape(-1).view(np.uint8)
        self.driver.copy_out(host, self._device[name][0], self.stream if stream is None else stream)

    def upload(self, name: str, array: NDArray[Any]) -> int:
        """Copy an array to the device.

        Args:
            name: Of the buffer.
            array: What to copy.

        Returns:
            The device address, valid until the next upload of `name`.

        Raises:
            DeviceError: There is not enough memory.
        """
        address = self.reserve(name, array.shape, array.dtype)
        self.driver.synchronize(self.stream)  # an earlier copy may still read the staging memory
        np.copyto(self.staging(name), array)
        self.send(name)
        self.driver.synchronize(self.stream)
        return address

    def download(self, name: str) -> NDArray[Any]:
        """A copy of what buffer `name` holds."""
        self.fetch(name)
        self.driver.synchronize(self.stream)
        return np.array(self.staging(name))


def device_address(value: object) -> tuple[int, tuple[int, ...], np.dtype[Any]] | None:
    """(address, shape, dtype) of data that is on a device already (`__cuda_array_interface__`), None if it is not.

    DataError if it does not lie there in one piece, as TensorRT reads it.
    """
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is None:
        return None
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    dense = tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) * dtype.itemsize for i in range(len(shape)))
    if strides is not None and any(n > 1 and a != b for n, a, b in zip(shape, strides, dense, strict=True)):
        raise DataError(
            f"an array of {dtype} {shape} on the device has strides {tuple(strides)}, expected {dense}",
            hint="make it contiguous on the device, with the last dimension innermost",
        )
    return int(interface["data"][0]), shape, dtype


def require_device(driver: Driver, name: str, address: int) -> None:
    """Refuse data on another device than the one that calibrates.

    Args:
        driver: Of the device that calibrates.
        name: Of the input, for the error.
        address: Where its data lie.

    Raises:
        DeviceError: It is no address of this device.
    """
    found = driver.device_of(address)
    if found != driver.info.index:
        raise DeviceError(
            f"input '{name}': its data lie on {'no device' if found is None else f'device {found}'}, "
            f"the calibration runs on device {driver.info.index}",
            hint=f"make them on device {driver.info.index}",
        )
