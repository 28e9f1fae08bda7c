"""How far quantized models and engines are from their FP32 model, on the same batches."""

from quantlab.comparison.backend import Backend, ort_backend
from quantlab.comparison.compare import Candidate, compare_models
from quantlab.comparison.metrics import ClassificationCounts, ErrorSums, OutputError
from quantlab.comparison.result import Comparison, ModelResult
from quantlab.comparison.statistics import AccuracyDifference, accuracy_difference, mcnemar_p

__all__ = [
    "AccuracyDifference",
    "Backend",
    "Candidate",
    "ClassificationCounts",
    "Comparison",
    "ErrorSums",
    "ModelResult",
    "OutputError",
    "accuracy_difference",
    "compare_models",
    "mcnemar_p",
    "ort_backend",
]
