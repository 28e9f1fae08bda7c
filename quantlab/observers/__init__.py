"""Arrays in, amax out. Every algorithm is an object with `observe` and `compute_amax`."""

from quantlab.observers.base import Observer, fresh
from quantlab.observers.entropy import Entropy, entropy_amax
from quantlab.observers.group import ObserverGroup
from quantlab.observers.histogram import Histogram, HistogramObserver
from quantlab.observers.minmax import MinMax
from quantlab.observers.mse import Mse, mse_amax
from quantlab.observers.percentile import Percentile, percentile_amax

OBSERVERS: dict[str, Observer] = {
    "minmax": MinMax(),
    "entropy": Entropy(),
    "percentile-99.9": Percentile(99.9),
    "percentile-99.99": Percentile(99.99),
    "percentile-99.999": Percentile(99.999),
    "mse": Mse(),
}
"""The algorithms by the names the CLI knows. `percentile-P` works for any P; see `quantlab.cli.options`."""

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
    "percentile_amax",
]
