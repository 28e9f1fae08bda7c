"""The few CUDA calls quantlab needs. Each provider has a class with these names; the host double has them too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Which device. compute_capability: (major, minor)."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    total_bytes: int
    pci_bus_id: str = ""


class Driver(Protocol):
    """One device through its primary context, which it shares with PyTorch, CuPy and TensorRT.

    The context is retained once per process and never released: TensorRT's objects may outlive any buffer.

    Addresses are integers. `host` arrays are contiguous uint8. Streams, events and graphs are opaque; `handle` gives a
    stream's address for TensorRT. Errors are DeviceError.
    """

    name: str
    info: DeviceInfo

    def activate(self) -> None:
        """Make the context current in the calling thread."""

    def deactivate(self) -> None:
        """Undo one `activate` in the same thread."""

    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes."""

    def free(self, address: int) -> None: ...

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Page-locked host memory, shape (size,)."""

    def free_pinned(self, array: NDArray[np.uint8]) -> None: ...

    def new_stream(self) -> Any: ...

    def free_stream(self, stream: Any) -> None: ...

    def handle(self, stream: Any) -> int: ...

    def synchronize(self, stream: Any) -> None: ...

    def synchronize_device(self) -> None:
        """Wait for everything on the device, whichever stream it is in."""

    def copy_in(self, address: int, host: NDArray[np.uint8], stream: Any) -> None:
        """Copy to the device, ordered in a stream.

        Args:
            address: Device memory.
            host: What is copied, page-locked to be asynchronous.
            stream: Of this driver.
        """

    def copy_out(self, host: NDArray[np.uint8], address: int, stream: Any) -> None:
        """Copy from the device, ordered in a stream.

        Args:
            host: What is filled, page-locked to be asynchronous.
            address: Device memory.
            stream: Of this driver.
        """

    def record(self, stream: Any) -> Any:
        """A new event at this point of the stream."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Time between two recorded events; waits for the later one.

        Args:
            start: The earlier event.
            end: The later event.

        Returns:
            Milliseconds on the device.
        """

    def device_of(self, address: int) -> int | None:
        """The index of the device whose memory an address is in; None for one that is in none."""

    def memory_used(self) -> int:
        """Bytes in use on the whole device, by all processes."""

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """Capture a CUDA graph.

        Args:
            stream: Of this driver.
            work: Puts what is captured on the stream.

        Returns:
            The graph, to be launched and freed by this driver.

        Raises:
            DeviceError: The provider has no CUDA graphs.
        """

    def launch(self, graph: Any, stream: Any) -> None:
        """Replay a graph, ordered in a stream.

        Args:
            graph: Captured by this driver.
            stream: Of this driver.
        """

    def free_graph(self, graph: Any) -> None: ...
