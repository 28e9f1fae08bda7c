"""Several observers over one pass of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import ConfigError, QuantlabError, first_line
from quantlab.observers.base import Observer, final_amax, fresh
from quantlab.observers.histogram import Histogram, reads_histogram
from quantlab.observers.minmax import MinMax


class ObserverGroup:
    """One fresh observer per name; those that read a histogram share one, which is also kept for reports.

    Args:
        prototypes: The observers by name; each is copied.
        keep_histogram: Fill it even if there is nothing but `MinMax`, which needs none.
        order_independent: See `Histogram`.

    Attributes:
        histogram: The one that is shared.
        observers: The copies by name.
        has_histogram: Whether it is filled.
    """

    def __init__(
        self, prototypes: Mapping[str, Observer], keep_histogram: bool = True, order_independent: bool = False
    ) -> None:
        self.histogram = Histogram(order_independent)
        self.observers = {name: fresh(prototype) for name, prototype in prototypes.items()}
        self.has_histogram = keep_histogram or any(type(o) is not MinMax for o in self.observers.values())
        self._fed: list[Observer | Histogram] = [self.histogram] if self.has_histogram else []
        for observer in self.observers.values():
            if reads_histogram(observer):
                observer.histogram = self.histogram
            else:
                self._fed.append(observer)

    def observe(self, x: NDArray[np.float32]) -> None:
        """Take one whole batch. DataError if it has NaN or infinity."""
        for target in self._fed:
            with _of_user(target):
                target.observe(x)

    @property
    def starts_at_a_batch(self) -> bool:
        """Whether the range has to be that of the whole next batch, as TensorRT's is."""
        return self.has_histogram and not self.histogram.order_independent and bool(self.histogram.range == 0)

    @property
    def takes_parts(self) -> bool:
        """Whether a batch may come in parts: not where an observer that a user wrote wants whole batches."""
        return all(type(target) in (Histogram, MinMax) for target in self._fed)

    def observe_part(self, x: NDArray[np.float32]) -> None:
        """Take a part of a batch; see `Histogram.observe_part`."""
        for target in self._fed:
            if isinstance(target, Histogram):
                target.observe_part(x)
            else:
                target.observe(x)

    def compute_amax(self) -> dict[str, np.float32]:
        """The amax of every observer by name; DataError for one that gives no sound number."""
        found = {}
        for name, observer in self.observers.items():
            with _of_user(observer):
                found[name] = final_amax(observer)
        return found


@contextmanager
def _of_user(observer: object) -> Iterator[None]:
    """What an observer of the user raises becomes an error that names it."""
    try:
        yield
    except QuantlabError:
        raise
    except Exception as error:  # of the user's code, which may raise anything
        name = type(observer).__name__
        raise ConfigError(
            f"observer {name} raised {type(error).__name__}: {first_line(error)}",
            hint=f"call {name}().observe on one array to see where",
        ) from error
