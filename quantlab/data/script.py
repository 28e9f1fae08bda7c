"""Batches from a Python file with a function that yields them: what Polygraphy calls a data loader script.

See `quantlab.data.python_file` for how the file is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from quantlab.data.batches import Batch, LabeledBatches, Labels, as_array, batch_length, may_have_labels
from quantlab.data.on_device import DeviceArray, DeviceBatches
from quantlab.data.pipeline_source import PipelineSource
from quantlab.data.preprocess import Preprocess
from quantlab.data.python_file import PythonFile, run_python_file, split_python
from quantlab.errors import ConfigError, DataError, Notice

FUNCTION = "load_data"
"""The function that is called where none is named, as in Polygraphy."""


@dataclass(frozen=True, slots=True)
class ScriptSource:
    """What made the batches, recorded in place of a preprocess.

    Attributes:
        script: The name of the file.
        function: The function in it.
        sha256: Of the bytes of the file.
    """

    script: str
    function: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


class ScriptBatches:
    """Batches that a script's function yields; every `for` calls it again.

    How many there are is known only at the end: `count` is None. `labels` too; the ones of a stream that the function
    returns are passed on, and so are its preprocess, its notices and its way to give batches on the device.

    Args:
        file: The script, run.
        function: Of the script; called without arguments.
        input_names: The inputs of the model; other arrays of a feed are left out.
        source: What is recorded in place of a preprocess, unless the function returns a stream that knows its own.
        limit: Use the first so many samples.
    """

    count: None = None
    labels: None = None

    def __init__(
        self,
        file: PythonFile,
        function: Callable[[], Any],
        input_names: Sequence[str],
        source: ScriptSource,
        limit: int | None = None,
    ) -> None:
        self._source = source
        self._file, self._function, self._names, self._limit = file, function, tuple(input_names), limit
        self._last: Iterator[Any] | None = None
        self._made: Any = None
        """What the function returned, for the next pass."""
        self._known: Preprocess | PipelineSource | ScriptSource | None = None
        self._notices: tuple[Notice, ...] = ()
        self._has_labels = False

    @property
    def has_labels(self) -> bool:
        """Whether the stream that the function returns has labels."""
        self._ask()
        return self._has_labels

    @property
    def preprocess(self) -> Preprocess | PipelineSource | ScriptSource:
        """Of the stream that the function returns, if it knows it; else the script."""
        self._ask()
        assert self._known is not None
        return self._known

    def _ask(self) -> None:
        """Call the function, unless that was done; what it returns is read by the next pass."""
        if self._known is None:
            self._made = self._call()

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What the stream that the function returns says of itself."""
        return self._notices

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self.labeled())

    def labeled(self) -> Iterator[tuple[Batch, Labels | None]]:
        """Batches, with labels where the function returns a stream that has them."""
        return self._cut(lambda made: made.labeled() if isinstance(made, LabeledBatches) else _unlabeled(made))

    def on_device(self) -> Iterator[Batch]:
        """Batches as the stream that the function returns has them on the device; on the host for any other."""
        pairs = self._cut(lambda made: _unlabeled(made.on_device() if isinstance(made, DeviceBatches) else made))
        return (batch for batch, _ in pairs)

    def _cut(self, pairs: Callable[[Any], Iterator[Any]]) -> Iterator[tuple[Batch, Labels | None]]:
        """(batch, labels) of one pass, up to the limit."""
        left = self._limit
        for number, (feed, labels) in enumerate(self._feeds(pairs)):
            batch = self._batch(number, feed)
            if left is not None:
                size = batch_length(batch, self._names[0])
                if size > left:
                    batch = {name: x[:left] if np.shape(x)[:1] == (size,) else x for name, x in batch.items()}
                    labels = None if labels is None else labels[:left]
                left -= min(size, left)
            yield batch, labels
            if left == 0:
                return

    def _call(self) -> Any:
        """What the function returns, with what it knows of itself."""
        made = self._file.call(f"{self._source.function}()", self._function)
        known = getattr(made, "preprocess", None)
        self._known = known if isinstance(known, (Preprocess, PipelineSource)) else self._source
        self._has_labels = may_have_labels(made)
        notices = getattr(made, "notices", ())  # of a stream of the user it may be anything
        self._notices = tuple(n for n in notices if isinstance(n, Notice)) if isinstance(notices, (tuple, list)) else ()
        return made

    def _feeds(self, pairs: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
        """What one call of the function yields."""
        name = self._source.function
        made, self._made = self._made, None
        made = self._call() if made is None else made
        source = self._file.call(f"{name}()", lambda: pairs(made))
        if isinstance(made, Iterator):
            if made is self._last:
                raise DataError(
                    f"{self._file.path}: {name}() returned the same {type(made).__name__} again, readable only once",
                    hint="make it inside the function, or return a list",
                )
            self._last = made
        number = 0
        while True:
            try:
                feed = self._file.call(f"batch {number} of {name}()", lambda: next(source))
            except StopIteration:
                return
            yield feed
            number += 1

    def _batch(self, number: int, feed: Any) -> Batch:
        """The arrays of the model's inputs; what else is in the feed is left out."""
        where = f"{self._file.path}: batch {number} of {self._source.function}()"
        if not isinstance(feed, Mapping):
            raise DataError(
                f"{where} is a {type(feed).__name__}, expected a dict of input name to array",
                hint=f"yield {{'{self._names[0]}': array}}",
            )
        if missing := [name for name in self._names if name not in feed]:
            raise DataError(
                f"{where} has no input {', '.join(missing)}; it has {', '.join(map(str, feed)) or 'none'}",
                hint="name the arrays as the model's inputs",
            )
        return {name: _copied(feed[name], f"{where}, input '{name}'") for name in self._names}


def _unlabeled(feeds: Any) -> Iterator[tuple[Any, None]]:
    return zip(feeds, repeat(None))


def _copied(value: Any, what: str) -> Any:
    """A copy, because a script may fill one buffer again and again; what is given on the device stays there."""
    return value if isinstance(value, DeviceArray) else np.array(as_array(value, what))


def script_batches(
    path: str | Path, function: str, input_names: Sequence[str], limit: int | None = None
) -> ScriptBatches:
    """Batches that a Python file makes. The file is run once here.

    Args:
        path: The file.
        function: Its function without arguments that returns a generator, a list or any iterable of feed dicts.
        input_names: The inputs of the model.
        limit: Use the first so many samples.

    Returns:
        A stream that calls the function anew for every pass.

    Raises:
        ConfigError: There is no such function.
        DataError: The file cannot be read, or it did something wrong, with its own error as the cause.
    """
    file = run_python_file(Path(path), "data script")
    found = getattr(file.module, function, None)
    if not callable(found):
        raise ConfigError(f"data script {path} has no function {function}()", hint=f"name another one: {path}:FUNCTION")
    return ScriptBatches(file, found, input_names, ScriptSource(file.path.name, function, file.sha256), limit)


def split_script(source: str) -> tuple[Path, str] | None:
    """`script.py:function` -> (script.py, function); `script.py` -> (script.py, load_data); None for anything else."""
    return split_python(source, FUNCTION)
