"""Names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnx import ModelProto, helper, numpy_helper

from corpus.control_flow import with_if
from corpus.nets import FLOW, IMAGES, NAMED, WEIGHTS, Case, changed


def names() -> Iterator[Case]:
    def rename(old: str, new: str) -> Callable[[ModelProto], None]:
        def change(m: ModelProto) -> None:
            for node in m.graph.node:
                for side in (node.input, node.output):
                    for k, name in enumerate(side):
                        if name == old:
                            side[k] = new
            for value in (*m.graph.input, *m.graph.output, *m.graph.initializer):
                if value.name == old:
                    value.name = new

        return change  # fmt: skip

    for name, other in (("space", "a b"), ("unicode", "ä漢字🙂"), ("slash", "/a/b:0"), ("quote", "it's \"x\""),
                        ("newline", "a\nb"), ("tab", "a\tb"), ("control", "a\x01b"), ("long", "x" * 3000),
                        ("html", "<script>x</script>"), ("comma", "a,b"), ("percent", "%s{0}")):  # fmt: skip
        yield Case(f"tensor_{name}", changed(rename("r", other)), IMAGES, "calibrate quantize")
        yield Case(f"input_{name}_name", changed(rename("image", other)), {other.replace("/", "_"): IMAGES["image"]})
        yield Case(f"output_{name}_name", changed(rename("logits", other)), IMAGES)
    yield Case("weight_empty_name", changed(rename("w2", "")), IMAGES, "", NAMED)
    yield Case("node_empty_names", changed(lambda m: [n.ClearField("name") for n in m.graph.node]), IMAGES, FLOW)
    yield Case("node_same_names", changed(lambda m: [setattr(n, "name", "node") for n in m.graph.node]), IMAGES, FLOW)
    yield Case("node_named_as_tensor", changed(lambda m: [setattr(n, "name", n.output[0]) for n in m.graph.node]),
               IMAGES, FLOW)  # fmt: skip
    yield Case("initializer_twice_same", changed(lambda m: m.graph.initializer.append(m.graph.initializer[0])),
               IMAGES, FLOW)  # fmt: skip
    yield Case(
        "initializer_twice_other",
        changed(lambda m: m.graph.initializer.append(numpy_helper.from_array(WEIGHTS["w1"] + 1, "w1"))),
        IMAGES,
        "",
        "w1",
    )
    yield Case(
        "output_made_twice",
        changed(lambda m: m.graph.node.insert(2, helper.make_node("Relu", ["a"], ["r"], name="second"))),
        IMAGES,
    )
    yield Case(
        "output_made_twice_differently",
        changed(lambda m: m.graph.node.insert(2, helper.make_node("Sigmoid", ["a"], ["r"], name="second"))),
        IMAGES,
        "",
        "'r'",
    )
    yield Case(
        "output_made_over_input",
        changed(lambda m: m.graph.node.insert(0, helper.make_node("Relu", ["image"], ["image"], name="second"))),
        IMAGES,
        "",
        "image",
    )
    yield Case(
        "output_made_over_weight",
        changed(lambda m: m.graph.node.insert(0, helper.make_node("Relu", ["w1"], ["w1"], name="second"))),
        IMAGES,
        "",
        "w1",
    )
    yield Case(
        "value_info_twice",
        changed(lambda m: m.graph.value_info.extend([helper.make_tensor_value_info("r", 1, ["N", 16, 8, 8])] * 2)),
        IMAGES,
        FLOW,
    )
    yield Case(
        "value_info_wrong",
        changed(lambda m: m.graph.value_info.append(helper.make_tensor_value_info("r", 1, ["N", 99, 8, 8]))),
        IMAGES,
    )
    yield Case(
        "value_info_wrong_type",
        changed(lambda m: m.graph.value_info.append(helper.make_tensor_value_info("r", 7, ["N", 16, 8, 8]))),
        IMAGES,
    )
    yield Case("looks_like_ours", changed(rename("r", "image_dequantized")), IMAGES, FLOW)
    yield Case("inner_shadows_outer", changed(_shadow), IMAGES, "", "r")


def _shadow(m: ModelProto) -> None:
    with_if(m)
    node = next(n for n in m.graph.node if n.op_type == "If")
    node.attribute[0].g.node.insert(0, helper.make_node("Relu", ["r"], ["r"]))
