"""Q06, Q20, Q21 and Q22: pairs that break a fusion, and pairs that are missing around depthwise convolutions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lint_parts import DEPTHWISE, DEPTHWISE_CODES, INT8, codes, pair, pointwise
from models import floats, parse, run
from quantlab.qdq import Finding, lint, repair

HARD = "h = HardSigmoid ({a})  r = Mul ({a}, h)  "
SILU = "h = Sigmoid ({a})  r = Mul ({a}, h)  "
OTHER = ", float[N,8,6,6] o"


def model_of(rest: str, more: str = "") -> onnx.ModelProto:
    arrays = {name: np.asarray(value) for name, value in DEPTHWISE_CODES.items()}
    return parse(DEPTHWISE.format(rest=rest, more=more), arrays)


def findings(rest: str, more: str = "") -> list[Finding]:
    return lint(model_of(rest, more))


SHOWING = {
    # read in INT8 and in float
    "a second reader": ("Q20", pointwise("y", "a") + "o = Softmax (a)", OTHER),
    "a second reader behind Relu": ("Q20", "r = Relu (a)  " + pointwise("y", "r") + "o = Softmax (r)", OTHER),
    "an output": ("Q20", pointwise("y", "o").replace("o,", "a,") + "o = Identity (a)", OTHER),
    # an activation that does not fuse reads float
    "HardSwish": ("Q21", HARD.format(a="a") + pointwise("y", "r"), ""),
    "LeakyRelu": ("Q21", "r = LeakyRelu (a)  " + pointwise("y", "r"), ""),
    "LeakyRelu behind Relu": ("Q21", "b = Relu (a)  r = LeakyRelu (b)  " + pointwise("y", "r"), ""),
    # nothing reads it in INT8
    "the end": ("Q22", "y = Relu (a)", ""),
    "float readers": ("Q22", "r = Relu (a)  y = Softmax (r)  o = Tanh (r)", OTHER),
    "HardSwish at the end": ("Q22", HARD.format(a="a") + "y = Softmax (r)", ""),
}


@pytest.mark.parametrize("name", SHOWING)
def test_depthwise_convolution_that_falls_back_to_fp16_is_found_once(name: str) -> None:
    code, rest, more = SHOWING[name]
    (finding,) = findings(rest, more)
    assert (finding.code, finding.node, finding.severity) == (code, "a", "warning")


@pytest.mark.parametrize("name", SHOWING)
def test_repair_mends_it_and_keeps_the_numbers(name: str) -> None:
    _, rest, more = SHOWING[name]
    given = model_of(rest, more)
    result = repair(given, min_sqnr_db=20)
    assert result.after == ()
    assert len(result.before) == 1
    batch = {"x": floats(2, 8, 8, 8)}
    assert [y.shape for y in run(result.model, batch)] == [y.shape for y in run(given, batch)]


@pytest.mark.parametrize(
    ("rest", "more"),
    [
        (pointwise("y", "a"), ""),
        ("r = Relu (a)  " + pointwise("y", "r"), ""),
        ("r = Clip (a, zero, six)  " + pointwise("y", "r"), ""),
        (SILU.format(a="a") + pointwise("y", "r"), ""),
        (pair("b", "a") + HARD.format(a="b") + pointwise("y", "r"), ""),
        ("r = Relu (a)  " + pair("b", "r") + "h = LeakyRelu (b)  " + pointwise("y", "h"), ""),
        ("r = Relu (a)  " + pointwise("y", "r") + "o = Softmax (dy)", OTHER),  # both read the pair
        (pair("b", "a") + "y = Softmax (b)", ""),  # who reads the pair need not be a layer
        ("r = BatchNormalization (a, g, g, g, g)  " + pointwise("y", "r"), ""),
        ("r = Mul (a, six)  " + pointwise("y", "r"), ""),
    ],
)
def test_depthwise_convolution_in_int8_throughout_is_clean(rest: str, more: str) -> None:
    constants = DEPTHWISE_CODES | {"zero": np.float32(0), "six": np.float32(6), "g": np.ones(8, np.float32)}
    assert codes(DEPTHWISE.format(rest=rest, more=more), constants) == []


def test_details_name_the_tensor_the_activation_and_the_readers() -> None:
    (mixed,) = findings(*SHOWING["a second reader"][1:])
    assert mixed.detail == "its result 'a' is quantized, and read in float by Softmax 'o'"
    outputs = model_of(pointwise("y", "a"), ", float[N,8,6,6] a")
    assert [f.detail for f in lint(outputs)] == [
        "its result 'a' is quantized, and read in float by the network's output"
    ]
    (unfused,) = findings(*SHOWING["HardSwish"][1:])
    assert unfused.detail == "HardSwish 'h' is not fused into a depthwise convolution"
    (lost,) = findings(*SHOWING["the end"][1:])
    assert lost.detail == "its result 'y' is read in float only"


def layer(group: int, weight: tuple[int, ...], rest: str, channels: int = 8) -> list[str]:
    """Another kind of convolution than the depthwise one, float weight behind a pair."""
    text = DEPTHWISE.format(rest=rest, more="").replace("float[N,8,8,8] x", f"float[N,{channels},8,8] x")
    text = text.replace("w = Dequ", "qw = QuantizeLinear <axis = 0> (k, s8, z8)  w = Dequ").replace("(depth,", "(qw,")
    return codes(text.replace("group = 8", f"group = {group}"), DEPTHWISE_CODES | {"k": floats(*weight, scale=0.1)})


FIRST, GROUPED, ORDINARY = (1, (8, 3, 3, 3)), (2, (8, 4, 3, 3)), (1, (8, 8, 3, 3))


def test_first_and_ordinary_convolutions_may_write_float() -> None:
    assert layer(*FIRST, rest="y = Relu (a)", channels=3) == []
    assert layer(*ORDINARY, rest="y = Relu (a)") == []
    assert layer(*GROUPED, rest="y = Relu (a)") == ["Q22"]
    mixed = "r = Relu (a)  " + pointwise("y", "r") + "h = Softmax (r)"
    assert layer(*FIRST, rest=mixed, channels=3) == []
    assert layer(*ORDINARY, rest=mixed) == []
    assert layer(*GROUPED, rest=mixed) == ["Q20"]


@pytest.mark.parametrize(
    ("form", "first", "grouped"), [(HARD, ["Q21"], ["Q21"]), (SILU, [], ["Q21"]), ("r = Relu ({a})  ", [], [])]
)
def test_activation_that_does_not_fuse_into_a_kind_is_found(form: str, first: list[str], grouped: list[str]) -> None:
    rest = form.format(a="a") + pointwise("y", "r")
    assert layer(*FIRST, rest=rest, channels=3) == first
    assert layer(*GROUPED, rest=rest) == grouped
    assert layer(*ORDINARY, rest=rest) == []


@pytest.mark.parametrize(
    ("form", "first", "grouped"), [(HARD, [], []), (SILU, ["Q06"], []), ("r = Relu ({a})  ", ["Q06"], ["Q06"])]
)
def test_pair_before_an_activation_breaks_a_fusion_only_where_there_is_one(
    form: str, first: list[str], grouped: list[str]
) -> None:
    rest = pair("b", "a") + form.format(a="b") + pointwise("y", "r")
    assert layer(*FIRST, rest=rest, channels=3) == first
    assert layer(*GROUPED, rest=rest) == grouped
    assert layer(*ORDINARY, rest=rest) == ["Q06"]


def test_first_convolution_without_readers_in_int8_needs_no_pair_before_its_activation() -> None:
    assert layer(*FIRST, rest=HARD.format(a="a") + "y = Softmax (r)", channels=3) == []


def test_float_convolution_is_nobodys_to_complain_about() -> None:
    text = "m (float[N,8,8,8] x) => (float[N,8,6,6] y) { a = Conv <group = 8> (x, w)  y = Relu (a) }"
    assert lint(parse(text, {"w": floats(8, 1, 3, 3)})) == []
    half = text.replace("a = Conv <group = 8> (x,", "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  "
                        "a = Conv <group = 8> (d,")  # fmt: skip
    assert codes(half, INT8 | {"w": floats(8, 1, 3, 3)}) == ["Q16"]


MODELOPT = """m (float[N,3,8,8] x) => (float[A,B] y) {{
    qx = QuantizeLinear (x, s, z)  dx = DequantizeLinear (qx, s, z)
    qk = QuantizeLinear <axis = 0> (k, s8, z8)  dk = DequantizeLinear <axis = 0> (qk, s8, z8)
    c = Conv <pads = [1,1,1,1]> (dx, dk)  r = Relu (c)
    qr = QuantizeLinear (r, s, z)  dr = DequantizeLinear (qr, s, z)
    qd = QuantizeLinear <axis = 0> (d, s8, z8)  dd = DequantizeLinear <axis = 0> (qd, s8, z8)
    a = Conv <group = 8, pads = [1,1,1,1]> (dr, dd)
    {form}
    {gate}
    y = Flatten (g)
}}"""
"""Float weights behind pairs; the gate reads one of its inputs, or both, in INT8."""


@pytest.mark.parametrize(
    ("form", "gate", "found"),
    [
        ("b = Relu (a)", "{pool}  m = Mul (b, e)  g = Softmax (m)", ["Q20"]),
        ("b = Relu (a)", "{pool}  m = Mul (db, de)  g = Softmax (m)", []),
        ("h = HardSigmoid (a)  b = Mul (a, h)", "{pool}  m = Mul (db, de)  g = Softmax (m)", ["Q21"]),
        ("h = HardSigmoid (a)  b = Mul (a, h)", "g = Softmax (b)", ["Q22"]),
    ],
)
def test_model_as_modelopt_writes_it_is_read_and_repaired(form: str, gate: str, found: list[str]) -> None:
    pool = "qb = QuantizeLinear (b, s, z)  db = DequantizeLinear (qb, s, z)  p = GlobalAveragePool (db)  " \
        "e = Sigmoid (p)  qe = QuantizeLinear (e, s, z)  de = DequantizeLinear (qe, s, z)"  # fmt: skip
    if "Mul (b, e)" in gate:
        pool = pool[: pool.index("  qe")]
    constants = DEPTHWISE_CODES | {"k": floats(8, 3, 3, 3, scale=0.2), "d": floats(8, 1, 3, 3, seed=1, scale=0.3)}
    model = parse(
        MODELOPT.format(form=form, gate=gate.format(pool=pool)), {n: np.asarray(v) for n, v in constants.items()}
    )
    assert sorted({f.code for f in lint(model)}) == found
    assert repair(model, min_sqnr_db=10).after == ()


ONNX_RUNTIME = """m (float[N,8,8,8] x) => (float[A,B,C,D] y) {
    qx = QuantizeLinear (x, s, z)  dx = DequantizeLinear (qx, s, z)
    w = DequantizeLinear <axis = 0> (depth, s8, z8)
    a = Conv <group = 8> (dx, w)
    qa = QuantizeLinear (a, s, z)  da = DequantizeLinear (qa, s, z)
    h = HardSigmoid (da)
    qh = QuantizeLinear (h, s, z)  dh = DequantizeLinear (qh, s, z)
    r = Mul (da, dh)
    qr = QuantizeLinear (r, s, z)  dr = DequantizeLinear (qr, s, z)
    v = DequantizeLinear <axis = 0> (point, s8, z8)
    c = Conv (dr, v)
    qc = QuantizeLinear (c, s, z)  y = DequantizeLinear (qc, s, z)
}"""
"""A pair behind every node."""


def test_model_as_onnx_runtime_writes_it_is_read_and_repaired() -> None:
    model = parse(ONNX_RUNTIME, {n: np.asarray(v) for n, v in DEPTHWISE_CODES.items()})
    assert {f.code for f in lint(model)} == {"Q08"}  # the pair before HardSwish belongs there
    result = repair(model, min_sqnr_db=10)
    assert result.after == ()
    reads = {(node, tensor) for node, _, tensor in result.placement.activations}
    assert any(tensor == "a" for _, tensor in reads)
