"""Arrays in, amax out. Every algorithm is an object with `observe` and `compute_amax`."""

from quantlab.observers.base import Observer, fresh
from quantlab.observers.entropy import Entropy, entropy_amax
from quantlab.observers.group import ObserverGroup
from quantlab.observers.histogram import Histogram, HistogramObserver
from quantlab.observers.minmax import MinMax
from quantlab.observers.mse import Mse, mse_amax
from quantlab.observers.named import OBSERVERS, observer_by_name
from quantlab.observers.percentile import Percentile, percentile_amax

__all__ = [
    "OBSERVERS",
    "Entropy",
    "Histogram",
    "HistogramObserver",
    "MinMax",
    "Mse",
    "Observer",
    "ObserverGroup",
    "Percentile",
    "entropy_amax",
    "fresh",
    "mse_amax",
    "observer_by_name",
    "percentile_amax",
]
