"""Ctrl-C and SIGTERM, from the first line of the program to its last. Nothing that takes time is imported here."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in typing, which takes time
if TYPE_CHECKING:
    import signal
    from types import FrameType
    from typing import Any
else:
    try:
        import _signal as signal  # what is below `signal`, without its enums: they take 10 ms, half of the start
    except ImportError:  # another Python
        import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the number of the signal. 143 after SIGTERM."""
_received: list[Any] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, with another exit code."""


def exit_at_once() -> None:
    """From here on a signal ends the process with one line: nothing is being written."""
    _handle(_exit)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by whoever started this: the next file that is opened must not become stdout
            os.open(os.devnull, os.O_RDWR)


def raise_in_place() -> None:
    """From here on a signal raises KeyboardInterrupt wherever the main thread is."""
    _received.clear()
    _handle(_raise)
    sys.unraisablehook = _pass_on


def exit_with(code: int) -> None:
    """From here on a signal ends the process with a code that is settled, without a word.

    Args:
        code: Of the work that is done.
    """
    _handle(lambda *_: os._exit(code))


def received() -> int | None:
    """The exit code of the first signal since `raise_in_place`, None if there was none."""
    return 128 + _received[0] if _received else None


def _handle(handler: Any) -> None:
    for number in SIGNALS:
        try:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup and background jobs of a shell stay as they are
                signal.signal(number, handler)
        except ValueError:  # not the main thread: the program is called from another one
            return


def _exit(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    try:
        os.write(2, b"interrupted: nothing was written\n")
    finally:
        os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    _received.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _pass_on(problem: Any) -> None:
    """An interruption that came where Python cannot raise, as in a destructor, comes again at the next line."""
    if issubclass(problem.exc_type, KeyboardInterrupt) and _received:
        import _thread

        _thread.interrupt_main(_received[-1])
    else:
        sys.__unraisablehook__(problem)
