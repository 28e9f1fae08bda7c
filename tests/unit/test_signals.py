"""Ctrl-C and SIGTERM where Python or a library cannot bear an exception, and before the command line is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="os.kill with these signals is of POSIX")

INTERRUPTED = "interrupted: nothing was written\n"


def ended(code: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


IN_A_NATIVE_MODULE = """
import os, signal, sys
from quantlab.interruption import raise_in_place, received

def at_first_call(frame, event, _):
    while event == "call" and frame is not None:
        spec = frame.f_locals.get("spec") or getattr(frame.f_locals.get("module"), "__spec__", None)
        inside = frame.f_code.co_name in ("create_module", "exec_module") and spec is not None
        if inside and spec.name == {name!r} and frame is not first[0]:
            sys.setprofile(None)
            print("sent")
            os.kill(os.getpid(), signal.{signal})
            return
        frame = frame.f_back

def look(frame, event, argument):
    first[0] = frame
    at_first_call(frame, event, argument)

first = [None]
raise_in_place()
try:
    sys.setprofile(look)
    import {name}
    sys.setprofile(None)
    for _ in range(500):
        __import__("time").sleep(0.01)
except KeyboardInterrupt:
    print({name!r} in sys.modules, received())
"""


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("name", ["_decimal", "onnx.onnx_cpp2py_export"])
def test_signal_waits_until_a_native_module_is_loaded(name: str, number: str, code: int) -> None:
    """Onnx's would end the process: its calls of enum are not expected to raise."""
    assert ended(IN_A_NATIVE_MODULE.format(name=name, signal=number)) == (0, f"sent\nTrue {code}\n", "")


IN_A_DESTRUCTOR = """
import os, signal, time
from quantlab.interruption import raise_in_place

class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)

raise_in_place()
try:
    Thing()
    for _ in range(500):
        time.sleep(0.01)
except KeyboardInterrupt:
    print("raised")
"""


def test_signal_in_a_destructor_is_raised_after_it_without_a_word() -> None:
    assert ended(IN_A_DESTRUCTOR) == (0, "raised\n", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("program", ["quantlab", "/usr/bin/quantlab", "quantlab.exe"])
def test_signal_is_met_before_the_program_calls_main(program: str, number: signal.Signals, code: int) -> None:
    start = f"import os, sys; sys.argv[0] = {program!r}; import quantlab.__main__; os.kill(os.getpid(), {int(number)})"
    assert ended(start) == (code, "", INTERRUPTED)


def test_import_of_the_program_into_another_one_leaves_its_signals() -> None:
    code = "import signal, sys; b = signal.getsignal(2); import quantlab.__main__; print(signal.getsignal(2) is b)"
    assert ended(code) == (0, "True\n", "")


def test_signal_after_the_command_is_one_line() -> None:
    """While what it has printed is written out."""
    code = (
        "import os, signal, sys; sys.argv = ['quantlab', 'presets']; from quantlab import __main__ as program\n"
        "import quantlab.cli.streams as s\n"
        "s.lost_output = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "program.main()"
    )
    end, _, said = ended(code)
    assert (end, said) == (130, "interrupted: unfinished results were not written\n")
