"""Everything public says which argument is of a wrong type, whatever it is given."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.arguments import fits
from quantlab.errors import ConfigError

ROOMS = [
    "api",
    "calibration",
    "comparison",
    "data",
    "fp16",
    "keras",
    "memory",
    "numerics",
    "observers",
    "onnx_model",
    "ort",
    "qdq",
    "report",
    "torch",
    "triton",
    "tune",
]
WRONG = (None, 7, "x", 1.5, [object()], object(), np.zeros(2, np.complex128), {"a": object()}, object)


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    for room in ROOMS:
        module = import_module(f"quantlab.{room}")
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or (inspect.isclass(thing) and hasattr(thing.__init__, "__wrapped__")):
                yield f"{room}.{name}", thing


PUBLIC = dict(public())


def hints_of(thing: Callable[..., Any]) -> dict[str, Any]:
    function = inspect.unwrap(thing.__init__ if inspect.isclass(thing) else thing)
    names = [n for n in inspect.signature(function).parameters if n != "self"]
    known: dict[str, Any] = {}
    for name in names:
        text = function.__annotations__.get(name)
        try:
            known[name] = typing.get_type_hints(type("A", (), {"__annotations__": {name: text}}), function.__globals__)[
                name
            ]
        except NameError:
            continue
    return known


@pytest.mark.parametrize("name", PUBLIC)
def test_wrong_types_are_refused_by_the_name_of_the_argument(name: str) -> None:
    thing = PUBLIC[name]
    for parameter, hint in hints_of(thing).items():
        for value in (wrong for wrong in WRONG if not fits(wrong, hint)):
            with pytest.raises(ConfigError, match=rf"^{parameter} is an? .*, expected ") as caught:
                thing(**{parameter: value})
            assert name.split(".")[1] in str(caught.value.hint)


def test_every_room_is_guarded() -> None:
    assert len(PUBLIC) > 150
    unguarded = [name for name, thing in PUBLIC.items() if inspect.isfunction(thing) and thing is inspect.unwrap(thing)]
    assert not unguarded


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (int, [3, np.int64(3)], [True, 3.0, "3", None]),
        (float, [3, 2.5, np.float32(1), np.zeros(())], [True, "2", None, np.zeros(2)]),
        (bool, [True, np.bool_(False)], [1, None, "yes"]),
        (str | None, ["a", None], [b"a", 1]),
        (str | Path, ["a", Path("a")], [None, 3, ["a"]]),
        (tuple[str, ...], [(), ("a",), ["a"]], ["a", (1,), None, 3]),
        (dict[str, int], [{}, {"a": 1}], [[], {1: 1}, {"a": "b"}, None]),
        (np.ndarray[Any, np.dtype[np.int64]], [np.zeros(2, np.int32)], [np.zeros(2), [1], None]),
        (np.ndarray[Any, np.dtype[np.float32]], [np.zeros(2), np.zeros(2, int)], [np.zeros(2, complex), "x"]),
        (Callable[[int], None], [print, int], [None, "print"]),
        (typing.Literal["a", "b"], ["a"], ["c", 1, None]),
    ],
    ids=str,
)
def test_types_are_told_apart_as_users_mean_them(hint: Any, right: list[Any], wrong: list[Any]) -> None:
    assert all(fits(value, hint) for value in right)
    assert not any(fits(value, hint) for value in wrong)
