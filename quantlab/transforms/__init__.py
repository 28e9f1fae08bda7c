"""Graph to graph: networks that INT8 serves better, and Q/DQ models that are closer to FP32."""

from quantlab.arguments import guard
from quantlab.transforms.equalize import Equalized, EqualizedGroup, equalize
from quantlab.transforms.rounding import Rounded, RoundedLayer, round_weights
from quantlab.transforms.shifted import shifted
from quantlab.transforms.wide_sites import WideSite, wide_sites
from quantlab.transforms.widen import widen

__all__ = [
    "Equalized",
    "EqualizedGroup",
    "Rounded",
    "RoundedLayer",
    "WideSite",
    "equalize",
    "round_weights",
    "shifted",
    "wide_sites",
    "widen",
]

guard(globals())
