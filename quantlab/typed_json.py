"""Plain values, as JSON holds them, as the types that a dataclass declares.

`int(true)` and `float("3.5")` take what is no number. Here a value is of the declared type, or it is refused.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from quantlab.strict_json import LARGEST, parse_json, quoted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """What a value must be beside its type: `Annotated[int, Check(...)]`.

    Attributes:
        holds: Whether a value is so.
        expected: What it must be, for the error text.
    """

    holds: Callable[[Any], bool]
    expected: str


Count = Annotated[int, Check(lambda n: n >= 0, "a count >= 0")]
Positive = Annotated[int, Check(lambda n: n > 0, "a count > 0")]
Amount = Annotated[float, Check(lambda x: x >= 0, "a number >= 0")]
Share = Annotated[float, Check(lambda x: 0 <= x <= 1, "a share of 0 to 1")]


class _Infinite:
    """Marks a number that may be infinite or NaN."""


Decibel = Annotated[float, _Infinite()]


class MismatchError(ValueError):
    """A value that is not what was declared; says where it is."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.place: list[str] = []

    def __str__(self) -> str:
        return ": ".join([".".join(reversed(self.place)), self.args[0]] if self.place else [self.args[0]])


def read_document(text: str, kind: type[T], named: str, *versions: int) -> T:
    """The content of a file that says what it is.

    Args:
        text: Of the file.
        kind: A dataclass of what is in it beside `format` and `version`.
        named: Its `format`.
        versions: Its `version`, one of these; none for a file without one.

    Returns:
        The content.

    Raises:
        ValueError: It is something else.
    """
    content = parse_json(text)
    if not isinstance(content, dict):
        raise MismatchError(f"it is {_shown(content)}, expected an object")
    rest = dict(content)
    for key in ("format", "version")[: 1 + bool(versions)]:
        if key not in rest:
            raise MismatchError(f"it has no '{key}'")
    found, version = rest.pop("format"), rest.pop("version") if versions else None
    if found != named or (versions and (type(version) is not int or version not in versions)):
        text = f" version {_shown(version)}" if versions else ""
        raise MismatchError(f"format {_shown(found)}{text}, expected '{named}'")
    return typed(rest, kind)


def typed(value: Any, kind: type[T] | Any) -> T:
    """Plain values as what was declared; nothing is converted but lists to tuples and integers to floats.

    Args:
        value: Of `parse_json`, or of a caller.
        kind: A dataclass, or a type of its fields: int, float, str, bool, None, Any, Literal, a union, a tuple, a
            Mapping of str, np.float32, and Annotated with `Check`.

    Returns:
        The value.

    Raises:
        MismatchError: It is something else; says where.
    """
    return cast(T, _reader(cast(Any, kind))(value))


_Read = Callable[[Any], Any]


@cache
def _reader(kind: Any) -> _Read:
    generic, inner = get_origin(kind), get_args(kind)
    if generic is Annotated and any(isinstance(one, _Infinite) for one in inner):
        return _of_type((int, float), "a number")
    if generic is Annotated:
        return _checked(_reader(inner[0]), [one for one in inner[1:] if isinstance(one, Check)])
    if generic is Literal:
        return _literal(inner)
    if generic in (Union, UnionType):
        return _union(inner)
    if generic is tuple:
        return _list(inner[0]) if inner[1:] == (Ellipsis,) else _row(inner)
    if isinstance(generic, type) and issubclass(generic, Mapping):
        return _mapping(inner[1])
    if is_dataclass(kind):
        return _dataclass(cast(type, kind))
    return _PLAIN[kind]


def _of_type(kinds: type | tuple[type, ...], noun: str) -> _Read:
    def read(value: Any) -> Any:
        if (type(value) is bool and kinds is not bool) or not isinstance(value, kinds):
            raise MismatchError(f"it is {_shown(value)}, expected {noun}")
        return value

    return read


def _read_integer(value: Any) -> int:
    if type(value) is not int or not -LARGEST <= value <= LARGEST:
        raise MismatchError(f"it is {_shown(value)}, expected an integer of 64 bits")
    return value


