"""What names a stream of batches: one hash, the same wherever the stream is read."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from quantlab.data.batches import Batch


class Digest(Protocol):
    """A hashlib object."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add some bytes."""


def hash_batch(digest: Digest, batch: Batch) -> None:
    """Add name, dtype, shape and values of every input, by name.

    Args:
        digest: What they are added to.
        batch: Input name -> array.
    """
    for name in sorted(batch):
        x = np.ascontiguousarray(batch[name])
        digest.update(f"{name}:{x.dtype}:{x.shape}".encode())
        if x.size:
            digest.update(x.data)
