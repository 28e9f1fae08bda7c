"""A model and the file of its weights, read while they are replaced by a writer that is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from attack import Attack, Call

from models import conv_net
from quantlab.onnx_model import large, load_model, save_model

SECONDS = 20.0


def model(number: int) -> onnx.ModelProto:
    """A model whose weights are all the number that stands in its text."""
    proto = conv_net()
    proto.doc_string = str(number)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.raw_data = np.full(len(tensor.raw_data) // 4, number, np.float32).tobytes()
    return proto


def writer(path: Path, number: int) -> int:
    """Start a process that saves one model after another."""
    process = os.fork()
    while not process:
        number += 1
        save_model(model(number), path)
    return process


def read_among_kills() -> None:
    large.LIMIT, large.BIG = 0, 1  # so that the weights have a file of their own
    draw, seen = random.Random(1), set[str]()
    with tempfile.TemporaryDirectory() as folder:
        path, end = Path(folder) / "m.onnx", time.monotonic() + SECONDS
        save_model(model(0), path)
        while time.monotonic() < end:
            process, stop = writer(path, 1000 * len(seen)), time.monotonic() + draw.uniform(0.1, 1)
            try:
                while time.monotonic() < stop:
                    _read(path, seen)
            finally:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
            _read(path, seen)
    assert len(seen) > 1, "nothing was written"


def _read(path: Path, seen: set[str]) -> None:
    proto = load_model(path)
    tensors = [t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    values = {float(v) for tensor in tensors for v in onnx.numpy_helper.to_array(tensor).ravel()}
    assert values == {float(proto.doc_string)}, f"weights {values} in model {proto.doc_string}"
    seen.add(proto.doc_string)


def FAMILY(folder: Path) -> Iterator[Attack]:
    yield Call("a model among kills of its writer", read_among_kills, returns=True)
