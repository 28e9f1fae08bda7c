"""What of the way from Keras needs no TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import quantlab.keras
from models import conv_net, floats, parse
from quantlab.errors import ConfigError, DataError, GraphError, MissingDependencyError
from quantlab.keras.names import settle_names
from quantlab.keras.quantize import keras_batches
from quantlab.keras.ranges import FakeQuant, int8_scales
from quantlab.onnx_model import TensorSpec, input_specs


def fake(low: Any, high: Any, bits: int = 8, narrow: bool = False) -> FakeQuant:
    return FakeQuant.of("x", low, high, bits, narrow)


def codes_of_tensorflow(one: FakeQuant) -> np.ndarray:
    """All values that a FakeQuant operator lets through, as TensorFlow's documentation defines them, in float64."""
    first = 1 if one.narrow_range else 0
    low, high = float(one.low[0]), float(one.high[0])
    step = (high - low) / (255 - first)
    shift = step * round(low / step)
    return shift + step * np.arange(256 - first)


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("amax", [1.0, 6.0, 0.3, 1e-6, 1234.5])
def test_symmetric_range_keeps_every_value_but_perhaps_the_highest(amax: float, narrow: bool) -> None:
    one = fake(-amax, amax, narrow=narrow)
    found = int8_scales(one)
    ours = float(found.scales[0]) * np.arange(-128, 128)
    theirs = codes_of_tensorflow(one)
    shared = [value for value in theirs if np.abs(ours - value).min() <= 1e-6 * amax]
    assert len(shared) >= len(theirs) - 1
    assert bool(found.loss(one)) == (len(shared) < len(theirs)) or not narrow
    assert not narrow or not found.loss(one)


@pytest.mark.parametrize(
    ("low", "high", "times"), [(0.0, 6.0, 255 / 127), (-1.0, 3.0, 191 / 127), (-5.0, 1.2, 206 / 127)]
)
def test_asymmetric_range_reaches_its_farther_end_and_says_what_that_costs(
    low: float, high: float, times: float
) -> None:
    one = fake(low, high)
    found = int8_scales(one)
    theirs = codes_of_tensorflow(one)
    # the shifted range ends within half a step of the given one
    assert float(found.scales[0]) * 127 == pytest.approx(np.abs(theirs).max(), rel=1e-5)
    assert float(found.scales[0] / found.steps[0]) == pytest.approx(times, rel=1e-2)
    assert f"up to {found.scales[0] / found.steps[0]:.3g} times as large" in found.loss(one)


def test_ranges_per_channel_have_a_scale_each() -> None:
    one = fake([-1.0, -2.0, -0.5], [1.0, 2.0, 0.5], narrow=True)
    assert int8_scales(one).scales.tolist() == pytest.approx([1 / 127, 2 / 127, 0.5 / 127], rel=1e-6)


@pytest.mark.parametrize(
    ("one", "match"),
    [
        (fake(-1, 1, bits=4), "trained with 4 bits"),
        (fake(1, 3), "range 1 to 3, which does not hold zero"),
        (fake(-3, -1), "range -3 to -1, which does not hold zero"),
        (fake(0, 0), "range 0 to 0, which holds no values"),
        (fake(2, -2), "range 2 to -2, which holds no values"),
        (fake(-1, np.nan), "which holds no values"),
        (fake(-np.inf, 1), "which holds no values"),
        (fake([-1, 1], [1, 2]), "range 1 to 2, which does not hold zero"),
    ],
)
def test_range_that_no_scale_stands_for_is_refused(one: FakeQuant, match: str) -> None:
    with pytest.raises(GraphError, match=match):
        int8_scales(one)


NHWC = """m (float[N,8,6,3] image) => (float[N,8,6,4] y, float[N,2] z) {
    t = Transpose <perm = [0,3,1,2]> (image)
    c = Conv <pads = [1,1,1,1]> (t, w)
    y = Transpose <perm = [0,2,3,1]> (c)
    p = GlobalAveragePool (c)
    v = Transpose <perm = [0,2,3,1]> (p)
    f = Flatten (v)
    r = MatMul (f, d)
    k = Transpose <perm = [1,0]> (e)
    z = MatMul (r, k)
}"""


