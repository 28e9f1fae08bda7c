"""What importing costs, and what it gives."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator

import pytest

import quantlab

HEAVY = ("tensorrt", "pycuda", "cuda", "onnxruntime", "matplotlib", "onnx", "torch")


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys; old = set(sys.modules); import quantlab; print(set({HEAVY!r}) & set(sys.modules) - old)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_program_loads_nothing_before_it_meets_signals() -> None:
    """Each of these takes longer than the rest of the start: until then Ctrl-C ends in a traceback of Python."""
    slow = ("enum", "signal", "typing", "re", "pathlib")
    code = f"import sys; o = set(sys.modules); import quantlab.__main__; print(set({slow!r}) & set(sys.modules) - o)"
    shown = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "set()\n"


def test_report_loads_matplotlib_only_to_draw() -> None:
    code = "import sys, quantlab.report; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_main_job_loads_neither_tensorrt_nor_cuda_nor_matplotlib() -> None:
    heavy = ("tensorrt", "pycuda", "cuda", "matplotlib")
    code = f"import sys; old = set(sys.modules); import quantlab.api; print(set({heavy!r}) & set(sys.modules) - old)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_every_public_name_loads() -> None:
    for name in quantlab.__all__:
        assert getattr(quantlab, name) is not None
    assert set(quantlab.__all__) <= set(dir(quantlab))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = quantlab.nope  # type: ignore[attr-defined]


def test_public_names_are_few_and_hold_every_type_that_their_signatures_name() -> None:
    assert len(quantlab.__all__) <= 27
    for name in quantlab.__all__:
        function = getattr(quantlab, name)
        if not inspect.isfunction(function):
            continue
        for used in types_in(typing.get_type_hints(function)):
            if used.__module__.startswith("quantlab") and not is_protocol_of_a_function(used):
                assert used.__name__ in quantlab.__all__, f"{name} names {used.__name__}"


def types_in(hint: object) -> Iterator[type]:
    """The classes of a type hint, those inside unions, mappings and callables too."""
    if isinstance(hint, dict):
        yield from (used for value in hint.values() for used in types_in(value))
    elif isinstance(hint, (list, tuple)):
        yield from (used for value in hint for used in types_in(value))
    elif typing.get_args(hint):
        yield from (used for value in typing.get_args(hint) for used in types_in(value))
    elif isinstance(hint, type):
        yield hint


def is_protocol_of_a_function(used: type) -> bool:
    """Whether a class only says what a user's own object has to offer: nobody imports it to call the function."""
    return getattr(used, "_is_protocol", False) and used is not quantlab.Observer


def test_rooms_are_there_after_importing_the_package_alone() -> None:
    code = (
        "import sys, quantlab\nassert 'quantlab.qdq' not in sys.modules\n"
        "print(quantlab.qdq.lint.__name__, quantlab.api.calibrate_all.__name__, quantlab.data.open_data.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "lint calibrate_all open_data\n"
    with pytest.raises(AttributeError, match="no attribute 'calibrate_all': its rooms are api, calibration"):
        _ = quantlab.calibrate_all  # type: ignore[attr-defined]
