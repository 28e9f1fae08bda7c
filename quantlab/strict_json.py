"""JSON read strictly, and written so that it can be read again.

Python's own reader takes NaN, a key twice and numbers of any length, and raises RecursionError for what is too deep.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEPTH = 64
"""Lists and objects within each other; what quantlab writes has fewer than ten."""
DIGITS = 400
"""Letters of a number; a float64 in full has fewer."""
LARGEST = 2**63 - 1
"""Of an integer."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, *, infinite: bool = False) -> Any:
    """Plain values of a text.

    Args:
        text: JSON.
        infinite: Whether Infinity and NaN are taken, which Python writes and JSON does not have.

    Returns:
        What it holds.

    Raises:
        ValueError: It is no JSON, has a key twice in an object, a number that no float64 or 64-bit integer holds, half
            of a character (a lone surrogate), or is deeper than DEPTH.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=float if infinite else _constant,
        )
    except RecursionError as error:
        raise ValueError(f"it is deeper than {DEPTH} levels") from error
    if (not text.isascii() and _SURROGATE.search(text)) or (_ESCAPED.search(text) and _has_surrogate(value)):
        raise ValueError("a text in it has half of a character (a lone surrogate)")
    if text.count("[") + text.count("{") > DEPTH:
        _check_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"key {quoted(twice)} is there twice")
    return found


def _integer(text: str) -> int:
    number = int(text) if len(text) <= 20 else LARGEST + 1
    if not -LARGEST <= number <= LARGEST:
        raise ValueError(f"the number {text[:20]}... has {len(text)} digits, a 64-bit integer holds 18")
    return number


def _float(text: str) -> float:
    number = float(text) if len(text) <= DIGITS else math.inf
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]}{'...' * (len(text) > 20)} is too large or too long")
    return number


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _has_surrogate(value: Any) -> bool:
    return _SURROGATE.search(json.dumps(value, ensure_ascii=False)) is not None


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH + 1:
            raise ValueError(f"it is deeper than {DEPTH} levels")
        boxes = [one for one in level if isinstance(one, (dict, list))]
        level = [inner for box in boxes for inner in (box.values() if isinstance(box, dict) else box)]


def quoted(text: str) -> str:
    """A text for an error text, short."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def json_text(value: Any) -> str:
    """A value as the text of a file, readable by any reader of JSON.

    Names of files that are not UTF-8 come to Python as lone surrogates, which no UTF-8 holds: a byte of theirs is
    written as `\\xff`.

    Args:
        value: Plain values; NaN and infinity are refused.

    Returns:
        JSON, with a line end.
    """
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    return (text if text.isascii() else _SURROGATE.sub(lambda m: "\\\\" + _bytes_of(m[0]), text)) + "\n"


def _bytes_of(letter: str) -> str:
    code = ord(letter)
    return f"x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"u{code:04x}"
