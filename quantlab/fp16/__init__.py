"""The float remainder of a model in half precision (FP16)."""

from quantlab.arguments import guard
from quantlab.fp16.convert import Fp16Model, to_fp16

__all__ = ["Fp16Model", "to_fp16"]

guard(globals())
