"""What an attack is: a command or a call that meets something hostile, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Accident:
    """What happens to a command while it runs.

    Attributes:
        signal: What is sent to it, 0 for nothing.
        after_s: How long after its start.
        stdout: "" for a file, "closed", "full" (nothing can be written) or "gone" (a pipe whose reader left).
        stderr: The same.
        file_bytes: The size at which a write fails, as on a full disk.
    """

    signal: int = 0
    after_s: float = 0
    stdout: str = ""
    stderr: str = ""
    file_bytes: int | None = None


@dataclass(frozen=True)
class Command:
    """`quantlab ARGV` run in the folder of the attack.

    Every attack is held to this: it ends within `timeout_s`; it prints no traceback; its exit code is one of `codes`;
    with a code other than 0 and 1 the folder holds no file that it did not hold before; no file that was there before
    is changed or gone, but those in `replaces`; an error is one line `error: ...` that names the thing.
    """

    name: str
    argv: Sequence[str]
    codes: tuple[int, ...] = (2,)
    says: str = ""
    """A regular expression found in what it prints (stdout and stderr)."""
    replaces: tuple[str, ...] = ()
    """Files that it may replace, relative to the folder; patterns as of a shell."""
    leaves: tuple[str, ...] = ()
    """New files that may be there after an exit code that is not 0; patterns as of a shell."""
    env: Mapping[str, str] = field(default_factory=dict)
    """With variables, or an accident, it runs in an interpreter of its own."""
    accident: Accident | None = None
    prepare: Callable[[Path], object] | None = None
    """Puts more into its private copy of the folder first."""
    timeout_s: float = 120
    within: str = ""
    """The folder in that of the family that is copied, and in which it runs; "" for all of it."""
    check: Callable[[Path], str | None] | None = None
    """Looks at the folder afterwards; the text says what is wrong."""


@dataclass(frozen=True)
class Call:
    """A call of the public Python API, which raises a QuantlabError that matches `says`, or returns."""

    name: str
    call: Callable[[], object]
    says: str = ""
    returns: bool = False
    """Whether it is to return instead."""


Attack = Command | Call
Family = Callable[[Path], Iterator[Attack]]
"""Puts its files into the empty folder that it gets, then yields attacks on them: `FAMILY` of each file here."""
