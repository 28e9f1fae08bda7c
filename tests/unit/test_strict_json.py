"""JSON read strictly: what is taken for a value is of the type that was declared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from quantlab.strict_json import json_text, parse_json
from quantlab.typed_json import Count, Decibel, Share, read_document, typed


@dataclass(frozen=True)
class Inner:
    name: str
    on: bool = False


@dataclass(frozen=True)
class Outer:
    count: Count
    share: Share | None = None
    amax: Mapping[str, np.float32] | None = None
    pairs: tuple[tuple[str, int], ...] = ()
    inner: Inner | None = None
    sqnr_db: Decibel = 0.0
    free: Mapping[str, Any] | None = None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[" * 100_000 + "]" * 100_000, "deeper than 64"),
        ("[" * 70 + "]" * 70, "deeper than 64"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "key 'c' is there twice"),
        ("1" + "0" * 400, "401 digits"),
        ("9" * 100_000, "100000 digits"),
        ("9223372036854775808", "19 digits"),
        ("1e999", "1e999 is too large"),
        ("NaN", "NaN is no number"),
        ("-Infinity", "-Infinity is no number"),
        ('"\\ud800"', "lone surrogate"),
        ('"\udcff"', "lone surrogate"),
        ("{", "Expecting property name"),
    ],
)
def test_text_that_is_no_strict_json_is_refused(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        parse_json(text)


def test_plain_json_is_read_as_python_reads_it() -> None:
    text = '{"a": [1, -2.5e-3, true, null, "\\ud83d\\ude00\\n"], "b": {"": 9223372036854775807}}'
    assert parse_json(text) == json.loads(text)
    assert parse_json("[Infinity]", infinite=True) == [float("inf")]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"count": True}, "count: it is true, expected an integer"),
        ({"count": 1.0}, "count: it is 1.0, expected an integer"),
        ({"count": "1"}, "count: it is '1', expected an integer"),
        ({"count": -1}, "count: it is -1, expected a count >= 0"),
        ({"count": 10**400}, "an integer beyond 64 bits"),
        ({"share": "0.5"}, "share: it is '0.5', expected a finite number"),
        ({"share": True}, "share: it is true"),
        ({"share": 1.5}, "a share of 0 to 1"),
        ({"share": float("nan")}, "share: it is nan"),
        ({"amax": {"x": 1e39}}, "amax.x: it is 1e\\+39, more than a float32 holds"),
        ({"amax": {"x": 1e-60}}, "less than a float32 holds"),
        ({"amax": [1]}, "amax: it is a list, expected an object"),
        ({"pairs": [["a", 1], ["b"]]}, "pairs.1: it is a list of 1, expected 2"),
        ({"pairs": [["a", True]]}, "pairs.0.1: it is true"),
        ({"pairs": "ab"}, "pairs: it is 'ab', expected a list"),
        ({"inner": {}}, "inner: it has no 'name'"),
        ({"inner": {"name": None}}, "inner.name: it is null, expected a text"),
        ({"inner": {"name": "a", "on": 1}}, "inner.on: it is 1, expected true or false"),
        ({"inner": {"name": "a", "more": 1}}, r"inner: unknown keys \['more'\]"),
        ({"sqnr_db": "inf"}, "sqnr_db: it is 'inf', expected a number"),
        ({"free": {"a": [{1: 2}]}}, "free.a.0: its key 1 is no text"),
        ({"free": {"a": {3.5}}}, "free.a: it is a set"),
    ],
)
def test_value_of_another_type_is_refused_with_its_place(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        typed({"count": 1} | change, Outer)


def test_values_of_the_declared_types_are_taken() -> None:
    made = typed(
        {
            "count": 2,
            "share": 1,
            "amax": {"x": 0.1},
            "pairs": [["a", 1]],
            "inner": {"name": "n"},
            "sqnr_db": float("inf"),
        },
        Outer,
    )
    expected = Outer(2, 1.0, {"x": np.float32(0.1)}, (("a", 1),), Inner("n"), float("inf"))
    assert made == expected
    assert type(made.share) is float


@pytest.mark.parametrize("version", [True, 1.0, "1", 2, None])
def test_version_of_another_type_is_another_version(version: object) -> None:
    with pytest.raises(ValueError, match="format 'f' version .*, expected 'f'"):
        read_document(json.dumps({"format": "f", "version": version, "name": "a"}), Inner, "f", 1)
    assert read_document('{"format": "f", "version": 1, "name": "a"}', Inner, "f", 1) == Inner("a")


def test_written_text_has_no_half_letters_and_no_nan() -> None:
    assert json.loads(json_text({"a\udcff": "é\ud812"})) == {"a\\xff": "é\\ud812"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"a": float("nan")})
