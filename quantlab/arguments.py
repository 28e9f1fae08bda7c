"""What is checked at the edge of the package: whether an argument is of the type that the signature says.

Every room hands its namespace to `guard`, which wraps the functions and constructors in its `__all__`. Own code and not
a library: the error has to be ours and name the argument; a number may be one of NumPy, an array is judged by the kind
of its values, and a stream of batches is never read for the check.
"""

from __future__ import annotations

import collections.abc as abc
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from quantlab.errors import ConfigError

_KINDS = {np.floating: "fiu", np.integer: "iu", np.bool_: "b", np.number: "fiu", np.generic: "fiub"}
"""Base of a NumPy type -> the kinds of values that stand for it: any real number is taken for a float."""
_UNIONS = (typing.Union, types.UnionType)
_ALL = 1000
"""Items of a container that are looked at."""


def guard(namespace: dict[str, Any]) -> None:
    """Check the arguments of what a room makes public.

    Args:
        namespace: `globals()` of its `__init__`, with `__all__`.
    """
    room = namespace["__name__"]
    for name in namespace["__all__"]:
        public = namespace[name]
        if inspect.isfunction(public):
            namespace[name] = _checked(public, f"{room}.{name}")
            namespace[name].__module__ = room  # where pickle finds it again
        elif inspect.isclass(public) and _is_ours(public):
            made = _checked(public.__init__, f"{room}.{name}")
            type.__setattr__(public, "__init__", made)


def _is_ours(public: type) -> bool:
    found = public.__dict__.get("__init__")
    is_protocol = getattr(public, "_is_protocol", False)
    return inspect.isfunction(found) and not is_protocol and not issubclass(public, BaseException)


def _checked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if sys._getframe(1).f_globals.get("__name__", "").startswith("quantlab."):
            return function(*args, **kwargs)  # no edge: mypy checks our own calls, some of them in hot loops
        hints = _hints(function)
        given = {**dict(zip(hints, args, strict=False)), **kwargs} if kwargs else dict(zip(hints, args, strict=False))
        for parameter, value in given.items():
            hint = hints.get(parameter, Any)
            if type(value) is not hint and not fits(value, hint):
                raise ConfigError(
                    f"{parameter} is {_shown(value)}, expected {_described(hints[parameter])}",
                    hint=f"help({name}) says what it takes",
                )
        return function(*args, **kwargs)

    return checked


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Every parameter in order -> its type; Any where there is none that is known at run time."""
    found = {}
    names = inspect.unwrap(function).__globals__
    for name, parameter in inspect.signature(function).parameters.items():
        written = types.SimpleNamespace(__annotations__={name: parameter.annotation})
        try:
            known = parameter.annotation is not parameter.empty
            found[name] = typing.get_type_hints(written, names)[name] if known else Any
        except (NameError, AttributeError):  # of a module that is imported for type checkers only
            found[name] = Any
    return found


def fits(value: object, hint: Any) -> bool:
    """Find out whether a value is of a type.

    Args:
        value: Any.
        hint: A type as annotations have it.

    Returns:
        True also for hints of a kind that is not known here.
    """
    base, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint == ArrayLike:
        return isinstance(value, (Real, np.ndarray, abc.Sequence)) and not isinstance(value, (str, bytes))
    if hint is None or hint is type(None):
        return value is None
    if base in _UNIONS:
        return any(fits(value, one) for one in args)
    if base is typing.Literal:
        return any(value == one and type(value) is type(one) for one in args)
    if base is type:
        return isinstance(value, type)
    if base is abc.Callable or hint is abc.Callable:
        return callable(value)
    if base is np.ndarray:
        return isinstance(value, np.ndarray) and _has_kind(value, args)
    if isinstance(base, type):
        return _is_container(value, base) and _holds(value, base, args)
    return _is_one(value, hint) if isinstance(hint, type) else True


def _has_kind(array: np.ndarray[Any, Any], args: tuple[Any, ...]) -> bool:
    wanted = next(iter(typing.get_args(args[1])), Any) if len(args) > 1 else Any
    if wanted is Any or not isinstance(wanted, type):
        return True
    return array.dtype.kind in next((kinds for base, kinds in _KINDS.items() if issubclass(wanted, base)), "")


def _is_container(value: object, base: type) -> bool:
    if isinstance(value, (str, bytes)):
        return False  # letters are not what is meant
    if base is tuple or base is abc.Sequence:
        return isinstance(value, (abc.Sequence, np.ndarray))
    return isinstance(value, base)


def _holds(value: Any, base: type, args: tuple[Any, ...]) -> bool:
    """Whether what is in a container fits; one that can be read only once, or is a stream, is not read."""
    if not args or not isinstance(value, abc.Sized) or not isinstance(value, (abc.Mapping, abc.Collection)):
        return True
    if isinstance(value, abc.Mapping) and len(args) == 2:
        items = list(value.items())[:_ALL]
        return all(fits(k, args[0]) and fits(v, args[1]) for k, v in items)
    if not isinstance(value, (list, tuple, set, frozenset)):
        return True
    if base is tuple and args[-1] is not Ellipsis:
        return len(value) == len(args) and all(fits(v, a) for v, a in zip(value, args, strict=True))
    return all(fits(v, args[0]) for v in list(value)[:_ALL]) if base is not abc.Iterable else True


def _is_one(value: object, kind: type) -> bool:
    if kind is object:
        return True
    if issubclass(kind, str):
        return isinstance(value, str)  # a plain text does for a text that says more
    if kind is bool:
        return isinstance(value, (bool, np.bool_))
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float or issubclass(kind, np.floating):
        is_scalar = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "fiu"
        return is_scalar or (isinstance(value, Real) and not isinstance(value, bool))
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return True
    return isinstance(value, kind)


def _shown(value: object) -> str:
    name = type(value).__name__
    if isinstance(value, np.ndarray):
        return f"a {name} of {value.dtype} {value.shape}"
    inside = (
        list(value.values() if isinstance(value, dict) else value) if isinstance(value, (list, tuple, dict)) else ()
    )
    of = " and ".join(sorted({type(item).__name__ for item in inside[:_ALL]})[:3])
    return f"a {name} of {of}" if of else f"a {name}"


def _described(hint: Any) -> str:
    """A type in words."""
    base, args = typing.get_origin(hint), typing.get_args(hint)
    if hint == ArrayLike:
        return "array"
    if hint is None or hint is type(None):
        return "None"
    if base in _UNIONS:
        return " or ".join(dict.fromkeys(_described(one) for one in args))
    if base is typing.Literal:
        return " or ".join(repr(one) for one in args)
    if base is np.ndarray:
        wanted = next(iter(typing.get_args(args[1])), None) if len(args) > 1 else None
        return f"ndarray of {wanted.__name__}" if isinstance(wanted, type) and wanted is not Any else "ndarray"
    if base is abc.Callable:
        return "a function"
    name = getattr(base or hint, "__name__", str(hint))
    inside = [_described(one) for one in args if one is not Ellipsis and one is not Any]
    return (
        f"{name} of {' to '.join(inside) if base and issubclass(base, abc.Mapping) else ', '.join(inside)}"
        if (isinstance(base, type) and inside)
        else name
    )
