"""Running a Python file that a user named: a data loader script, a metric.

The file is run as it stands, with what it imports: only name a file that you would run yourself. Whatever it raises,
`sys.exit` included, becomes a DataError with the deepest line of the file itself; a QuantlabError passes as it is.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeVar

from quantlab.errors import ConfigError, DataError, QuantlabError
from quantlab.files import read_bytes

T = TypeVar("T")
FAILURES = (Exception, SystemExit)
"""What code of a user may raise and is reported, in place of ending everything; Ctrl-C is not."""


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
        if not hasattr(self.module, name):
            raise ConfigError(f"{self.path} has no '{name}'", hint=f"name one that it has: {self.path}:NAME")
        return getattr(self.module, name)

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
    if not path.is_file():
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
    return DataError(f"{where}: {what} raised {type(error).__name__}: {error}", hint="run the file by itself")
