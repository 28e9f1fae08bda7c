"""Batches that lie on a device, and the way to them: no copy to the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from quantlab.data.batches import Batch


class DeviceArray:
    """A batch on the GPU, as `__cuda_array_interface__` says it; it keeps the object that owns the memory."""

    def __init__(self, owner: Any, samples: int) -> None:
        self._owner = owner
        interface = dict(owner.__cuda_array_interface__)
        self.shape = (samples, *interface["shape"][1:])
        self.__cuda_array_interface__ = interface | {"shape": self.shape}

    def __getitem__(self, samples: slice) -> DeviceArray:
        """The first samples, where they lie."""
        return DeviceArray(self._owner, len(range(*samples.indices(self.shape[0]))))


@runtime_checkable
class DeviceBatches(Protocol):
    """A stream that can also give its batches without a copy to the host."""

    def __iter__(self) -> Iterator[Batch]: ...

    def on_device(self) -> Iterator[Batch]:
        """The same batches, what is on a device as objects with `__cuda_array_interface__`, valid until the next."""
