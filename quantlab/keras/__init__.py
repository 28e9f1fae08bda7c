"""Keras and TensorFlow models to ONNX and to Q/DQ, through tf2onnx."""

from quantlab.arguments import guard
from quantlab.keras.borders import Border, borders
from quantlab.keras.convert import Converted, to_onnx
from quantlab.keras.quantize import QuantizedKeras, quantize

__all__ = ["Border", "Converted", "QuantizedKeras", "borders", "quantize", "to_onnx"]

guard(globals())
