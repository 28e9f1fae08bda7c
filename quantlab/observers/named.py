"""Algorithms by name."""

from __future__ import annotations

from quantlab.errors import ConfigError
from quantlab.nearest import nearest
from quantlab.observers.base import Observer, as_observer
from quantlab.observers.entropy import Entropy
from quantlab.observers.minmax import MinMax
from quantlab.observers.mse import Mse
from quantlab.observers.percentile import Percentile

Algorithm = str | Observer | type[Observer]
"""An algorithm as a caller gives it: a name as the command line knows them, an observer, or its class."""

OBSERVERS: dict[str, Observer] = {
    "minmax": MinMax(),
    "entropy": Entropy(),
    "percentile-99.9": Percentile(99.9),
    "percentile-99.99": Percentile(99.99),
    "percentile-99.999": Percentile(99.999),
    "mse": Mse(),
}
"""The usual algorithms. `observer_by_name` takes `percentile-P` for any P too."""


def observer_by_name(name: str) -> Observer:
    """One of OBSERVERS, or percentile-P for any P; ConfigError for anything else."""
    if name in OBSERVERS:
        return OBSERVERS[name]
    if name.startswith("percentile-"):
        try:
            return Percentile(float(name.removeprefix("percentile-")))
        except ValueError:
            pass
    if name == "auto":
        raise ConfigError(
            "auto is none of the algorithms but chooses among them by the outputs, which is not to be had here",
            hint="name one of them; quantlab calibrate --algorithm auto makes a table",
        )
    raise ConfigError(
        f"there is no algorithm '{name}'",
        hint=f"{nearest(name, (*OBSERVERS, 'auto'))}use {', '.join(OBSERVERS)} or percentile-P for any P",
    )


def resolve_algorithm(algorithm: Algorithm) -> Observer:
    """The observer of an algorithm given by its name, as an object, or as a class; ConfigError for anything else."""
    return observer_by_name(algorithm) if isinstance(algorithm, str) else as_observer(algorithm)
