"""The parameters of Q and DQ nodes: the type of the codes, the axis, how scales spread over a tensor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import parse
from quantlab.onnx_model import GraphView, QdqParameters, code_type

INT8, INT16, UINT8 = np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.uint8)


@pytest.mark.parametrize(
    ("zero_point", "output_dtype", "codes", "expected"),
    [
        (np.zeros((), np.int8), onnx.TensorProto.INT16, UINT8, INT8),  # the zero point before all others
        (np.zeros(3, np.uint8), 0, None, UINT8),
        (None, onnx.TensorProto.INT16, INT8, INT16),  # then the attribute
        (None, 0, INT8, INT8),  # then constant codes
        (None, 0, None, UINT8),  # then the default of ONNX
    ],
)
def test_type_of_codes_is_that_of_zero_point_then_attribute_then_codes_then_uint8(
    zero_point: np.ndarray | None, output_dtype: int, codes: np.dtype | None, expected: np.dtype
) -> None:
    assert code_type(zero_point, output_dtype, codes) == expected


def parameters(*shape: int, axis: int = 1) -> QdqParameters:
    scale = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return QdqParameters(scale, np.zeros(shape, np.int8), INT8, axis)


@pytest.mark.parametrize(
    ("given", "ndim", "axis", "spread"),
    [
        (parameters(), 4, None, ()),
        (parameters(1), 4, None, ()),  # one scale, however it is written
        (parameters(3, axis=0), 4, 0, (3, 1, 1, 1)),
        (parameters(3, axis=1), 2, 1, (1, 3)),
        (parameters(3, axis=-1), 3, 2, (1, 1, 3)),
        (parameters(3, axis=-3), 3, 0, (3, 1, 1)),
    ],
)
def test_scales_spread_over_the_channel_axis(
    given: QdqParameters, ndim: int, axis: int | None, spread: tuple[int, ...]
) -> None:
    assert given.channel_axis(ndim) == axis
    assert given.spread(given.scale, ndim).shape == spread
    np.testing.assert_array_equal(np.ravel(given.spread(given.scale, ndim)), np.ravel(given.scale))


def test_one_zero_point_off_zero_makes_a_tensor_asymmetric() -> None:
    assert parameters(3).is_symmetric
    assert not QdqParameters(np.ones(3, np.float32), np.array([0, 0, 1], np.int8), INT8).is_symmetric


HEADER = '<ir_version: 10, opset_import: ["" : 21]>'
S = {"s": np.asarray(np.float32(0.1))}


def first_parameters(text: str, constants: dict[str, np.ndarray]) -> list[QdqParameters | None]:
    view = GraphView(parse(text, constants, HEADER))
    return [view.parameters(node) for node in view.qdq_nodes]


def test_pair_without_zero_points_has_one_type_of_codes() -> None:
    text = """m (float[N] x) => (float[N] y) {{ q = QuantizeLinear {a} (x, s)  y = DequantizeLinear (q, s) }}"""
    for attributes, dtype in (("", np.uint8), ("<output_dtype = 3>", np.int8), ("<output_dtype = 5>", np.int16)):
        q, dq = first_parameters(text.format(a=attributes), S)
        assert q is not None
        assert dq is not None
        assert q.code_type == dq.code_type == dtype
        assert q.is_symmetric


def test_stored_codes_without_a_zero_point_say_their_type() -> None:
    text = "m (float[N] x) => (float[3] y) { y = DequantizeLinear (codes, s) }"
    (given,) = first_parameters(text, S | {"codes": np.zeros(3, np.int8)})
    assert given is not None
    assert given.code_type == np.int8
    text = "m (uint8[3] codes) => (float[3] y) { y = DequantizeLinear (codes, s) }"
    (unknown,) = first_parameters(text, S)
    assert unknown is not None
    assert unknown.code_type == np.uint8


def test_axis_and_block_size_are_read_and_a_computed_scale_gives_none() -> None:
    text = "m (float[4,4] x, float t) => (float[4,4] y, int8[4,4] u) { " \
        "q = QuantizeLinear <axis = 0, block_size = 2> (x, b, z)  y = DequantizeLinear (q, t)  " \
        "u = QuantizeLinear (x, s, k) }"  # fmt: skip
    constants = S | {"b": np.ones((2, 4), np.float32), "z": np.zeros((2, 4), np.int8), "k": np.asarray(np.int8(3))}
    blocked, computed, plain = first_parameters(text, constants)
    assert computed is None
    assert blocked is not None
    assert (blocked.axis, blocked.block_size) == (0, 2)
    assert plain is not None
    assert (plain.axis, plain.block_size, plain.zero_point.item()) == (1, 0, 3)
    changing = "m (float[4] x, int8 z) => (int8[4] y) { y = QuantizeLinear (x, s, z) }"
    assert first_parameters(changing, S) == [None]
