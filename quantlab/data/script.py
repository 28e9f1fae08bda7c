"""Batches from a Python file with a function that yields them: what Polygraphy calls a data loader script.

The file is run as it stands, with what it imports: only name a script that you would run yourself.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.batches import Batch, batch_length
from quantlab.errors import ConfigError, DataError, QuantlabError

FUNCTION = "load_data"
"""The function that is called where none is named, as in Polygraphy."""
_FAILURES = (Exception, SystemExit)


@dataclass(frozen=True, slots=True)
class ScriptSource:
    """What made the batches, recorded in place of a preprocess. sha256: of the script's bytes."""

    script: str
    function: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


class ScriptBatches:
    """Batches that a script's function yields; every `for` calls it again.

    limit: the first so many samples. How many there are is known only at the end: `count` is None.
    """

    count: None = None

    def __init__(
        self,
        path: Path,
        function: Callable[[], Any],
        input_names: Sequence[str],
        preprocess: ScriptSource,
        limit: int | None = None,
    ) -> None:
        self.preprocess = preprocess
        self._path, self._function, self._names, self._limit = path, function, tuple(input_names), limit
        self._last: Iterator[Any] | None = None

    def labeled(self) -> Iterator[tuple[Batch, NDArray[np.int64] | None]]:
        """Batches without labels."""
        return ((batch, None) for batch in self)

    def __iter__(self) -> Iterator[Batch]:
        left = self._limit
        for number, feed in enumerate(self._feeds()):
            batch = self._batch(number, feed)
            if left is not None:
                size = batch_length(batch, self._names[0], number)
                if size > left:
                    batch = {name: x[:left] if np.shape(x)[:1] == (size,) else x for name, x in batch.items()}
                left -= min(size, left)
            yield batch
            if left == 0:
                return

    def _feeds(self) -> Iterator[Any]:
        """What one call of the function yields."""
        name = self.preprocess.function
        try:
            made = self._function()
            source = iter(made)
        except QuantlabError:
            raise
        except _FAILURES as error:
            raise _raised(self._path, f"{name}()", error) from error
        if source is made:
            if source is self._last:
                raise DataError(
                    f"{self._path}: {name}() returned the same {type(made).__name__} again, readable only once",
                    hint="make it inside the function, or return a list",
                )
            self._last = source
        number = 0
        while True:
            try:
                feed = next(source)
            except StopIteration:
                return
            except QuantlabError:
                raise
            except _FAILURES as error:
                raise _raised(self._path, f"batch {number} of {name}()", error) from error
            yield feed
            number += 1

    def _batch(self, number: int, feed: Any) -> Batch:
        """The arrays of the model's inputs; what else is in the feed is left out."""
        where = f"{self._path}: batch {number} of {self.preprocess.function}()"
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
        return {name: _as_array(feed[name], f"{where}, input '{name}'") for name in self._names}


def script_batches(
    path: str | Path, function: str, input_names: Sequence[str], limit: int | None = None
) -> ScriptBatches:
    """Batches of the model inputs `input_names` from `function` of the Python file `path`, which is run once here.

    The function takes no arguments and returns a generator, a list or any iterable of feed dicts. ConfigError if there
    is no such function, DataError for everything that the script does wrong, with its own error as the cause.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"data script {path} does not exist or is no file", hint="give script.py or script.py:function")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"data script {path} cannot be read: {error.strerror}", hint="check its permissions") from error
    source = ScriptSource(path.name, function, hashlib.sha256(text).hexdigest())
    found = getattr(_run(path, text, source.sha256), function, None)
    if not callable(found):
        raise ConfigError(f"data script {path} has no function {function}()", hint=f"name another one: {path}:FUNCTION")
    return ScriptBatches(path, found, input_names, source, limit)


def split_script(source: str) -> tuple[Path, str] | None:
    """`script.py:function` -> (script.py, function); `script.py` -> (script.py, load_data); None for anything else."""
    match = re.fullmatch(r"(.+\.py)(?::([^\W\d]\w*))?", source)
    return (Path(match[1]), match[2] or FUNCTION) if match else None


class _Loader(importlib.abc.InspectLoader):
    """Runs the very bytes that were hashed: no stale bytecode is read, and none is left beside the script."""

    def __init__(self, path: Path, text: bytes) -> None:
        self._path, self._text = path, text

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        return importlib.util.decode_source(self._text)

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return self.source_to_code(self._text, str(self._path))


def _run(path: Path, text: bytes, sha256: str) -> ModuleType:
    """The module. While it runs, its folder is importable and its private name known, as dataclasses need it."""
    name = f"_quantlab_data_script_{sha256[:16]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(path, text))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.modules[name] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except QuantlabError:
        raise
    except _FAILURES as error:
        raise _raised(path, "the script", error) from error
    finally:
        sys.modules.pop(name, None)
        if folder in sys.path:
            sys.path.remove(folder)
    return module


def _raised(path: Path, what: str, error: BaseException) -> DataError:
    """The error of what the script raised, with the deepest line of the script itself."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"{path}, line {line}" if line else str(path)
    return DataError(f"{where}: {what} raised {type(error).__name__}: {error}", hint="run the script by itself")


def _as_array(value: Any, where: str) -> NDArray[Any]:
    """A copy, because a script may fill one buffer again and again. Tensors are recognised by what they can do."""
    try:
        if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU
            value = value.detach().cpu()
        if not isinstance(value, np.ndarray) and callable(getattr(value, "numpy", None)):
            value = value.numpy()
        array = np.array(np.asarray(value))
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{where} cannot become an array: {error}", hint="convert it to numpy") from error
    if array.dtype == object:
        raise DataError(
            f"{where} is a {type(value).__name__}, expected an array of numbers", hint="convert it to numpy"
        )
    return array
