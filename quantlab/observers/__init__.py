"""Arrays in, amax out. Every algorithm is an object with `observe` and `compute_amax`."""

from quantlab.arguments import guard
from quantlab.observers.base import AmaxLike, Observer, algorithm_name, as_observer, final_amax, fresh
from quantlab.observers.entropy import Entropy, entropy_amax
from quantlab.observers.group import ObserverGroup
from quantlab.observers.histogram import Histogram, HistogramObserver, reads_histogram
from quantlab.observers.minmax import MinMax
from quantlab.observers.mse import Mse, mse_amax
from quantlab.observers.named import OBSERVERS, Algorithm, observer_by_name, resolve_algorithm
from quantlab.observers.percentile import Percentile, percentile_amax

__all__ = [
    "OBSERVERS",
    "Algorithm",
    "AmaxLike",
    "Entropy",
    "Histogram",
    "HistogramObserver",
    "MinMax",
    "Mse",
    "Observer",
    "ObserverGroup",
    "Percentile",
    "algorithm_name",
    "as_observer",
    "entropy_amax",
    "final_amax",
    "fresh",
    "mse_amax",
    "observer_by_name",
    "percentile_amax",
    "reads_histogram",
    "resolve_algorithm",
]

guard(globals())
