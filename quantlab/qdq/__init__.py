"""The explicit path: Q/DQ nodes in the ONNX graph. onnx-graphsurgeon is imported in this folder only."""

from quantlab.arguments import guard
from quantlab.qdq.codes import CODES
from quantlab.qdq.finding import Finding
from quantlab.qdq.insert import WeightError, insert, weight_error
from quantlab.qdq.layers import Layer, layers_of, layers_of_given
from quantlab.qdq.lint import lint
from quantlab.qdq.migrate import Migrated, migrate_to_cache, migrate_to_qdq, tensorrt_cache
from quantlab.qdq.names import calibrated_name
from quantlab.qdq.nothing import nothing_in_int8
from quantlab.qdq.placement import Placement, Skipped, WeightSite
from quantlab.qdq.planning import plan
from quantlab.qdq.prepare import fold, prepare
from quantlab.qdq.quantize import Quantized, WeightStyle, quantize_model
from quantlab.qdq.repair import MIN_SQNR_DB, repair
from quantlab.qdq.requantize import Repaired, import_scales, requantize
from quantlab.qdq.rules import RULES, WEIGHTED, QdqRule
from quantlab.qdq.selection import EVERYTHING, Selection, exactly
from quantlab.qdq.strip import Stripped, strip
from quantlab.qdq.targets import ALL_TENSORS, QDQ_TENSORS, calibration_target

__all__ = [
    "ALL_TENSORS",
    "CODES",
    "EVERYTHING",
    "MIN_SQNR_DB",
    "QDQ_TENSORS",
    "RULES",
    "WEIGHTED",
    "Finding",
    "Layer",
    "Migrated",
    "Placement",
    "QdqRule",
    "Quantized",
    "Repaired",
    "Selection",
    "Skipped",
    "Stripped",
    "WeightError",
    "WeightSite",
    "WeightStyle",
    "calibrated_name",
    "calibration_target",
    "exactly",
    "fold",
    "import_scales",
    "insert",
    "layers_of",
    "layers_of_given",
    "lint",
    "migrate_to_cache",
    "migrate_to_qdq",
    "nothing_in_int8",
    "plan",
    "prepare",
    "quantize_model",
    "repair",
    "requantize",
    "strip",
    "tensorrt_cache",
    "weight_error",
]

guard(globals())