def test_every_transpose_of_computed_values_is_found_with_its_cost() -> None:
    weights = {"w": floats(4, 3, 3, 3), "d": floats(4, 5), "e": floats(2, 5)}
    found = quantlab.keras.borders(parse(NHWC, weights))
    rows = [(b.place, b.tensor, b.perm, b.values, b.moves) for b in found]
    assert rows == [
        ("input", "image", (0, 3, 1, 2), 144, True),
        ("output", "c", (0, 2, 3, 1), 192, True),
        ("inside", "p", (0, 2, 3, 1), 4, False),
    ]
    assert str(found[0]) == "Transpose at the input ('image', 0 3 1 2): moves 144 values a sample"
    assert str(found[2]).endswith("moves nothing, it is a view")
    assert not quantlab.keras.borders(conv_net())


def test_names_are_settled_in_the_order_of_the_network() -> None:
    weights = {"w__7": floats(4, 3, 3, 3), "const_fold__91": floats(1)}
    model = parse("""m (float[unk__3,3,8,8] x) => (float[unk__4,4,6,6] y) {
        a__55 = Conv (x, w__7)
        y = Add (a__55, const_fold__91)
    }""", weights)  # fmt: skip
    model.graph.node[1].name = "sum__12"
    settle_names(model)
    conv, add = model.graph.node
    assert (conv.output[0], add.name) == ("a__2", "sum__0")
    assert list(add.input) == ["a__2", "sum__0/constant_1"] or add.input[1].endswith("/constant_1")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert {t.name for t in model.graph.initializer} == {conv.input[1], add.input[1]}


@pytest.mark.parametrize(
    ("shape", "data", "match"),
    [
        ((None, 8, 6, 3), (2, 3, 8, 6), "look like NCHW images, and the model takes NHWC.*'nhwc'"),
        ((None, 3, 8, 8), (2, 8, 8, 3), "look like NHWC images, and the model takes NCHW.*'nchw'"),
    ],
)
def test_data_in_the_other_layout_are_refused(shape: tuple[int, ...], data: tuple[int, ...], match: str) -> None:
    spec = TensorSpec("image", np.dtype(np.float32), shape)
    for given in (np.zeros(data, np.float32), [np.zeros(data, np.float32)], {"image": np.zeros(data, np.float32)}):
        with pytest.raises(DataError, match=match):
            keras_batches(given, [spec])


def test_data_that_are_wrong_otherwise_are_left_to_calibration() -> None:
    specs = input_specs(conv_net())
    keras_batches([np.zeros((2, 5, 8, 8), np.float32)], specs)
    with pytest.raises(ConfigError, match="read only once"):
        keras_batches(iter([np.zeros((2, 3, 8, 8), np.float32)]), specs)


@pytest.mark.parametrize("name", ["tensorflow", "tf2onnx"])
@pytest.mark.parametrize(
    "call",
    [lambda: quantlab.keras.to_onnx("model.keras"), lambda: quantlab.keras.quantize("model", np.zeros(1, np.float32))],
)
def test_missing_package_is_one_error(name: str, call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType

    for other in ("tensorflow", "tf2onnx"):
        monkeypatch.setitem(sys.modules, other, None if other == name else ModuleType(other))
    with pytest.raises(MissingDependencyError, match=rf"{name} is not installed.*\[keras\]'"):
        call()


@pytest.mark.parametrize(
    ("options", "match"),
    [({"opset": 12}, "opset 12"), ({"shapes": {"x": (None, 0)}}, "of input 'x'")],
)
def test_option_that_cannot_be_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        quantlab.keras.to_onnx("model.keras", **options)


def test_nothing_heavy_is_imported() -> None:
    assert not {"tensorflow", "keras", "tf2onnx"} & set(sys.modules)
