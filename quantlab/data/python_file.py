"""Running a Python file that a user named: a data loader script, a metric.

The file is run as it stands, with what it imports: only name a file that you would run yourself. Whatever it raises,
`sys.exit` included, becomes a DataError with the deepest line of the file itself; a QuantlabError passes as it is.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn, TypeVar

from quantlab.errors import ConfigError, DataError, QuantlabError
from quantlab.files import is_file, read_bytes
from quantlab.nearest import nearest

T = TypeVar("T")
FAILURES = (Exception, SystemExit)
"""What comes out of `contained` and is reported, in place of ending everything; Ctrl-C is not."""


@contextmanager
def contained() -> Iterator[None]:
    """Around code of a user: whatever ends it comes out as one of FAILURES, so that none of it ends the process with
    an exit code of its own choice. Ctrl-C passes as it is."""
    leave, process = os._exit, os.getpid()

    def stay(code: int) -> NoReturn:
        if os.getpid() != process or sys._getframe(1).f_globals.get("__name__", "").startswith("quantlab."):
            leave(code)
        raise SystemExit(code)

    os._exit = stay  # type: ignore[assignment]
    try:
        yield
    except (*FAILURES, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RuntimeError(described(error)) from error
    finally:
        os._exit = leave


def described(error: BaseException) -> str:
    """The type and the text of what code of a user raised; it may not even be able to say what it is."""
    try:
        return f"{type(error).__name__}: {error}"
    except FAILURES:
        return type(error).__name__


@dataclass(frozen=True, slots=True)
class PythonFile:
    """A file that was run.

    Attributes:
        path: Where it is.
        sha256: Of its bytes.
        module: What it made.
    """

    path: Path
    sha256: str
    module: ModuleType

    def named(self, name: str) -> Any:
        """What the file calls `name`; ConfigError if there is no such name."""
        if not self.call(name, lambda: hasattr(self.module, name)):
            question = nearest(name, [one for one in vars(self.module) if not one.startswith("_")])
            raise ConfigError(f"{self.path} has no '{name}'", hint=f"{question}name one that it has: {self.path}:NAME")
        return self.call(name, lambda: getattr(self.module, name))

    def call(self, what: str, function: Callable[[], T]) -> T:
        """Call something of the file.

        Args:
            what: What is called, for the error text.
            function: The call.

        Returns:
            What it returns.

        Raises:
            DataError: It raised something other than StopIteration or a QuantlabError.
        """
        try:
            with contained():
                return function()
        except (QuantlabError, StopIteration):
            raise
        except FAILURES as error:
            raise _raised(self.path, what, error) from error


def split_python(text: str, default: str = "") -> tuple[Path, str] | None:
    """Split what a user types into a file and a name in it.

    Args:
        text: `file.py:NAME` or `file.py`.
        default: The name where none is given.

    Returns:
        (file, name), or None if that is not what was typed.
    """
    match = re.fullmatch(r"(.+\.py)(?::([^\W\d]\w*))?", text)
    if match is None or not (match[2] or default):
        return None
    return Path(match[1]), match[2] or default


def run_python_file(path: Path, what: str) -> PythonFile:
    """Run a file once.

    Args:
        path: The file.
        what: What it is for, as a noun for the error text ("data script").

    Returns:
        The file with its module.

    Raises:
        DataError: It cannot be read, or raised something.
    """
    if not is_file(path):
        raise DataError(f"{what} {path} does not exist or is no file", hint="give file.py or file.py:NAME")
    content = read_bytes(path, what)
    digest = hashlib.sha256(content).hexdigest()
    return PythonFile(path, digest, _run(path, content, digest, what))


class _Loader(importlib.abc.InspectLoader):
    """Runs the very bytes that were hashed: no stale bytecode is read, and none is left beside the file."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content = path, content

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        return importlib.util.decode_source(self._content)

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return self.source_to_code(self._content, str(self._path))


def _run(path: Path, content: bytes, sha256: str, what: str) -> ModuleType:
    """The module. While it runs, its folder is importable and its private name known, as dataclasses need it."""
    name = f"_quantlab_user_file_{sha256[:16]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(path, content))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.modules[name] = module
    sys.path.insert(0, folder)
    try:
        with contained():
            spec.loader.exec_module(module)
    except QuantlabError:
        raise
    except FAILURES as error:
        raise _raised(path, f"the {what}", error) from error
    finally:
        sys.modules.pop(name, None)
        if folder in sys.path:
            sys.path.remove(folder)
    return module


def _raised(path: Path, what: str, error: BaseException) -> DataError:
    """The error of what the file raised, with the deepest line of the file itself."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"{path}, line {line}" if line else str(path)
    return DataError(f"{where}: {what} raised {described(error)}", hint="run the file by itself")
