"""How far quantized models are from their FP32 model, on the same batches."""

from quantlab.comparison.compare import Candidate, Comparison, ModelResult, compare_models
from quantlab.comparison.metrics import ClassificationCounts, ErrorSums, OutputError

__all__ = [
    "Candidate",
    "ClassificationCounts",
    "Comparison",
    "ErrorSums",
    "ModelResult",
    "OutputError",
    "compare_models",
]
