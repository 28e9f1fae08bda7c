"""Inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from corpus.nets import BODY, FLOW, HEAD, IMAGES, NAMED, WEIGHTS, Case, changed, floats, net, text


def inputs() -> Iterator[Case]:
    state = HEAD.replace("logits", "l0") + "    logits = Add (l0, state)\n"
    yield Case("state_1", net(state, inputs="float[N,3,8,8] image, float[1,5] state"),
               {**IMAGES, "state": floats(1, 5)}, FLOW)  # fmt: skip
    scalar = HEAD.replace("logits", "l0") + "    logits = Mul (l0, factor)\n"
    yield Case("scalar", net(scalar, inputs="float[N,3,8,8] image, float factor"),
               {**IMAGES, "factor": np.float32(0.5)}, FLOW)  # fmt: skip
    yield Case("scalar_first", net(scalar, inputs="float factor, float[N,3,8,8] image"),
               {**IMAGES, "factor": np.float32(0.5)}, FLOW)  # fmt: skip
    fed = HEAD.replace("w3", "fed")
    yield Case("weight_fed", net(fed, inputs="float[N,3,8,8] image, float[16,5] fed"),
               {**IMAGES, "fed": WEIGHTS["w3"]}, FLOW)  # fmt: skip
    fixed = BODY + "    fs = Add (f, state)\n"
    yield Case("state_2_fixed", net(
        HEAD.replace("(f", "(fs"), "float[1,5] logits", "float[1,3,8,8] image, float[2,8] state",
        body=fixed.replace("(f, state)", "(f, st)").replace("fs = ", "st = Reshape (state, to)\n    fs = "),
        more={"to": np.array([1, 16], np.int64)}), {**IMAGES, "state": floats(2, 8)}, FLOW)  # fmt: skip
    rnn = {"w": floats(1, 9, 4), "u": floats(1, 9, 3), "h_w": floats(3, 5)}
    gru = """speech (float[T,B,4] x, float[1,B,3] h) => (float[B,5] y, hn) {
        s, hn = GRU <hidden_size = 3> (x, w, u, , , h)
        z = Squeeze (hn, ax)
        y = MatMul (z, h_w)
    }"""
    yield Case("gru_state", text(gru, rnn | {"ax": np.array([0], np.int64)}),
               {"x": floats(6, 2, 4), "h": floats(1, 2, 3)}, "calibrate compare")  # fmt: skip
    rate = "    big = Greater (sr, k8)\n    bigf = Cast <to = 1> (big)\n" + HEAD.replace("logits", "l0")
    yield Case("sample_rate", net(rate + "    logits = Mul (l0, bigf)\n", more={"k8": np.array(8000, np.int64)},
               inputs="float[N,3,8,8] image, int64 sr"), {**IMAGES, "sr": np.array(16000)}, FLOW)  # fmt: skip
    two = HEAD.replace("logits", "l0") + "    m = ReduceMean <axes = [0]> (other)\n    logits = Add (l0, m)\n"
    yield Case("two_batch_dims", net(two, inputs="float[N,3,8,8] image, float[M,5] other"),
               {**IMAGES, "other": floats(3, 5)})  # fmt: skip
    yield Case("batch_2_31", changed(lambda m: _dim(m, 2**31)), IMAGES)
    yield Case("batch_2_62", changed(lambda m: _dim(m, 2**62)), IMAGES)
    yield Case("batch_zero", changed(lambda m: _dim(m, 0)), IMAGES)
    yield Case("batch_negative", changed(lambda m: _dim(m, -1)), IMAGES)
    yield Case("batch_fixed", net(inputs="float[4,3,8,8] image", outputs="float[4,5] logits"), IMAGES, FLOW)
    yield Case("spatial_2_31", changed(lambda m: _dim(m, 2**31, 2)), IMAGES)
    symbols = net(inputs="float[batch,3,height,width] image")
    yield Case("symbols", symbols, IMAGES, FLOW)
    yield Case("symbol_expression", changed(lambda m: _symbol(m, "2*N + 1")), IMAGES, FLOW)
    yield Case("symbol_empty_all", net(inputs="float[?,?,?,?] image", outputs="float[?,?] logits"), IMAGES, FLOW)
    yield Case("no_shape", changed(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")), IMAGES, FLOW)
    yield Case("output_2_31", changed(lambda m: _dim(m, 2**31, of="output")), IMAGES, FLOW)
    yield Case("no_input_type", changed(lambda m: m.graph.input[0].ClearField("type")), IMAGES)
    yield Case("no_elem_type", changed(lambda m: m.graph.input[0].type.tensor_type.ClearField("elem_type")), IMAGES)
    yield Case("no_output_type", changed(lambda m: m.graph.output[0].ClearField("type")), IMAGES)
    yield Case(
        "zero_dim",
        net(
            HEAD.replace("logits", "l0") + "    logits = Concat <axis = 1> (l0, none)\n",
            inputs="float[N,3,8,8] image, float[N,0] none",
        ),
        {**IMAGES, "none": np.zeros((8, 0), np.float32)},
    )
    for kind, dtype in (("int64", np.int64), ("bool", np.bool_), ("uint8", np.uint8), ("float16", np.float16),
                        ("double", np.float64), ("int8", np.int8)):  # fmt: skip
        cast = BODY.replace("(image", "(im").replace("    a =", "    im = Cast <to = 1> (image)\n    a =", 1)
        array = np.abs(IMAGES["image"] * 9).astype(dtype)
        yield Case(f"input_{kind}", net(body=cast, inputs=f"{kind}[N,3,8,8] image"), {"image": array}, FLOW)
    bf16 = BODY.replace("(image", "(im").replace("    a =", "    im = Cast <to = 1> (image)\n    a =", 1)
    yield Case("input_bfloat16", net(body=bf16, inputs="bfloat16[N,3,8,8] image"), IMAGES)
    yield Case("input_string", net(inputs="float[N,3,8,8] image, string[N] label",
               outputs="float[N,5] logits, string[N] same", head=HEAD + "    same = Identity (label)\n"),
               {**IMAGES, "label": np.array(["a"] * 8)})  # fmt: skip
    for kind in ("sequence_type", "optional_type", "map_type"):
        yield Case(f"input_{kind}", changed(lambda m, kind=kind: _container_input(m, kind)), IMAGES)
    yield Case("output_sequence", changed(_sequence_output), IMAGES, FLOW)
    yield Case("output_sequence_only", changed(_sequence_only), IMAGES)
    yield Case("output_optional", changed(_optional_output, net(opset=18)), IMAGES)
    yield Case("output_zipmap", changed(_zipmap), IMAGES, FLOW)
    yield Case("output_string", changed(_string_output), IMAGES)
    yield Case("output_int", net(HEAD + "    top = ArgMax <axis = 1> (logits)\n", "float[N,5] logits, int64[N,1] top"),
               IMAGES, FLOW)  # fmt: skip
    yield Case("output_int_only", net(HEAD + "    top = ArgMax <axis = 1> (logits)\n", "int64[N,1] top"), IMAGES)
    yield Case("output_is_input", changed(lambda m: m.graph.output.append(m.graph.input[0])), IMAGES, FLOW)
    yield Case(
        "output_is_weight",
        changed(lambda m: m.graph.output.append(helper.make_tensor_value_info("w3", 1, [16, 5]))),
        IMAGES,
    )
    yield Case("output_twice", changed(lambda m: m.graph.output.append(m.graph.output[0])), IMAGES)
    yield Case(
        "output_unknown",
        changed(lambda m: m.graph.output.append(helper.make_tensor_value_info("nowhere", 1, [5]))),
        IMAGES,
        "",
        "nowhere",
    )
    yield Case("no_outputs", changed(lambda m: m.graph.ClearField("output")), IMAGES, "", "output")
    yield Case("no_inputs", changed(_no_inputs), IMAGES)
    yield Case("no_nodes", changed(lambda m: m.graph.ClearField("node")), IMAGES, "", NAMED)
    yield Case("no_graph", changed(lambda m: m.ClearField("graph")), IMAGES, "", NAMED)
    yield Case("wrong_declared_output", net(outputs="float[N,7] logits"), IMAGES, "lint")
    yield Case("wrong_declared_type", net(outputs="int64[N,5] logits"), IMAGES, "lint")
    yield Case("input_twice", changed(lambda m: m.graph.input.append(m.graph.input[0])), IMAGES, "", "image")
    yield Case("input_unused", net(inputs="float[N,3,8,8] image, float[N,4] unused"),
               {**IMAGES, "unused": floats(8, 4)}, FLOW)  # fmt: skip


def _dim(m: ModelProto, value: int, axis: int = 0, of: str = "input") -> None:
    getattr(m.graph, of)[0].type.tensor_type.shape.dim[axis].dim_value = value


def _symbol(m: ModelProto, name: str) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_param = name


def _container_input(m: ModelProto, kind: str) -> None:
    value = m.graph.input.add(name="box")
    tensor = helper.make_tensor_type_proto(1, [None])
    if kind == "map_type":
        value.type.map_type.key_type = TensorProto.INT64
        value.type.map_type.value_type.CopyFrom(tensor)
    else:
        getattr(value.type, kind).elem_type.CopyFrom(tensor)


def _sequence_output(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("SequenceConstruct", ["logits", "f"], ["both"], name="both_node"))
    m.graph.output.append(helper.make_tensor_sequence_value_info("both", 1, None))


def _sequence_only(m: ModelProto) -> None:
    _sequence_output(m)
    del m.graph.output[0]


def _optional_output(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("Optional", ["logits"], ["maybe"]))
    value = m.graph.output.add(name="maybe")
    value.type.optional_type.elem_type.CopyFrom(helper.make_tensor_type_proto(1, ["N", 5]))


def _zipmap(m: ModelProto) -> None:
    m.graph.node.append(
        helper.make_node("ZipMap", ["logits"], ["table"], domain="ai.onnx.ml", classlabels_int64s=list(range(5)))
    )
    m.opset_import.add(domain="ai.onnx.ml", version=3)
    value = m.graph.output.add(name="table")
    value.type.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    value.type.sequence_type.elem_type.map_type.value_type.CopyFrom(helper.make_tensor_type_proto(1, []))


def _string_output(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("Cast", ["logits"], ["words"], to=TensorProto.STRING))
    m.graph.output.append(helper.make_tensor_value_info("words", TensorProto.STRING, ["N", 5]))


def _no_inputs(m: ModelProto) -> None:
    m.graph.initializer.append(numpy_helper.from_array(IMAGES["image"], "image"))
    del m.graph.input[:]
