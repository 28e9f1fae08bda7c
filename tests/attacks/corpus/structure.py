"""Structure: constants, sparse and outside weights, deep and wide graphs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from corpus.nets import BODY, FLOW, HEAD, IMAGES, NAMED, WEIGHTS, Case, changed, floats, net


def structure() -> Iterator[Case]:
    def reverse(m: ModelProto) -> None:
        nodes = list(m.graph.node)[::-1]
        del m.graph.node[:]
        m.graph.node.extend(nodes)

    yield Case("unsorted", changed(reverse), IMAGES, FLOW)
    yield Case("cycle", changed(lambda m: m.graph.node[0].input.__setitem__(0, "s")), IMAGES, "", "cycle|circle|loop")
    yield Case("self_loop", changed(lambda m: m.graph.node[1].input.__setitem__(0, "r")), IMAGES, "", "'r'")
    yield Case("reads_unknown", changed(lambda m: m.graph.node[1].input.__setitem__(0, "nobody")), IMAGES, "", "nobody")
    yield Case("no_op_type", changed(lambda m: m.graph.node[1].ClearField("op_type")), IMAGES, "", NAMED)
    yield Case("too_few_inputs", changed(lambda m: m.graph.node[0].input.__delitem__(slice(1, None))), IMAGES, "",
               "Conv")  # fmt: skip
    yield Case("too_many_inputs", changed(lambda m: m.graph.node[1].input.extend("ab")), IMAGES, "", NAMED)
    yield Case("no_inputs_of_node", changed(lambda m: m.graph.node[1].ClearField("input")), IMAGES, "", "Relu")
    yield Case("no_outputs_of_node", changed(lambda m: m.graph.node.add(op_type="Relu", input=["r"], name="end")),
               IMAGES)  # fmt: skip
    yield Case("empty_optional_inputs", changed(lambda m: m.graph.node[2].input.append("")), IMAGES, FLOW)
    yield Case(
        "unknown_attribute",
        changed(lambda m: m.graph.node[0].attribute.append(helper.make_attribute("colour", 3))),
        IMAGES,
        "",
        "colour",
    )
    yield Case(
        "attribute_wrong_type",
        changed(lambda m: m.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("pads", "x"))),
        IMAGES,
        "",
        "pads|Conv",
    )
    yield Case(
        "attribute_missing",
        changed(lambda m: m.graph.node.append(helper.make_node("Cast", ["r"], ["rr"], name="cast_nowhere"))),
        IMAGES,
        "",
        "cast_nowhere|Cast",
    )
    yield Case(
        "pads_wrong_count",
        changed(lambda m: m.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("pads", [1]))),
        IMAGES,
    )
    yield Case("axis_out_of_range", net(HEAD.replace("logits", "l0") + "    logits = Softmax <axis = 9> (l0)\n"),
               IMAGES, "inspect", "axis|Softmax")  # fmt: skip
    yield Case("concat_axis_out_of_range", net(HEAD + "    z = Concat <axis = 9> (r, c)\n"), IMAGES)
    yield Case("transpose_perm_wrong", net(HEAD + "    z = Transpose <perm = [0, 0, 1, 2]> (r)\n"), IMAGES)
    yield Case("mismatched_weights", net(more={"w2": floats(16, 15, 3, 3)}), IMAGES)
    yield Case("add_mismatched", net(HEAD + "    z = Add (r, f)\n"), IMAGES)
    yield Case("weight_1d", net(HEAD.replace("logits", "l0") + "    logits = MatMul (l0, v)\n", "float[N] logits",
               more={"v": floats(5)}), IMAGES, FLOW)  # fmt: skip
    yield Case("weight_rank_5", net(HEAD + "    z = MatMul (r5, v5)\n", body=BODY + "    r5 = Unsqueeze (r, ax)\n",
               more={"ax": np.array([0], np.int64), "v5": floats(1, 1, 16, 8, 4)}), IMAGES, FLOW)  # fmt: skip
    yield Case(
        "initializers_as_inputs",
        changed(
            lambda m: m.graph.input.extend(
                helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in m.graph.initializer
            )
        ),
        IMAGES,
        FLOW,
    )
    yield Case("constants_as_nodes", changed(_constant_nodes), IMAGES, FLOW)
    yield Case("constant_forms", changed(_constant_forms), IMAGES, FLOW)
    yield Case("shared_weights", net(BODY.split("    s =")[0].split("    c =")[1].join(["    c2 =", ""]).replace(
        "(r, w2)", "(c, w2)") + HEAD), IMAGES, FLOW)  # fmt: skip
    yield Case("sparse_initializer", changed(_sparse), IMAGES)
    yield Case("sparse_weight", changed(lambda m: _sparse(m, "w2")), IMAGES)
    yield Case("dead_nodes", net(HEAD + "    dead = Conv <pads = [1,1,1,1]> (r, w2)\n    dead2 = Sigmoid (dead)\n"),
               IMAGES, FLOW)  # fmt: skip
    yield Case("deep_5000", changed(_deep), IMAGES, "calibrate inspect")
    yield Case("wide_1000", changed(_wide), IMAGES, "inspect")
    yield Case("external_missing", changed(lambda m: _external(m, "gone.bin")), IMAGES, "", r"gone\.bin|external")
    yield Case("external_there", changed(lambda m: _external(m, "w.bin")), IMAGES, FLOW,
               files={"w.bin": WEIGHTS["w2"].tobytes()})  # fmt: skip
    yield Case("external_short", changed(lambda m: _external(m, "w.bin")), IMAGES, "", r"w2|w\.bin",
               files={"w.bin": WEIGHTS["w2"].tobytes()[:100]})  # fmt: skip
    yield Case("external_outside", changed(lambda m: _external(m, "../w.bin")), IMAGES, "", "external|w2")
    yield Case("external_absolute", changed(lambda m: _external(m, "/etc/hostname")), IMAGES, "", "external|w2")
    yield Case("external_offset", changed(lambda m: _external(m, "w.bin", offset="10000000")), IMAGES, "", "w2|w.bin",
               files={"w.bin": b"1234"})  # fmt: skip
    yield Case("external_no_location", changed(lambda m: _external(m, "")), IMAGES, "", "external|w2")
    content = net().SerializeToString()
    yield Case("truncated", content[: len(content) // 2], IMAGES, "", r"model\.onnx")
    yield Case("empty_file", b"", IMAGES, "", r"model\.onnx")
    yield Case("garbage", b"\x00\xff" * 500, IMAGES, "", r"model\.onnx")
    yield Case("text_file", b"<!doctype html>", IMAGES, "", r"model\.onnx")
    yield Case("git_lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", IMAGES, "",
               r"model\.onnx")  # fmt: skip


def _constant_nodes(m: ModelProto) -> None:
    tensors = list(m.graph.initializer)
    del m.graph.initializer[:]
    for tensor in tensors:
        m.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))


def _constant_forms(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("Constant", [], ["k1"], value_float=0.5))
    m.graph.node.append(helper.make_node("Constant", [], ["k2"], value_ints=[1, 5]))
    m.graph.node.append(helper.make_node("Constant", [], ["k3"], value_floats=[0.5] * 5))
    m.graph.node.append(helper.make_node("Mul", ["logits", "k1"], ["e1"]))
    m.graph.node.append(helper.make_node("Add", ["e1", "k3"], ["extra"]))
    m.graph.output.append(helper.make_tensor_value_info("extra", 1, ["N", 5]))


def _sparse(m: ModelProto, name: str = "b3") -> None:
    kept = [t for t in m.graph.initializer if t.name != name]
    del m.graph.initializer[:]
    m.graph.initializer.extend(kept)
    values = WEIGHTS[name].reshape(-1)
    sparse = m.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(values[:3], name))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(3, dtype=np.int64), f"{name}_i"))
    sparse.dims.extend(WEIGHTS[name].shape)


def _deep(m: ModelProto) -> None:
    m.graph.node[-1].output[0] = "d0"
    for k in range(5000):
        last = "logits" if k == 4999 else f"d{k + 1}"
        m.graph.node.append(helper.make_node("Relu" if k % 2 else "Neg", [f"d{k}"], [last], name=f"n{k}"))


def _wide(m: ModelProto) -> None:
    for k in range(1000):
        m.graph.node.append(helper.make_node("Relu", ["logits"], [f"out{k}"]))
        m.graph.output.append(helper.make_tensor_value_info(f"out{k}", 1, ["N", 5]))


def _external(m: ModelProto, location: str, **more: str) -> None:
    tensor = next(t for t in m.graph.initializer if t.name == "w2")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        if value:
            tensor.external_data.add(key=key, value=value)
