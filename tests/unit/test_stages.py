"""Parts of a network that stay float as a whole: few channels, channel shuffles, small attention."""

from __future__ import annotations

import numpy as np
import pytest

from models import encoder, floats, quantized
from placement_parts import decisions, graph_of, ints, limited
from quantlab.qdq import EVERYTHING, Selection, plan, prepare, stages
from quantlab.qdq.stages import (
    BESIDE_RECURRENT,
    FEW,
    SHUFFLED,
    SMALL_ATTENTION,
    beside_shuffles,
    few_channels,
    stages_in_float,
)


def row(layers: int, channels: int, between: str = "r{k} = Relu (c{k})", kernel: int = 3) -> tuple[str, dict]:
    """Layers of a few channels in a row, between layers of 32; and the weights."""
    body = ["c0 = Conv <pads = [0,0,0,0]> (x, first)", between.format(k=0)]
    for k in range(1, layers + 1):
        body += [f"c{k} = Conv (r{k - 1}, w{k})", between.format(k=k)]
    body.append(f"y = Conv (r{layers}, last)")
    weights = {f"w{k}": floats(channels, channels, 1, 1, seed=k) for k in range(1, layers + 1)}
    weights |= {"first": floats(channels, 32, 1, 1), "last": floats(32, channels, 1, 1)}
    lines = "\n".join(body)
    return f"m (float[N,32,8,8] x) => (float[N,32,8,8] y) {{ {lines} }}", weights


@pytest.mark.parametrize(
    ("layers", "channels", "in_float"),
    [(5, 16, 0), (6, 16, 6), (7, 16, 7), (6, 17, 0), (8, 32, 0), (6, 4, 6)],
)
def test_six_layers_in_a_row_of_up_to_sixteen_channels_stay_float(layers: int, channels: int, in_float: int) -> None:
    text, weights = row(layers, channels)
    reasons = decisions(text, weights)[2]
    assert [node for node, reason in reasons.items() if reason == FEW] == [f"c{k}" for k in range(1, in_float + 1)]


@pytest.mark.parametrize("shape", [(16, 32, 1, 1), (32, 16, 1, 1)])
def test_layer_with_few_channels_on_one_side_only_does_not_count(shape: tuple[int, ...]) -> None:
    text, weights = row(7, 16)
    odd = {"w4": floats(*shape)}
    odd |= {"w5": floats(16, 32, 1, 1)} if shape[0] == 32 else {"w3": floats(32, 16, 1, 1)}
    assert not list(few_channels(graph_of(text, weights | odd)))


@pytest.mark.parametrize(
    "between",
    [
        "r{k} = Relu (c{k})",
        "s{k} = Sigmoid (c{k})  r{k} = Mul (c{k}, s{k})",
        "r{k} = Transpose <perm = [0,1,3,2]> (c{k})",
        "r{k} = MaxPool <kernel_shape = [1,1]> (c{k})",
    ],
)
def test_activations_and_what_moves_values_do_not_end_a_row(between: str) -> None:
    assert len(list(few_channels(graph_of(*row(6, 16, between))))) == 6


def test_softmax_ends_a_row() -> None:
    assert not list(few_channels(graph_of(*row(6, 16, "r{k} = Softmax (c{k})"))))


def residual(blocks: int, channels: int = 16) -> tuple[str, dict[str, np.ndarray]]:
    """Two layers and a sum each, between layers of 32 channels."""
    body, weights = ["t0 = Conv (x, first)"], {"first": floats(channels, 32, 1, 1), "last": floats(32, channels, 1, 1)}
    for k in range(1, blocks + 1):
        body += [
            f"a{k} = Conv (t{k - 1}, w{k})", f"r{k} = Relu (a{k})", f"b{k} = Conv (r{k}, v{k})",
            f"s{k} = Add (b{k}, t{k - 1})", f"t{k} = Relu (s{k})",
        ]  # fmt: skip
        weights |= {f"w{k}": floats(channels, channels, 1, 1), f"v{k}": floats(channels, channels, 1, 1)}
    lines = "\n".join([*body, f"y = Conv (t{blocks}, last)"])
    return f"m (float[N,32,8,8] x) => (float[N,32,8,8] y) {{ {lines} }}", weights


