"""How far quantized models and engines are from their FP32 model, on the same batches."""

from quantlab.arguments import guard
from quantlab.comparison.backend import Backend, ort_backend
from quantlab.comparison.compare import Candidate, compare_models
from quantlab.comparison.error_trace import ErrorTrace, trace_error
from quantlab.comparison.metrics import ClassificationCounts, classify
from quantlab.comparison.ranges import activation_ranges
from quantlab.comparison.result import Comparison, ModelResult
from quantlab.comparison.statistics import AccuracyDifference, accuracy_difference
from quantlab.comparison.task import Metric

__all__ = [
    "AccuracyDifference",
    "Backend",
    "Candidate",
    "ClassificationCounts",
    "Comparison",
    "ErrorTrace",
    "Metric",
    "ModelResult",
    "accuracy_difference",
    "activation_ranges",
    "classify",
    "compare_models",
    "ort_backend",
    "trace_error",
]

guard(globals())