def _read_float(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and -LARGEST <= value <= LARGEST:
        return float(value)
    raise MismatchError(f"it is {_shown(value)}, expected a finite number")


def _read_float32(value: Any) -> np.float32:
    number = _read_float(value)
    if abs(number) > float(np.finfo(np.float32).max) * (1 + 2**-26):
        raise MismatchError(f"it is {_shown(value)}, more than a float32 holds")
    rounded: np.float32 = np.float32(number)
    if number and not rounded:
        raise MismatchError(f"it is {_shown(value)}, less than a float32 holds")
    return rounded


def _read_any(value: Any) -> Any:
    """Plain values as they are, keys and numbers checked: of Python's API, too."""
    if isinstance(value, Mapping):
        return _mapping(Any)(value)
    if isinstance(value, (list, tuple)):
        return [_within(str(k), _read_any, one) for k, one in enumerate(value)]
    if value is None or type(value) in (str, bool):
        return value
    return _read_integer(value) if type(value) is int else _read_float(value)


_PLAIN: dict[Any, _Read] = {
    Any: _read_any,
    object: _read_any,
    bool: _of_type(bool, "true or false"),
    float: _read_float,
    int: _read_integer,
    np.float32: _read_float32,
    str: _of_type(str, "a text"),
    NoneType: _of_type(NoneType, "null"),
}


def _checked(read: _Read, checks: Sequence[Check]) -> _Read:
    def run(value: Any) -> Any:
        found = read(value)
        for check in checks:
            if not check.holds(found):
                raise MismatchError(f"it is {_shown(value)}, expected {check.expected}")
        return found

    return run


def _literal(allowed: tuple[Any, ...]) -> _Read:
    def read(value: Any) -> Any:
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise MismatchError(f"it is {_shown(value)}, expected {' or '.join(map(repr, allowed))}")
        return value

    return read


def _union(kinds: tuple[Any, ...]) -> _Read:
    rest = [_reader(kind) for kind in kinds if kind is not NoneType]
    nullable = NoneType in kinds

    def read(value: Any) -> Any:
        if value is None and nullable:
            return None
        for one in rest[:-1]:
            try:
                return one(value)
            except MismatchError:
                continue
        return rest[-1](value)

    return read


def _items(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise MismatchError(f"it is {_shown(value)}, expected a list")
    return value


def _list(kind: Any) -> _Read:
    read = _reader(kind)
    return lambda value: tuple([_within(k, read, one) for k, one in enumerate(_items(value))])


def _row(kinds: tuple[Any, ...]) -> _Read:
    readers = [_reader(kind) for kind in kinds]

    def read(value: Any) -> Any:
        if len(_items(value)) != len(readers):
            raise MismatchError(f"it is a list of {len(value)}, expected {len(readers)}")
        return tuple([_within(k, one, item) for k, (one, item) in enumerate(zip(readers, value, strict=True))])

    return read


def _mapping(kind: Any) -> _Read:
    read = _PLAIN[Any] if kind is Any else _reader(kind)

    def run(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise MismatchError(f"it is {_shown(value)}, expected an object")
        for key in value:
            if not isinstance(key, str):
                raise MismatchError(f"its key {_shown(key)} is no text")
        return {key: _within(key, read, one) for key, one in value.items()}

    return run


def _dataclass(kind: type) -> _Read:
    hints = get_type_hints(kind, vars(sys.modules[kind.__module__]), include_extras=True)
    readers = {f.name: _reader(hints[f.name]) for f in fields(kind) if f.init}
    needed = [f.name for f in fields(kind) if f.init and f.default is MISSING and f.default_factory is MISSING]

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise MismatchError(f"it is {_shown(value)}, expected an object")
        if unknown := [_shown(key) for key in value if key not in readers]:
            raise MismatchError(f"unknown keys [{', '.join(sorted(unknown)[:5])}]")
        for name in needed:
            if name not in value:
                raise MismatchError(f"it has no '{name}'")
        return kind(**{name: _within(name, readers[name], one) for name, one in value.items()})

    return read


def _within(place: object, read: _Read, value: Any) -> Any:
    try:
        return read(value)
    except MismatchError as error:
        error.place.append(str(place)[:60])
        raise


def _shown(value: object) -> str:
    """A value for an error text, short; a list or an object by its kind alone."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)[:40] if not isinstance(value, int) or abs(value) <= LARGEST else "an integer beyond 64 bits"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"