def test_residual_sums_do_not_end_a_row() -> None:
    assert not list(few_channels(graph_of(*residual(2))))
    assert sorted(n.name for n in few_channels(graph_of(*residual(3)))) == ["a1", "a2", "a3", "b1", "b2", "b3"]


def test_sums_beside_float_layers_stay_float_and_the_others_do_not() -> None:
    reads, _, reasons = decisions(*residual(3))
    assert {n for n, r in reasons.items() if r == FEW} == {"a1", "a2", "a3", "b1", "b2", "b3"}
    assert not any(read.startswith("s") for read in reads)
    reads, _, _ = decisions(*residual(3, channels=32))
    assert {"s1<-t0", "s2<-t1", "s3<-t2"} <= set(reads)


def test_long_kernels_of_few_channels_count_too() -> None:
    body = "  ".join(f"c{k} = Conv <pads = [8,8]> (c{k - 1}, w)" for k in range(1, 7))
    text = f"m (float[N,16,99] x) => (float[N,16,99] c6) {{ c0 = Relu (x)  {body} }}"
    assert len(list(few_channels(graph_of(text, {"w": floats(16, 16, 17)})))) == 6


def test_computed_weight_of_unknown_size_is_not_of_few_channels() -> None:
    text = "m (float[N,8,4,4] x, float[K,8,1,1] k) => (float[A,B,C,D] y) { y = Conv (x, k) }"
    assert not list(few_channels(graph_of(text)))


def test_two_rows_that_never_meet_are_counted_apart() -> None:
    text, weights = row(3, 16)
    other, _ = row(3, 16)
    lines = other[other.index("{") + 1 : other.rindex("}")].replace("x, first", "y, first")
    for name in "cry":
        lines = lines.replace(f"{name}0", f"{name}q0").replace(" y = ", " z = ")
        for k in range(1, 4):
            lines = lines.replace(f"{name}{k}", f"{name}q{k}")
    both = (
        text.replace("=> (float[N,32,8,8] y)", "=> (float[N,32,8,8] z)").rstrip("} ")
        + lines.replace("y = Conv (rq3", "z = Conv (rq3")
        + "}"
    )
    assert not list(few_channels(graph_of(both, weights)))


def test_parallel_branches_of_one_tensor_are_one_row_when_they_meet() -> None:
    lines = ["t = Conv (x, first)", *(f"a{k} = Conv (t, w)  b{k} = Conv (a{k}, w)" for k in range(3))]
    lines += ["s = Add (b0, b1)", "u = Add (s, b2)", "c = Conv (u, w)", "y = Conv (c, last)"]
    body = "\n".join(lines)
    weights = {"w": floats(16, 16, 1, 1), "first": floats(16, 32, 1, 1), "last": floats(32, 16, 1, 1)}
    found = few_channels(graph_of(f"m (float[N,32,8,8] x) => (float[N,32,8,8] y) {{ {body} }}", weights))
    assert sorted(n.name for n in found) == ["a0", "a1", "a2", "b0", "b1", "b2", "c"]


def test_depthwise_and_first_convolutions_are_not_of_few_channels() -> None:
    for old, new, group in (("w3", floats(16, 1, 1, 1), 16), ("w3", floats(16, 4, 1, 1), 4)):
        text, weights = row(6, 16)
        text = text.replace("c3 = Conv (", f"c3 = Conv <group = {group}> (")
        assert not list(few_channels(graph_of(text, weights | {old: new})))


def test_layer_of_few_channels_is_int8_where_it_is_asked_for() -> None:
    text, weights = row(6, 16)
    reasons = decisions(text, weights, Selection(include=("c3", "y", "c0")))[2]
    assert {node for node, reason in reasons.items() if reason == FEW} == set()
    assert {node for node, reason in reasons.items() if reason == "not included"} == {"c1", "c2", "c4", "c5", "c6"}
    assert not {"c1", "c2", "c3", "c4", "c5", "c6"} & decisions(text, weights, EVERYTHING)[2].keys()


