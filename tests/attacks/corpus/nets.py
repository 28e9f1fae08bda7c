"""The usual small network, what becomes of it by a change, and what a case is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOW = "calibrate quantize compare"
"""The way from a float model to its comparison."""


NAMED = r"'[^']+'|model\.onnx|\bModel\b"
"""What an error that names its thing matches."""


@dataclass(frozen=True)
class Case:
    """A model and what must come of it.

    Attributes:
        name: Of its folder.
        model: Its content.
        data: What it is fed.
        works: The commands that end with 0, see `models.py`; the others may refuse it.
        says: What those of FLOW print; where none of these works, the error of `calibrate`, and of every command where
            nothing works.
        files: What else lies beside it.
    """

    name: str
    model: ModelProto | bytes
    data: Mapping[str, NDArray[Any]]
    works: str = ""
    says: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """The model, its data and its files into a new folder."""
        folder.mkdir()
        content = self.model if isinstance(self.model, bytes) else self.model.SerializeToString()
        (folder / "model.onnx").write_bytes(content)
        np.savez(folder / "data.npz", **self.data)
        for name, text in self.files.items():
            (folder / name).write_bytes(text)


def floats(*shape: int, seed: int = 0, scale: float = 0.3) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


IMAGES = {"image": floats(8, 3, 8, 8, scale=1.0)}


WEIGHTS = {
    "w1": floats(16, 3, 3, 3, seed=1), "b1": floats(16, seed=2), "w2": floats(16, 16, 3, 3, seed=3),
    "w3": floats(16, 5, seed=4), "b3": floats(5, seed=5),
}  # fmt: skip


BODY = """
    a = Conv <pads = [1,1,1,1]> (image, w1, b1)
    r = Relu (a)
    c = Conv <pads = [1,1,1,1]> (r, w2)
    s = Add (c, r)
    p = GlobalAveragePool (s)
    f = Flatten (p)
"""


HEAD = "    logits = Gemm (f, w3, b3)\n"


def text(graph: str, weights: Mapping[str, NDArray[Any]] | None = None, opset: int = 13, ir: int = 8,
         domains: str = "", functions: str = "") -> ModelProto:  # fmt: skip
    """A model from ONNX text."""
    proto = onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}{domains}]>\n{graph}\n{functions}')
    proto.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in (weights or {}).items())
    return proto


def net(head: str = HEAD, outputs: str = "float[N,5] logits", inputs: str = "float[N,3,8,8] image",
        more: Mapping[str, NDArray[Any]] | None = None, body: str = BODY, **other: Any) -> ModelProto:  # fmt: skip
    """The usual small network with another head, interface or body."""
    return text(f"net ({inputs}) => ({outputs}) {{{body}{head}}}", {**WEIGHTS, **(more or {})}, **other)


def changed(change: Callable[[ModelProto], object], proto: ModelProto | None = None) -> ModelProto:
    """A model after a change."""
    proto = proto or net()
    change(proto)
    return proto


def subgraph(nodes: list[NodeProto], inputs: str = "", outputs: str = "", name: str = "inner") -> GraphProto:
    def values(names: str) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names.split()]

    return helper.make_graph(nodes, name, values(inputs), values(outputs))
