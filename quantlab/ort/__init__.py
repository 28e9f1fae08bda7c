"""ONNX Runtime, imported in this folder only."""

from quantlab.ort.activations import ActivationReader
from quantlab.ort.session import Session

__all__ = ["ActivationReader", "Session"]