SHUFFLE = "r = Reshape ({x}, five)  t = Transpose <perm = [0,2,1,3,4]> (r)  {y} = Reshape (t, four)"
CONSTANTS = {
    "five": ints(0, 2, 32, 8, 8), "four": ints(0, 64, 8, 8), "w": floats(64, 64, 1, 1), "h": floats(64, 32, 1, 1),
    "from": ints(0), "to": ints(32), "axis": ints(1), "half": ints(32, 32), "k": floats(32, 32, 1, 1),
    "ends": ints(64),
}  # fmt: skip


def shuffled(before: str, behind: str, x: str = "a", y: str = "b") -> list[str]:
    """The layers beside a shuffle of 64 channels in two groups; 64 channels come in as x."""
    text = f"m (float[N,64,8,8] x) => (float[A,B,C,D] y) {{ {before}  {SHUFFLE.format(x=x, y=y)}  {behind} }}"
    return sorted({node.name for node in beside_shuffles(graph_of(text, CONSTANTS))})


@pytest.mark.parametrize(
    ("before", "behind", "beside"),
    [
        ("a = Conv (x, w)", "y = Conv (b, w)", ["a", "y"]),
        ("c = Conv (x, w)  a = Relu (c)", "d = Relu (b)  y = Conv (d, w)", ["c", "y"]),
        ("d = Conv (x, w)  c = Conv (d, w)  a = Relu (c)", "e = Conv (b, w)  y = Conv (e, w)", ["c", "e"]),
        ("c = Conv (x, w)  d = Conv (x, w)  a = Add (c, d)", "y = Softmax (b)", ["c", "d"]),
        (
            "l, h2 = Split <axis = 1> (x, half)  c = Conv (l, k)  d = Conv (h2, k)  a = Concat <axis = 1> (c, d)",
            "e, f = Split <axis = 1> (b, half)  g = Conv (e, k)  y = Concat <axis = 1> (g, f)", ["c", "d", "g"],
        ),
        ("a = Softmax (x)", "e = Slice (b, from, to, axis)  y = Conv (e, k)", ["y"]),
        ("a = Softmax (x)", "e = Slice (b, from, to, axis)  f = Softmax (e)  y = Conv (f, k)", []),
        ("c = Conv (x, w)  a = Softmax (c)", "y = Softmax (b)", []),
    ],
)  # fmt: skip
def test_layers_before_and_behind_a_shuffle_are_found(before: str, behind: str, beside: list[str]) -> None:
    assert shuffled(before, behind) == beside


def test_layers_stop_at_the_next_shuffle_and_at_a_concat() -> None:
    again = SHUFFLE.format(x="p", y="q").replace("r =", "r2 =").replace("(r)", "(r2)").replace("t =", "t2 =")
    again = again.replace("(t,", "(t2,")
    behind = f"p = Relu (b)  {again}  y = Conv (q, w)"
    text = (
        f"m (float[N,64,8,8] x) => (float[A,B,C,D] y) {{ a = Conv (x, w)  {SHUFFLE.format(x='a', y='b')}  {behind} }}"
    )
    assert {n.name for n in beside_shuffles(graph_of(text, CONSTANTS))} == {"a", "y"}
    join = "c = Concat <axis = 1> (b, x)  y = Conv (c, two)"
    text = f"m (float[N,64,8,8] x) => (float[A,B,C,D] y) {{ a = Conv (x, w)  {SHUFFLE.format(x='a', y='b')}  {join} }}"
    weights = CONSTANTS | {"two": floats(64, 128, 1, 1)}
    assert {n.name for n in beside_shuffles(graph_of(text, weights))} == {"a"}


