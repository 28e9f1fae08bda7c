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
        """Host to device, ordered in `stream`."""

    def copy_out(self, host: NDArray[np.uint8], address: int, stream: Any) -> None:
        """Device to host, ordered in `stream`."""

    def record(self, stream: Any) -> Any:
        """A new event at this point of the stream."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Device time between two recorded events; waits for `end`."""

    def memory_used(self) -> int:
        """Bytes in use on the whole device, by all processes."""

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """A CUDA graph of what `work` puts on the stream; DeviceError where the provider has none."""

    def launch(self, graph: Any, stream: Any) -> None: ...

    def free_graph(self, graph: Any) -> None: ...
