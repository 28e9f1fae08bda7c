"""The explicit path: Q/DQ nodes in the ONNX graph. onnx-graphsurgeon is imported in this folder only."""

from quantlab.qdq.insert import insert
from quantlab.qdq.placement import Placement, Skipped, plan
from quantlab.qdq.prepare import fold, prepare
from quantlab.qdq.read import read_scales
from quantlab.qdq.rules import RULES, QdqRule
from quantlab.qdq.selection import Selection

__all__ = ["RULES", "Placement", "QdqRule", "Selection", "Skipped", "fold", "insert", "plan", "prepare", "read_scales"]
