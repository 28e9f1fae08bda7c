"""Every exception quantlab raises on purpose, and what it reports in place of one.

The CLI prints the exceptions and exits 2; anything else is a bug.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


class QuantlabError(Exception):
    """What failed on which named thing, got X, expected Y.

    Args:
        message: What failed.
        hint: The remedy: the next command or argument.
        batch: The number of the batch (from 0) in which it happened, where it happened in one.

    Attributes:
        text: What failed, without the batch and the hint.
        hint: As given.
        batch: As given, or by `in_batch`.
    """

    def __init__(self, message: str, *, hint: str | None = None, batch: int | None = None) -> None:
        super().__init__(message)
        self.text = message
        self.hint = hint
        self.batch = batch

    @property
    def message(self) -> str:
        """The text, with the batch where there is one, without the hint."""
        return self.text if self.batch is None else f"batch {self.batch}, {self.text}"

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message


class ConfigError(QuantlabError):
    """An argument, option or configuration value that cannot be used."""


class DataError(QuantlabError):
    """Images, arrays, labels, tables or caches that are missing, broken or do not fit the model."""


class NotCalibratedError(QuantlabError):
    """A result was asked of an observer that has seen no data, or a tensor has no scale."""


class GraphError(QuantlabError):
    """A model that cannot be read, checked, calibrated or quantized."""


class BuildError(QuantlabError):
    """TensorRT could not build or load an engine."""


class DeviceError(QuantlabError):
    """The GPU, its driver or its memory."""


class MissingDependencyError(QuantlabError):
    """An optional package that this path needs is not installed, or is of a version that cannot do it."""


def expect_type(value: object, kinds: type | tuple[type, ...], what: str, hint: str) -> None:
    """Refuse an argument of another type, before it is taken for something else.

    Args:
        value: What was given.
        kinds: What it may be.
        what: What it stands for, as a noun for the error text.
        hint: What to give instead.

    Raises:
        ConfigError: It is none of these.
    """
    if not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise ConfigError(f"{what} is a {type(value).__name__}, expected {names}", hint=hint)


@contextmanager
def in_batch(number: int) -> Iterator[None]:
    """Give every QuantlabError that leaves the block the number of its batch, unless it carries one already."""
    try:
        yield
    except QuantlabError as error:
        if error.batch is None:
            error.batch = number
        raise


def first_line(error: BaseException) -> str:
    """What an exception of another library says: its first line, or its type where it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


NoticeKind = Literal[
    "common_samples",
    "copies",
    "",
    "all_zero",
    "bad_images",
    "choice",
    "correction",
    "frames",
    "jumped",
    "labels",
    "no_gain",
    "no_scale",
    "not_finite",
    "other_origin",
    "saturated",
    "short_batch",
]
"""What a notice is about; '' where that is not known (a file of an earlier version)."""


class Notice(str):
    """A fact that a reader of numbers must know and that is no error: a text that carries what it is about.

    Attributes:
        kind: What it is about. Code decides by this, never by the text.
        tensor: The tensor it is about, '' where it is about no single one.
    """

    kind: NoticeKind
    tensor: str

    def __new__(cls, text: str, kind: NoticeKind = "", tensor: str = "") -> Notice:
        """A notice of this text."""
        notice = super().__new__(cls, text)
        notice.kind, notice.tensor = kind, tensor
        return notice
