"""Task metrics of the user: a function of outputs and labels, per sample, or an object for the whole set."""

from __future__ import annotations

import functools
import hashlib
import inspect
import linecache
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quantlab.data.python_file import FAILURES, contained, described, run_python_file, split_python
from quantlab.errors import ConfigError, DataError

Outputs = Mapping[str, NDArray[Any]]
Labels = NDArray[Any] | None
PerSample = Callable[[Outputs, Labels], NDArray[np.floating]]
"""(outputs of a batch, its labels or None) -> (N,) a value per sample, higher is better; their mean is reported."""


@runtime_checkable
class WholeSet(Protocol):
    """A metric that is no mean over samples (mAP, mIoU): its class is given, one object is made per backend."""

    def update(self, outputs: Outputs, labels: Labels) -> None:
        """Take one batch.

        Args:
            outputs: Of the backend, by name; they cannot be written into.
            labels: int64 (N,), or None.
        """

    def compute(self) -> float:
        """The value over everything so far, higher is better."""


Metric = PerSample | type[WholeSet]
"""What judges a model by its outputs and the labels: a value per sample, or one for the whole set."""


def metric_hash(metric: Metric | None) -> str | None:
    """What names a metric of the user.

    Args:
        metric: A function, or a class with `update`.

    Returns:
        The hash of its name and of the text of its file, with the functions and constants that it may use, and of a
        class the texts of the files of its bases; None without a metric, or where the text is not at hand or not all
        that there is: an object that is called, and a function that another has made, may hold anything.
    """
    if getattr(metric, "__closure__", None):
        return None
    text = _text_of(getattr(metric, "update", None) if isinstance(metric, type) else metric)
    if text and isinstance(metric, type):
        text = "\n".join(dict.fromkeys(map(_text_of_class, inspect.getmro(metric))))
    return hashlib.sha256(f"{getattr(metric, '__qualname__', '')}\n{text}".encode()).hexdigest() if text else None


def _text_of(function: object) -> str:
    """The text of the file that a function is written in, '' where it is not at hand."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    if code is None:
        return ""
    linecache.checkcache(code.co_filename)
    return "".join(linecache.getlines(code.co_filename))


def _text_of_class(one: type) -> str:
    """As of the first of its functions; of a class without any its module, which has the hash of a user's file."""
    return next(filter(None, map(_text_of, vars(one).values())), one.__module__)


def metric_name(metric: Metric | None) -> str | None:
    """What a metric of the user is called in results: its own name, that of the function that it calls, or that of its
    class; None without one."""
    inner: object = metric
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = None if metric is None else getattr(inner, "__name__", type(inner).__name__)
    return "metric" if name == "<lambda>" else name


class TaskMetric:
    """A user's metric of one backend.

    Args:
        metric: A function, or a class.

    Raises:
        ConfigError: It is a class whose objects cannot be made, or are no metrics.
    """

    def __init__(self, metric: Metric) -> None:
        self._object: WholeSet | None = None
        self._batches = 0  # that the object was given
        self._function: Any = metric
        if not callable(metric):
            raise ConfigError(
                f"the metric is a {type(metric).__name__}, expected a function or a class",
                hint="a metric is a function of (outputs, labels), or a class with update and compute",
            )
        if isinstance(metric, type):
            try:
                with contained():
                    made = metric()
                    is_whole = isinstance(made, WholeSet)
            except FAILURES as error:
                raise ConfigError(
                    f"metric {metric.__name__}() failed: {described(error)}",
                    hint="its objects are made without arguments",
                ) from error
            if not is_whole:
                raise ConfigError(
                    f"metric {metric.__name__} is a class without update and compute",
                    hint="a metric is a function of (outputs, labels), or a class with update and compute",
                )
            self._object = made

    def of_batch(self, outputs: Outputs, labels: Labels, size: int) -> NDArray[np.float64] | None:
        """Judge one batch.

        Args:
            outputs: Of the backend, by name.
            labels: int64 (size,), or None.
            size: How many samples there are.

        Returns:
            float64 (size,), or None for a metric of the whole set, which keeps the batch itself.

        Raises:
            DataError: The function does not give a finite number per sample.
        """
        if self._object is not None:
            self._batches += 1  # before it: an update that is interrupted has taken a part of the batch
            with contained():
                self._object.update(outputs, labels)
            return None
        with contained():
            given = self._function(outputs, labels)
            values = _real(np.ma.filled(given, np.nan) if np.ma.isMaskedArray(given) else given)
        if values.shape != (size,):
            raise DataError(
                f"the metric gave shape {values.shape} for {size} samples", hint=f"return a value per sample, ({size},)"
            )
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise DataError(
                f"the metric is {values[wrong[0]]} for sample {wrong[0]} of a batch", hint="it has to be a number"
            )
        return values

    def of_set(self, batches: int) -> float:
        """What an object computes of the whole set.

        Args:
            batches: How many batches the comparison kept.

        Returns:
            Its value.

        Raises:
            DataError: It was interrupted while it took another one, or gives no finite number.
        """
        assert self._object is not None
        if self._batches != batches:
            raise DataError(
                f"the metric has taken {self._batches} batches, the comparison was interrupted after {batches}",
                hint="run it again to the end",
            )
        with contained():
            given = self._object.compute()
            value = _real(given)
        if value.shape != () or not np.isfinite(value):
            raise DataError(f"the metric is {given!r:.80}", hint="compute returns one number")
        return float(value)


def _real(given: object) -> NDArray[np.float64]:
    """float64; DataError for what only looks like numbers (texts, dates) or is more than one each (complex)."""
    values = np.asarray(given)
    if values.dtype.kind not in "biuf":
        what = f"an array of {values.dtype}" if values.ndim else f"a {type(given).__name__}"
        raise DataError(f"the metric gave {what}, expected numbers", hint="return a value per sample, or one number")
    return values.astype(np.float64)


def load_metric(text: str) -> Metric:
    """A metric from a file of the user.

    Args:
        text: `file.py:NAME`.

    Returns:
        What the file has under that name.

    Raises:
        ConfigError: That is not what was given, or the file has no such name.
        DataError: The file cannot be run.
    """
    source = split_python(text)
    if source is None:
        raise ConfigError(
            f"metric '{text}' is not file.py:NAME", hint="a Python file with the metric, and its name after a colon"
        )
    found: Metric = run_python_file(source[0], "metric").named(source[1])
    if not callable(found):
        raise ConfigError(
            f"metric '{text}' is a {type(found).__name__}, expected a function or a class",
            hint="a metric is a function of (outputs, labels), or a class with update and compute",
        )
    return found
