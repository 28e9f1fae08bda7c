"""Versions, operators, and what networks of several kinds have in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx.parser
from onnx import helper

from corpus.nets import BODY, FLOW, HEAD, IMAGES, Case, changed, floats, net, text


def versions() -> Iterator[Case]:
    newest = onnx.defs.onnx_opset_version()
    for opset in range(7, newest + 1):
        works = FLOW if 9 <= opset <= 24 else ""
        ir = 4 if opset < 11 else 8 if opset < 19 else 10
        yield Case(f"opset_{opset}", net(opset=opset, ir=ir), IMAGES, works)
    for opset in (1, 5, 6, 99, 2**40, -1):
        yield Case(f"opset_{opset}", changed(lambda m, o=opset: setattr(m.opset_import[0], "version", o)), IMAGES, "")
    for ir in (0, 1, 3, 4, 11, 12, 13, 99, 2**31):
        yield Case(f"ir_{ir}", changed(lambda m, ir=ir: setattr(m, "ir_version", ir)), IMAGES,
                   FLOW if 4 <= ir <= 12 else "")  # fmt: skip
    yield Case("no_ir", changed(lambda m: m.ClearField("ir_version")), IMAGES)
    yield Case("no_opset", changed(lambda m: m.ClearField("opset_import")), IMAGES)
    yield Case("opset_twice", changed(lambda m: m.opset_import.add(domain="", version=12)), IMAGES)
    yield Case("opset_ai_onnx", changed(lambda m: (m.opset_import.add(domain="ai.onnx", version=13),
               m.opset_import.__delitem__(0))), IMAGES, FLOW)  # fmt: skip
    yield Case("opset_domain_unused", changed(lambda m: m.opset_import.add(domain="org.unused", version=7)), IMAGES,
               FLOW)  # fmt: skip
    yield Case(
        "newest_operator",
        changed(
            lambda m: m.graph.node.append(helper.make_node("Swish", ["f"], ["extra"], name="swish")),
            net(opset=24, ir=10),
        ),
        IMAGES,
    )
    yield Case(
        "removed_operator",
        changed(
            lambda m: m.graph.node.append(helper.make_node("Upsample", ["r", "up"], ["extra"])),
            net(more={"up": np.ones(4, np.float32)}),
        ),
        IMAGES,
    )


def tasks() -> Iterator[Case]:
    """What networks of several kinds have in them."""
    drop = net(HEAD.replace("(f", "(fd"), body=BODY + "    fd = Dropout (f)\n")
    yield Case("dropout", drop, IMAGES, FLOW)
    mode = {"ratio": np.float32(0.5), "train": np.array(True)}
    yield Case(
        "dropout_training",
        net(HEAD.replace("(f", "(fd"), body=BODY + "    fd = Dropout <seed = 1> (f, ratio, train)\n", more=mode),
        IMAGES,
    )
    bn = {k: floats(16, seed=i) for i, k in enumerate(("bg", "bb", "bm"))} | {"bv": np.ones(16, np.float32)}
    batch_norm = BODY.replace("Relu (a)", "Relu (n)").replace(
        "    r =", "    n = BatchNormalization (a, bg, bb, bm, bv)\n    r ="
    )
    yield Case("batch_norm", net(body=batch_norm, more=bn), IMAGES, FLOW)
    training = batch_norm.replace("n = BatchNormalization (", "n, m2, v2 = BatchNormalization <training_mode = 1> (")
    yield Case("batch_norm_training", net(body=training, more=bn, opset=14), IMAGES)
    yield Case("embedding", text("""lm (int64[N,S] ids) => (float[N,S,7] y) {
        e = Gather (table, ids)
        h = MatMul (e, w)
        y = MatMul (h, v)
    }""", {"table": floats(11, 8), "w": floats(8, 16), "v": floats(16, 7)}),
        {"ids": np.random.default_rng(0).integers(0, 11, (8, 6))}, FLOW)  # fmt: skip
    yield Case("dequantized_embedding", text("""lm (int64[N,S] ids) => (float[N,S,7] y) {
        t = DequantizeLinear (codes, scale)
        e = Gather (t, ids)
        y = MatMul (e, w)
    }""", {"codes": np.arange(88, dtype=np.uint8).reshape(11, 8), "scale": np.float32(0.01), "w": floats(8, 7)}),
        {"ids": np.random.default_rng(0).integers(0, 11, (8, 6))}, FLOW)  # fmt: skip
    yield Case("einsum", text("""e (float[N,4,8] x) => (float[N,4,5] y) {
        y = Einsum <equation = "nij,jk->nik"> (x, w)
    }""", {"w": floats(8, 5)}), {"x": floats(8, 4, 8)})  # fmt: skip
    yield Case("lstm", text("""l (float[T,N,4] x) => (float[T,1,N,3] y) {
        y = LSTM <hidden_size = 3> (x, w, r)
    }""", {"w": floats(1, 12, 4), "r": floats(1, 12, 3)}), {"x": floats(6, 2, 4)})  # fmt: skip
    yield Case("conv_1d", text("""c (float[N,3,32] x) => (float[N,8,30] y) {
        y = Conv (x, w)
    }""", {"w": floats(8, 3, 3)}), {"x": floats(8, 3, 32)}, FLOW)  # fmt: skip
    yield Case("conv_3d", text("""c (float[N,3,4,8,8] x) => (float[N,8,2,6,6] y) {
        y = Conv (x, w)
    }""", {"w": floats(8, 3, 3, 3, 3)}), {"x": floats(4, 3, 4, 8, 8)}, FLOW)  # fmt: skip
    yield Case("conv_transpose", text("""c (float[N,3,8,8] x) => (float[N,8,16,16] y) {
        y = ConvTranspose <strides = [2,2]> (x, w)
    }""", {"w": floats(3, 8, 2, 2)}), {"x": floats(4, 3, 8, 8)}, FLOW)  # fmt: skip
    yield Case("nms_standard", text("""d (float[1,6,4] boxes, float[1,2,6] scores) => (int64[K,3] picked) {
        picked = NonMaxSuppression (boxes, scores, most)
    }""", {"most": np.array(3, np.int64)}), {"boxes": floats(1, 6, 4), "scores": floats(1, 2, 6)})  # fmt: skip
    noise = "    n = RandomNormalLike (l0)\n    logits = Add (l0, n)\n"
    yield Case("random", net(HEAD.replace("logits", "l0") + noise), IMAGES)  # fmt: skip
    yield Case("constant_output", net(HEAD + "    k = Relu (b3)\n", "float[N,5] logits, float[5] k"), IMAGES, FLOW)
    yield Case("nothing_for_int8", text("t (float[N,3] x) => (float[N,3] y) { y = Tanh (x) }"), {"x": floats(4, 3)})