@pytest.mark.parametrize(
    ("shuffle", "more"),
    [
        ("r = Reshape (a, five)  t = Transpose <perm = [0,1,2,4,3]> (r)  b = Reshape (t, four)", {}),
        ("r = Reshape (a, five)  t = Transpose <perm = [0,3,2,1,4]> (r)  b = Reshape (t, four)", {}),
        ("r = Relu (a)  t = Transpose <perm = [0,2,1,3]> (r)  b = Reshape (t, four)", {}),
        ("r = Reshape (a, five)  t = Transpose <perm = [0,2,1,3,4]> (r)  b = Relu (t)", {}),
        ("t = Transpose <perm = [0,2,1,3]> (a)  b = Reshape (t, four)", {}),
        ("r = Unsqueeze (a, axis)  t = Transpose <perm = [0,2,1,3,4]> (r)  b = Reshape (t, four)", {}),
        ("r = Reshape (a, five)  t = Transpose <perm = [0,2,1,3,4]> (r)  b = ReduceMax <axes = [4], keepdims = 0> (t)",
         {}),
        # one dimension more or less than a shuffle takes
        ("r = Reshape (a, six)  t = Transpose <perm = [0,2,1,3,4,5]> (r)  b = Reshape (t, four)",
         {"six": ints(0, 2, 32, 4, 2, 8)}),
        ("r = Reshape (a, four)  t = Transpose <perm = [0,2,1,3]> (r)  b = Reshape (t, four)", {}),
        ("r = Reshape (a, five)  t = Transpose <perm = [0,2,1,3,4]> (r)  b = Reshape (t, three)",
         {"three": ints(0, 64, 64)}),
    ],
)  # fmt: skip
def test_other_transposes_are_no_shuffle(shuffle: str, more: dict[str, np.ndarray]) -> None:
    text = f"m (float[N,64,8,8] x) => (float[A,B,C,D] y) {{ a = Conv (x, w)  {shuffle}  y = Softmax (b) }}"
    assert not list(beside_shuffles(graph_of(text, CONSTANTS | more)))


def test_shuffle_of_a_signal_is_one_and_what_others_read_is_none() -> None:
    text = """m (float[N,8,9] x) => (float[N,8,9] y) {
        a = Conv (x, w)  r = Reshape (a, four)  t = Transpose <perm = [0,2,1,3]> (r)  b = Reshape (t, three)
        y = Conv (b, w)
    }"""
    weights = {"w": floats(8, 8, 1), "four": ints(0, 2, 4, 9), "three": ints(0, 8, 9)}
    assert {n.name for n in beside_shuffles(graph_of(text, weights))} == {"a", "y"}
    two = (
        text.replace("=> (float[N,8,9] y)", "=> (float[N,8,9] y, float[A,B,C,D] z)").rstrip("} \n") + " z = Relu (t) }"
    )
    assert not list(beside_shuffles(graph_of(two, weights)))
    for tensor in ("a", "r", "b"):
        unknown = graph_of(text, weights)
        unknown.tensors()[tensor].shape = None
        assert not list(beside_shuffles(unknown))


def test_shuffle_of_a_volume_is_none() -> None:
    text = """m (float[N,8,2,3,3] x) => (float[N,8,2,3,3] y) {
        a = Conv (x, w)  r = Reshape (a, six)  t = Transpose <perm = [0,2,1,3,4,5]> (r)  b = Reshape (t, five)
        y = Conv (b, w)
    }"""
    weights = {"w": floats(8, 8, 1, 1, 1), "six": ints(0, 2, 4, 2, 3, 3), "five": ints(0, 8, 2, 3, 3)}
    assert not list(beside_shuffles(graph_of(text, weights)))


def test_reason_of_a_shuffle_counts_before_the_others() -> None:
    shuffle = SHUFFLE.format(x="a", y="b")
    text = f"m (float[N,64,8,8] x) => (float[A,B,C,D] y) {{ a = Conv (x, w)  {shuffle}  y = Conv (b, w) }}"
    assert stages_in_float(graph_of(text, CONSTANTS)) == {"a": SHUFFLED, "y": SHUFFLED}


ATTENTION = "m (float[{n},{t},{d}] x) => (float[{n},{t},{d}] y) {{ k = Transpose <perm = [0,2,1]> (x)  " \
    "s = MatMul (x, k)  p = Softmax (s)  o = MatMul (p, x)  y = MatMul (o, w) }}"  # fmt: skip


