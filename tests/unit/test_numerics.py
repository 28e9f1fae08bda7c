"""quantize and dequantize against ONNX; the one place where odd magnitudes are decided."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from models import floats, parse
from quantlab.errors import ConfigError, DataError
from quantlab.numerics import (
    PerChannel,
    amax_from_scale,
    amax_of,
    dequantize,
    fake_quantize,
    quantize,
    scale_from_amax,
)


def qdq_model(shape: tuple[int, ...], scale: np.ndarray, axis: int | None) -> onnx.ModelProto:
    dims = ",".join(map(str, shape))
    attr = "" if axis is None else f"<axis = {axis}>"
    text = f"""m (float[{dims}] x) => (int8[{dims}] q, float[{dims}] y) {{
        q = QuantizeLinear {attr} (x, s, z)
        y = DequantizeLinear {attr} (q, s, z)
    }}"""
    # the reference evaluator has DequantizeLinear from opset 19 on
    header = '<ir_version: 9, opset_import: ["" : 19]>'
    return parse(text, {"s": scale, "z": np.zeros(scale.shape, np.int8)}, header)


def run_both(model: onnx.ModelProto, x: np.ndarray) -> list[list[np.ndarray]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(None, {"x": x}), ReferenceEvaluator(model).run(None, {"x": x})]


def tricky_values(scale: float) -> np.ndarray:
    """Every exact tie of the codes -129.5 .. 128.5, their float neighbours, the ends, zeros and denormals."""
    ties = (np.arange(-130, 130) + 0.5).astype(np.float32) * np.float32(scale)
    near = [np.nextafter(ties, np.float32(-np.inf)), np.nextafter(ties, np.float32(np.inf))]
    ends = np.array([0.0, -0.0, 1e-45, -1e-45, 1e4 * scale, -1e4 * scale], np.float32)  # beyond: see infinity
    return np.concatenate([ties, *near, ends])


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1, 1 / 127, 3.3e-5, 1.7e4])
def test_quantize_per_tensor_ties_and_ends_equals_onnx(scale: float) -> None:
    s = np.asarray(scale, np.float32)
    x = tricky_values(scale)
    for q, y in run_both(qdq_model(x.shape, s, None), x):
        np.testing.assert_array_equal(quantize(x, s), q)
        np.testing.assert_array_equal(dequantize(q, s), y)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_quantize_per_channel_any_axis_equals_onnx(axis: int) -> None:
    x = floats(3, 4, 5, 6, scale=2)
    s = scale_from_amax(amax_of(x, PerChannel(axis)))
    # the reference evaluator takes no negative axis for DequantizeLinear in every release
    for q, y in run_both(qdq_model(x.shape, s, axis % 4), x):
        np.testing.assert_array_equal(quantize(x, s, axis), q)
        np.testing.assert_array_equal(dequantize(q, s, axis), y)


def test_quantize_exact_ties_go_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 127.5, -128.5], np.float32)
    np.testing.assert_array_equal(quantize(x, np.float32(1)), [0, 2, 2, 0, -2, 127, -128])


def test_quantize_nan_raises() -> None:
    with pytest.raises(DataError, match="cannot quantize NaN"):
        quantize(np.array([1, np.nan], np.float32), np.float32(1))


def test_quantize_infinity_saturates() -> None:
    np.testing.assert_array_equal(quantize(np.array([np.inf, -np.inf], np.float32), np.float32(2)), [127, -128])


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_quantize_bad_scale_raises(scale: float) -> None:
    with pytest.raises(DataError, match="not finite and > 0"):
        quantize(np.ones(3, np.float32), np.float32(scale))


def test_quantize_scale_of_wrong_shape_raises() -> None:
    with pytest.raises(ConfigError, match=r"shape \(2,\), expected \(\)"):
        quantize(floats(2, 3), np.ones(2, np.float32))
    with pytest.raises(ConfigError, match=r"shape \(2,\), expected \(3,\) for axis 1"):
        quantize(floats(2, 3), np.ones(2, np.float32), axis=1)
    with pytest.raises(ConfigError, match="axis 2 does not exist"):
        quantize(floats(2, 3), np.ones(2, np.float32), axis=2)


def test_scale_zero_denormal_and_normal_amax() -> None:
    tiny = np.finfo(np.float32).tiny
    amax = np.array([0, 1e-45, tiny, 127 * tiny, 127.0], np.float32)
    np.testing.assert_array_equal(scale_from_amax(amax), np.array([1, tiny, tiny, tiny, 1], np.float32))


@pytest.mark.parametrize("amax", [np.nan, np.inf, -1.0])
def test_scale_of_bad_amax_raises(amax: float) -> None:
    with pytest.raises(DataError, match="not finite and >= 0"):
        scale_from_amax(np.float32(amax))


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0])
def test_amax_of_bad_scale_raises(scale: float) -> None:
    with pytest.raises(DataError, match="not finite and >= 0"):
        amax_from_scale(np.float32(scale))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([1, -3], 3), ([-1, 3], 3), ([-3, -1], 3), ([1, 3], 3), ([0, 0], 0), ([-2, 2], 2), ([-0.0], 0), ([], 0)],
)
def test_amax_is_the_largest_magnitude_of_either_sign(values: list[float], wanted: float) -> None:
    amax = amax_of(np.array(values, np.float32))
    assert (amax.shape, amax.dtype, float(amax)) == ((), np.float32, wanted)
    assert not np.signbit(amax)


def test_amax_per_channel_is_that_of_every_channel() -> None:
    x = np.array([[[1, -3], [0, 0]], [[2, 5], [-7, 6]]], np.float32)
    np.testing.assert_array_equal(amax_of(x, PerChannel(0)), [3, 7])
    np.testing.assert_array_equal(amax_of(x, PerChannel(1)), [5, 7])
    np.testing.assert_array_equal(amax_of(x, PerChannel(-1)), [7, 6])
    np.testing.assert_array_equal(amax_of(np.zeros((0, 3), np.float32), PerChannel(1)), [0, 0, 0])
    with pytest.raises(ConfigError, match=r"axis 3 does not exist in a tensor of 3 dimensions Hint: use an axis in \["):
        amax_of(x, PerChannel(3))


def test_asymmetric_range_is_kept_at_its_larger_end() -> None:
    # int8 is symmetric here: a range [-6, 1] needs amax 6, or everything below -1 saturates
    x = np.array([-6, 1], np.float32)
    assert scale_from_amax(amax_of(x)) == np.float32(np.float32(6) / np.float32(127))
    np.testing.assert_allclose(fake_quantize(x, amax_of(x)), x, atol=float(scale_from_amax(amax_of(x))) / 2)


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_amax_of_not_finite_raises(bad: float, word: str) -> None:
    with pytest.raises(DataError, match=word):
        amax_of(np.array([1, bad], np.float32))


def test_fake_quantize_all_zero_channel_stays_zero() -> None:
    x = np.stack([np.zeros(4, np.float32), floats(4)])
    assert not fake_quantize(x, amax_of(x, PerChannel(0)), PerChannel(0))[0].any()
