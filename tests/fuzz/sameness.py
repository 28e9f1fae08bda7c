"""Whether two files say the same: what was read, and what was written of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np


def says_the_same(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    """Plain values are equal, kinds of values with them; of numbers up to a share of `tolerance`. What only the
    second has is a default of the parser."""
    if isinstance(first, dict):
        if not isinstance(second, dict):
            return False
        return all(k in second and says_the_same(v, second[k], tolerance) for k, v in first.items())
    if isinstance(first, list):
        if not isinstance(second, list) or len(first) != len(second):
            return False
        return all(says_the_same(a, b, tolerance) for a, b in zip(first, second, strict=True))
    if isinstance(first, bool) or not isinstance(first, (int, float)):
        return type(first) is type(second) and bool(first == second)
    if isinstance(second, bool) or not isinstance(second, (int, float)):
        return False
    return bool(first == second or abs(first - second) <= tolerance * abs(first) + tolerance * 1e-38)


def _plain(content: bytes, *, without: tuple[str, ...] = ()) -> Any:
    value = json.loads(content.decode("utf-8-sig"))
    return {k: v for k, v in value.items() if k not in without} if isinstance(value, dict) else value


def same_json(tolerance: float = 0.0, *without: str) -> Callable[[bytes, bytes], bool]:
    """The check of files that are one JSON value."""
    return lambda a, b: says_the_same(_plain(a, without=without), _plain(b, without=without), tolerance)


FLOAT32 = 2.0**-22
"""What the nearest float32 may differ by, denormal ones left aside."""


def same_engine(first: bytes, second: bytes) -> bool:
    """Warnings of old records have no kind: they are explained again."""
    old = any(one.get("kind") is None for one in _plain(first)["warnings"])
    return same_json(0.0, *["warnings"] * old)(first, second)


def same_arrays(first: bytes, second: bytes) -> bool:
    with np.load(io.BytesIO(first)) as a, np.load(io.BytesIO(second)) as b:
        heads = [_plain(str(one["head"]).encode(), without=("warning_kinds",)) for one in (a, b)]
        rest = [key for key in a.files if key != "head"]
        return says_the_same(*heads) and all(np.array_equal(a[key], b[key]) for key in rest)


def same_numbers(first: bytes, second: bytes) -> bool:
    if not first.startswith(b"PK"):
        return bool(np.array_equal(np.load(io.BytesIO(first)), np.load(io.BytesIO(second)), equal_nan=True))
    with np.load(io.BytesIO(first)) as a, np.load(io.BytesIO(second)) as b:
        numbers = [key for key in a.files if a[key].ndim and a[key].dtype.kind not in "US"]
        return set(numbers) == set(b.files) and all(np.array_equal(a[k], b[k], equal_nan=True) for k in numbers)


def same_lines(first: bytes, second: bytes) -> bool:
    a, b = ([json.loads(line) for line in c[: c.rfind(b"\n") + 1].split(b"\n")[:-1]] for c in (first, second))
    return (
        len(a) == len(b) and all(repr(x) == repr(y) or says_the_same(x, y) for x, y in zip(a, b, strict=True))
        if a
        else True
    )


def same_chunk(first: bytes, second: bytes) -> bool:
    a, b = _plain(first), _plain(second)
    return a["key"] != b["key"] or says_the_same(
        {(k, n): r for k, n, *r in a["effects"]}, {(k, n): r for k, n, *r in b["effects"]}
    )


def same_cache(first: bytes, second: bytes) -> bool:
    def plain(content: bytes) -> list[str]:
        rows = [row.rstrip("\r") for row in content.decode("utf-8-sig").split("\n")]
        return [rows[0], *(f"{n}: {int(v, 16):x}" for n, _, v in (row.rpartition(": ") for row in rows[1:] if row))]

    return plain(first) == plain(second)


def same_labels(first: bytes, second: bytes) -> bool:
    """No label is made up: every number of the answer stands in the file."""
    numbers = second.decode().split("[", 1)[1].split("]")[0].replace("\\n", " ").split()
    there = {int(number) for number in re.findall(rb"[+-]?[0-9]{1,18}", first)}
    return all(int(number.rstrip(",")) in there for number in numbers)
