"""Symmetric INT8 arithmetic: pure functions of numpy arrays."""

from quantlab.arguments import guard
from quantlab.numerics.affine import dequantize, fake_quantize, quantize
from quantlab.numerics.error import ErrorSums, OutputError, error_sums, sqnr_db, squares
from quantlab.numerics.granularity import PER_TENSOR, Granularity, PerChannel, PerTensor, amax_of
from quantlab.numerics.scales import INT8_MAX, INT8_MIN, SMALLEST_SCALE, amax_from_scale, scale_from_amax

__all__ = [
    "INT8_MAX",
    "INT8_MIN",
    "PER_TENSOR",
    "SMALLEST_SCALE",
    "ErrorSums",
    "Granularity",
    "OutputError",
    "PerChannel",
    "PerTensor",
    "amax_from_scale",
    "amax_of",
    "dequantize",
    "error_sums",
    "fake_quantize",
    "quantize",
    "scale_from_amax",
    "sqnr_db",
    "squares",
]

guard(globals())
