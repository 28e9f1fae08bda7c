"""Runs some of a table of peers: one Q/DQ model for each, or the word why there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

Arrays = Mapping[str, np.ndarray]
"""An array (batches, *shape of a batch) for every input."""
Peer = Callable[[Path, Arrays, Path], None]
"""Quantizes a model with such data, into a file."""


def each_peer(peers: Mapping[str, Peer], arguments: Sequence[str]) -> None:
    """Make the Q/DQ models.

    Args:
        peers: What there is, by name.
        arguments: MODEL.onnx CALIB.npz OUT_FOLDER [PEER ...], all peers if none is named.
    """
    model, data, out = (Path(word) for word in arguments[:3])
    stacks = dict(np.load(data))
    for name in arguments[3:] or peers:
        started = time.perf_counter()
        try:
            peers[name](model, stacks, out / f"{name}.onnx")
        except Exception as error:  # a peer that fails is a result, not the end of the comparison
            print(f"{name} failed: {type(error).__name__}: {str(error)[:300]}")
            continue
        nodes = sum(n.op_type == "QuantizeLinear" for n in onnx.load(out / f"{name}.onnx").graph.node)
        print(f"{name}: {time.perf_counter() - started:.1f} s, {nodes} QuantizeLinear", flush=True)
