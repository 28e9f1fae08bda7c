"""Which class a name is: the class list of a model, as people have it."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantlab.data.class_lines import Row, class_rows
from quantlab.errors import DataError
from quantlab.files import read_text
from quantlab.strict_json import parse_json

_INDEX = re.compile(r"\d{1,9}")
_HINT = "one name per line in the order of the classes; lines of 'n01440764 tench'; a JSON list or {name: number}"

MOST = 10**9
"""Class numbers are below, as in a text, where a number has nine digits at most."""


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The classes of a model.

    Attributes:
        source: The file, for error texts.
        names: Number -> the name that people know.
        numbers: Whatever a class is called, synset and name, in small letters -> its number.
    """

    source: str
    names: Mapping[int, str]
    numbers: Mapping[str, int]

    def find(self, text: str) -> int | None:
        """The class that a text names, or None."""
        return self.numbers.get(_plain(text))


def read_class_map(path: Path) -> ClassMap:
    """Read a class list.

    Args:
        path: Text (a name per line, `synset name`, `number name`, `synset number name`), CSV, TSV, or JSON (a list,
            {number: name}, {number: [synset, name]}, {name: number}, {"id2label": {number: name}}).

    Returns:
        Names and numbers.

    Raises:
        DataError: It cannot be read, leaves open which number a class has, or gives one name to two.
    """
    text = read_text(path, "class list")
    try:
        if "\0" in text:
            raise ValueError("it is no text")
        rows = list(_of_json(_content(text)) if text.lstrip()[:1] in ("{", "[") else class_rows(text))
        if not rows:
            raise ValueError("it has no classes")
        return _as_map(rows, str(path))
    except ValueError as error:
        raise DataError(f"class list {path}: {error}", hint=_HINT) from error


def _as_map(rows: Sequence[Row], source: str) -> ClassMap:
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    doubtful: set[str] = set()
    for number, called in rows:
        if number in names:
            raise ValueError(f"class {number} is there twice")
        if not called[-1]:
            raise ValueError(f"class {number} has no name")
        names[number] = called[-1]
        for text in map(_plain, called):
            if numbers.setdefault(text, number) != number:
                if _INDEX.fullmatch(text):
                    raise ValueError(f"'{text}' is the name of two classes: is it a list of labels?")
                doubtful.add(text)  # ImageNet has two cranes and two maillots
    kept = {text: number for text, number in numbers.items() if text not in doubtful}
    return ClassMap(source, names, kept)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").casefold().split())


def _content(text: str) -> Any:
    """What JSON says, or a dict as Python writes it: {0: 'tench', 1: 'goldfish'}."""
    try:
        return parse_json(text)
    except ValueError as error:
        try:
            tree = ast.parse(text.strip(), mode="eval").body
            if not isinstance(tree, ast.Dict):
                raise error
            pairs = [
                (str(ast.literal_eval(key or value)), ast.literal_eval(value))
                for key, value in zip(tree.keys, tree.values, strict=True)
            ]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise error from None
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a class is there twice") from None
        return dict(pairs)


def _of_json(content: Any) -> Iterator[Row]:
    if isinstance(content, list):
        yield from ((number, _called(value)) for number, value in enumerate(content))
        return
    if not isinstance(content, dict):
        raise ValueError("it is no list and no object")
    if isinstance(content.get("id2label"), dict):  # the configuration of a model of Hugging Face
        content = content["id2label"]
    by_name = all(type(value) is int and 0 <= value < MOST for value in content.values())
    if not by_name and all(_INDEX.fullmatch(key) for key in content):
        yield from ((int(key), _called(value)) for key, value in content.items())
        return
    if not by_name:
        raise ValueError("neither its keys nor its values are class numbers")
    by_number: dict[int, list[str]] = {}
    for key, number in content.items():
        by_number.setdefault(number, []).append(key)
    yield from ((number, tuple(called)) for number, called in sorted(by_number.items()))


def _called(value: Any) -> tuple[str, ...]:
    """What a class is called, of a text or a list of texts."""
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{str(value)[:40]!r} is no name of a class")
    return tuple(text.strip() for text in texts)
