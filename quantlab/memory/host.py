"""The host double of a driver: plain memory and a log of calls, for tests without a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import DeviceError
from quantlab.memory.driver import DeviceInfo


class HostDriver:
    """See `Driver`: a device with `limit` bytes; `live` maps the addresses in use to their content."""

    name = "host"

    def __init__(self, limit: int = 1 << 30) -> None:
        self.info = DeviceInfo(0, "host double", (0, 0), limit)
        self.live: dict[int, NDArray[np.uint8]] = {}
        self.pinned = 0
        self.streams = 0
        self.active = 0
        self._next = 4096

    def activate(self) -> None:
        self.active += 1

    def deactivate(self) -> None:
        self.active -= 1

    def allocate(self, size: int) -> int:
        if sum(a.size for a in self.live.values()) + size > self.info.total_bytes:
            raise DeviceError(f"out of device memory: {size} bytes asked", hint="use a smaller batch")
        address, self._next = self._next, self._next + size + 4096
        self.live[address] = np.full(size, 0xAB, np.uint8)
        return address

    def free(self, address: int) -> None:
        del self.live[address]

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        self.pinned += 1
        return np.zeros(size, np.uint8)

    def free_pinned(self, array: NDArray[np.uint8]) -> None:  # noqa: ARG002
        self.pinned -= 1

    def new_stream(self) -> object:
        self.streams += 1
        return object()

    def free_stream(self, stream: object) -> None:  # noqa: ARG002
        self.streams -= 1

    def handle(self, stream: object) -> int:
        return id(stream)

    def synchronize(self, stream: object) -> None:
        pass

    def synchronize_device(self) -> None:
        pass

    def copy_in(self, address: int, host: NDArray[np.uint8], stream: object) -> None:  # noqa: ARG002
        self.live[address][: host.size] = host

    def copy_out(self, host: NDArray[np.uint8], address: int, stream: object) -> None:  # noqa: ARG002
        host[:] = self.live[address][: host.size]

    def record(self, stream: object) -> float:  # noqa: ARG002
        return time.perf_counter()

    def elapsed_ms(self, start: float, end: float) -> float:
        return 1000 * (end - start)

    def device_of(self, address: int) -> int | None:  # noqa: ARG002
        return self.info.index

    def memory_used(self) -> int:
        return sum(a.size for a in self.live.values())

    def capture(self, stream: object, work: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        return work

    def launch(self, graph: Callable[[], None], stream: object) -> None:  # noqa: ARG002
        graph()

    def free_graph(self, graph: object) -> None:
        pass
