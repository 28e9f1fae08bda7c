"""The explicit path: Q/DQ nodes in the ONNX graph. onnx-graphsurgeon is imported in this folder only."""

from quantlab.qdq.half import Half, to_half
from quantlab.qdq.insert import WeightError, insert, weight_error
from quantlab.qdq.lint import Finding, lint
from quantlab.qdq.placement import Placement, Skipped, WeightSite, plan
from quantlab.qdq.prepare import fold, prepare
from quantlab.qdq.rules import RULES, QdqRule
from quantlab.qdq.selection import EVERYTHING, Selection
from quantlab.qdq.strip import Stripped, strip

__all__ = [
    "EVERYTHING",
    "RULES",
    "Finding",
    "Half",
    "Placement",
    "QdqRule",
    "Selection",
    "Skipped",
    "Stripped",
    "WeightError",
    "WeightSite",
    "fold",
    "insert",
    "lint",
    "plan",
    "prepare",
    "strip",
    "to_half",
    "weight_error",
]
