"""Ctrl-C and SIGTERM, from the first line of the program to its last. Nothing that takes time is imported here."""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import ExtensionFileLoader  # of importlib.machinery, which would be loaded for it

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
UNFINISHED = "interrupted: unfinished results were not written"
"""What is said then, in one line."""
_received: list[Any] = []
_AGAIN_S = 0.01


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
    """From here on a signal raises KeyboardInterrupt wherever the main thread is; where it must not, soon after."""
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


def _raise(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if not (_must_not_raise(frame) and _comes_again(number)):
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _must_not_raise(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code not in _NO_PLACES:
        frame = frame.f_back
    return frame is not None


def _comes_again(number: Any) -> bool:
    """Whether the signal can be had again in a moment."""
    import _thread
    import time

    def send() -> None:
        time.sleep(_AGAIN_S)
        _thread.interrupt_main(number)

    try:
        _thread.start_new_thread(send, ())
    except RuntimeError:  # no more threads may be started
        return False
    return True


def _pass_on(problem: Any) -> None:
    """An interruption that came where Python cannot raise, as in a destructor, comes again soon after."""
    if issubclass(problem.exc_type, KeyboardInterrupt) and _received:
        _comes_again(_received[-1])
    else:
        sys.__unraisablehook__(problem)


_NO_PLACES = (
    ExtensionFileLoader.create_module.__code__,
    ExtensionFileLoader.exec_module.__code__,
    _pass_on.__code__,
)
"""Where nothing may be raised. A native module that sets itself up calls Python (enum, numpy) without a thought of
interruptions: many end the process then, or it crashes when it ends. What `_pass_on` raises Python prints and drops."""
