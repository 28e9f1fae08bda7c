"""ONNX Runtime, imported in this folder only."""

from quantlab.arguments import guard
from quantlab.ort.activations import ActivationReader
from quantlab.ort.part import Beyond, beyond, is_known, runnable_part
from quantlab.ort.session import Session
from quantlab.ort.stored_codes import with_stored_codes

__all__ = ["ActivationReader", "Beyond", "Session", "beyond", "is_known", "runnable_part", "with_stored_codes"]

guard(globals())
