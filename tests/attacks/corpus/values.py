"""Values of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from corpus.nets import BODY, FLOW, HEAD, IMAGES, Case, changed, net


def values() -> Iterator[Case]:
    def weight(change: Callable[[TensorProto], object], name: str = "w2") -> ModelProto:
        return changed(lambda m: change(next(t for t in m.graph.initializer if t.name == name)))

    for name, length in (("short", -4), ("long", 4), ("odd", -3), ("none", -(10**9))):
        yield Case(f"raw_{name}", weight(lambda t, n=length: setattr(
            t, "raw_data", t.raw_data[:n] if n < 0 else t.raw_data + b"\0" * n)), IMAGES, "", "w2")  # fmt: skip
    for name in ("w1", "b1", "b3"):
        yield Case(f"raw_short_{name}", weight(lambda t: setattr(t, "raw_data", t.raw_data[:-4]), name), IMAGES, "",
                   name)  # fmt: skip
    yield Case("element_type_unknown", weight(lambda t: setattr(t, "data_type", 99)), IMAGES, "", "w2")
    yield Case("element_type_zero", weight(lambda t: setattr(t, "data_type", 0)), IMAGES, "", "w2")
    yield Case("element_type_string", weight(lambda t: setattr(t, "data_type", 8)), IMAGES, "", "w2")
    yield Case("element_type_int4", weight(lambda t: (setattr(t, "data_type", 22), setattr(
        t, "raw_data", b"\1" * (16 * 16 * 9 // 2)))), IMAGES)  # fmt: skip
    yield Case("input_type_unknown", changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99)),
               IMAGES, "", "image")  # fmt: skip
    yield Case("dims_negative", weight(lambda t: t.dims.__setitem__(0, -16)), IMAGES, "", "w2")
    yield Case("dims_huge", weight(lambda t: t.dims.__setitem__(0, 2**40)), IMAGES, "", "w2")
    yield Case("dims_zero", weight(lambda t: (t.dims.__setitem__(0, 0), setattr(t, "raw_data", b""))), IMAGES)
    yield Case("raw_and_typed", weight(lambda t: t.float_data.extend([1.0])), IMAGES)
    yield Case("segment", weight(lambda t: setattr(t.segment, "begin", 3)), IMAGES)
    yield Case("weights_nan", net(more={"w2": np.full((16, 16, 3, 3), np.nan, np.float32)}), IMAGES)
    yield Case("weights_huge", net(more={"w2": np.full((16, 16, 3, 3), 3e38, np.float32)}), IMAGES)
    yield Case("weights_zero", net(more={"w2": np.zeros((16, 16, 3, 3), np.float32)}), IMAGES, FLOW)
    yield Case("weights_tiny", net(more={"w2": np.full((16, 16, 3, 3), 1e-44, np.float32)}), IMAGES)
    yield Case("weights_half", changed(_halved), {"image": IMAGES["image"].astype(np.float16)})
    yield Case("weights_double", changed(_doubled), {"image": IMAGES["image"].astype(np.float64)})
    mask = HEAD.replace("logits", "l0") + "    logits = Softmax (lm)\n"
    mask = mask.replace("    logits", "    lm = Add (l0, mask)\n    logits")
    low = np.array([0, 0, 0, -np.inf, np.finfo(np.float32).min], np.float32)
    yield Case("attention_mask", net(mask, more={"mask": low}), IMAGES, FLOW)
    yield Case("empty_initializer", net(HEAD.replace("(f", "(f2"), more={"none": np.zeros(0, np.float32)},
               body=BODY + "    f2 = Resize <mode = \"nearest\"> (f, none, one)\n") if False else net(
                   more={"none": np.zeros(0, np.float32)}), IMAGES, FLOW)  # fmt: skip
    yield Case("strings_inside", changed(_strings), IMAGES, FLOW)


def _retype(m: ModelProto, kind: int, dtype: Any) -> None:
    for tensor in m.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in (*m.graph.input, *m.graph.output):
        value.type.tensor_type.elem_type = kind


def _halved(m: ModelProto) -> None:
    _retype(m, TensorProto.FLOAT16, np.float16)


def _doubled(m: ModelProto) -> None:
    _retype(m, TensorProto.DOUBLE, np.float64)


def _strings(m: ModelProto) -> None:
    m.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"]))
    m.graph.node.append(helper.make_node("Identity", ["words"], ["words2"]))