@pytest.mark.parametrize(
    ("n", "t", "d", "is_small"),
    [
        (2, 8, 32, True),
        (63, 64, 1024, True),  # 63 * 64 * 1024 * 1024 in the last product: one step below 2^32
        (64, 64, 1024, False),
        (1, 2048, 1023, True),  # 2048 * 2048 * 1023 in the first two
        (1, 2048, 1024, False),
        ("N", 63, 1024, True),  # a dynamic batch is taken to have 64 samples
        ("N", 64, 1024, False),
        (2, "T", 32, False),  # other dynamic dimensions are taken to be large
    ],
)
def test_attention_whose_largest_product_is_small_stays_float(n: object, t: object, d: int, is_small: bool) -> None:
    graph = graph_of(ATTENTION.format(n=n, t=t, d=d), {"w": np.zeros((d, d), np.float32)})
    assert "2^32" in SMALL_ATTENTION
    assert stages_in_float(graph) == (dict.fromkeys(["s", "o", "y"], SMALL_ATTENTION) if is_small else {})


def test_products_with_constants_alone_are_no_attention() -> None:
    text = "m (float[2,8,32] x) => (float[2,8,32] y) { a = MatMul (x, w)  y = MatMul (w2, a) }"
    assert stages_in_float(graph_of(text, {"w": floats(32, 32), "w2": floats(8, 8)})) == {}
    assert (
        stages_in_float(graph_of("m (float[2,8] x) => (float[2,4] y) { y = Gemm (x, w) }", {"w": floats(8, 4)})) == {}
    )


def test_small_attention_is_int8_where_it_is_asked_for() -> None:
    model = encoder(1, rows="2,7")
    assert plan(prepare(model)).tensors == ()
    chosen = quantized(model, [{"x": floats(2, 7, 32)}], selection=Selection(include=("l0f_m*",))).placement
    assert {node for node, _, _ in chosen.activations} == {"l0f_m_MatMul"}


@pytest.mark.parametrize(
    ("n", "size", "is_small"),
    [(2, 8, True), (31, 128, True), (32, 128, False), ("N", 90, True), ("N", 91, False), (2, "T", False)],
)
def test_small_network_with_a_recurrent_layer_stays_float(n: object, size: object, is_small: bool) -> None:
    # 32 * 128 * 128 * 256 * 512 is 2^36, in the one convolution; a dynamic batch counts as 64
    text = f"""m (float[{n},256,{size},{size}] x, float[3,1,8] s) => (float[A,B,C,D] y, float[E,F,G,H] r) {{
        y = Conv (x, w)
        r = LSTM <hidden_size = 4> (s, i, h)
    }}"""
    weights = {"w": np.zeros((512, 256, 1, 1), np.float32), "i": floats(1, 16, 8), "h": floats(1, 16, 4)}
    assert "2^36" in BESIDE_RECURRENT
    assert stages_in_float(graph_of(text, weights)) == ({"y": BESIDE_RECURRENT} if is_small else {})


def test_chain_of_branching_activations_is_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # each of them has two ways through it: 2^40 in all
    steps = "\n".join(f"s{k} = Sigmoid (a{k})  a{k + 1} = Mul (a{k}, s{k})" for k in range(40))
    text = f"m (float[N,16,8,8] x) => (float[N,16,8,8] y) {{ a0 = Conv (x, w)  {steps}  y = Conv (a40, w) }}"
    graph = graph_of(text, {"w": floats(16, 16, 1, 1)})
    monkeypatch.setattr(stages, "row_of", limited(stages.row_of, 100 * len(graph.nodes)))
    assert list(few_channels(graph)) == []


def test_long_row_of_sums_is_followed_to_its_end() -> None:
    steps = "\n".join(f"c{k} = Conv (t{k}, w)  s{k} = Add (c{k}, t{k})  t{k + 1} = Relu (s{k})" for k in range(400))
    text = f"m (float[N,16,8,8] x) => (float[N,16,8,8] t400) {{ t0 = Relu (x)  {steps} }}"
    assert len(list(few_channels(graph_of(text, {"w": floats(16, 16, 1, 1)})))) == 400
