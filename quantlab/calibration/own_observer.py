"""Algorithms as the command line names them: one of quantlab's, or an observer in a file of the user."""

from __future__ import annotations

from quantlab.data.python_file import run_python_file, split_python
from quantlab.errors import ConfigError
from quantlab.observers import Observer, as_observer, observer_by_name


def named_observer(text: str) -> Observer:
    """An observer by name.

    Args:
        text: The name of an algorithm, or `file.py:Name` of an observer or its class.

    Returns:
        The observer.

    Raises:
        ConfigError: There is no such algorithm, or the file has no observer of that name.
        DataError: The file cannot be run.
    """
    source = split_python(text)
    if source is None:
        if ".py" in text:
            raise ConfigError(f"algorithm '{text}' is not file.py:Name", hint="the name of the class after a colon")
        return observer_by_name(text)
    file = run_python_file(source[0], "observer")
    found = file.named(source[1])
    return file.call(source[1], lambda: as_observer(found))
