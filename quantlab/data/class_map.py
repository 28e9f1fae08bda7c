"""Which class a name is: the class list of a model, as people have it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantlab.errors import DataError
from quantlab.files import read_text
from quantlab.strict_json import parse_json

SYNSET = re.compile(r"n\d{8}")
_INDEX = re.compile(r"\d{1,9}")
_NUMBERED = re.compile(r"(\d{1,9})\s*[:,;\t ]\s*(\S.*)")
_SYNSET_LINE = re.compile(r"(n\d{8})(?:[\s,;:]+(\S.*))?")
_HINT = "one name per line in the order of the classes; lines of 'n01440764 tench'; a JSON list or {name: number}"


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
        path: Text (a name per line, `synset name`, `number name`), CSV, TSV, or JSON (a list, {number: name},
            {number: [synset, name]}, {name: number}).

    Returns:
        Names and numbers.

    Raises:
        DataError: It cannot be read, leaves open which number a class has, or gives one name to two.
    """
    text = read_text(path, "class list")
    try:
        rows = list(_of_json(parse_json(text)) if text.lstrip()[:1] in ("{", "[") else _of_text(text))
        if not rows:
            raise ValueError("it has no classes")
        return _as_map(rows, str(path))
    except ValueError as error:
        raise DataError(f"class list {path}: {error}", hint=_HINT) from error


_Row = tuple[int, tuple[str, ...]]
"""The number of a class, and what it is called: the synset before the name."""


def _as_map(rows: Sequence[_Row], source: str) -> ClassMap:
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    doubtful: set[str] = set()
    for number, called in rows:
        if number in names:
            raise ValueError(f"class {number} is there twice")
        names[number] = called[-1]
        for text in map(_plain, called):
            if numbers.setdefault(text, number) != number:  # ImageNet has two cranes and two maillots
                doubtful.add(text)
    kept = {text: number for text, number in numbers.items() if text not in doubtful}
    return ClassMap(source, names, kept)


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split())


def _of_json(content: Any) -> Iterator[_Row]:
    if isinstance(content, list):
        yield from ((number, _called(value)) for number, value in enumerate(content))
        return
    if not isinstance(content, dict):
        raise ValueError("it is no list and no object")
    by_name = all(type(value) is int and value >= 0 for value in content.values())
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


def _of_text(text: str) -> Iterator[_Row]:
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if "" in lines:
        raise ValueError(f"line {lines.index('') + 1} is empty, which leaves open what number the next class has")
    synsets = [_SYNSET_LINE.fullmatch(line) for line in lines]
    if all(synsets):
        for number, found in enumerate(synsets):
            assert found is not None
            yield number, tuple(filter(None, found.groups()))
        return
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(numbered) and len({found[1] for found in numbered if found}) == len(lines) and not _has_columns(lines):
        for found in numbered:
            assert found is not None
            yield int(found[1]), (found[2].strip("'\", "),)
        return
    if _has_columns(lines):
        yield from _of_table(lines)
        return
    yield from ((number, (line,)) for number, line in enumerate(lines))


def _has_columns(lines: Sequence[str]) -> bool:
    """Whether all lines have as many columns, two or more: names with commas in them differ."""
    counts = {len(row) for row in _table(lines)}
    return len(counts) == 1 and counts != {1}


def _table(lines: Sequence[str]) -> list[list[str]]:
    delimiter = "\t" if any("\t" in line for line in lines) else ","
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, strict=True))
    except csv.Error:
        return [[line] for line in lines]
    return [[cell.strip() for cell in row] for row in rows]


def _of_table(lines: Sequence[str]) -> Iterator[_Row]:
    """Rows of a number, a synset, a name, in whatever order; without a number the row counts."""
    rows = _table(lines)
    columns = list(zip(*rows, strict=True))
    number_at = next((k for k, column in enumerate(columns) if _are_numbers(column[1:])), None)
    first = rows[0]
    if number_at is not None:
        has_heading = _INDEX.fullmatch(first[number_at]) is None
    else:
        has_heading = not any(SYNSET.fullmatch(cell) for cell in first) and _is_heading(first)
    rows = rows[1:] if has_heading else rows
    if number_at is not None and len({row[number_at] for row in rows}) < len(rows):
        raise ValueError("a class number is there twice")
    for position, row in enumerate(rows):
        called = [cell for k, cell in enumerate(row) if k != number_at and cell]
        if not called:
            raise ValueError(f"a row has no name: {','.join(row)[:40]!r}")
        called.sort(key=lambda cell: SYNSET.fullmatch(cell) is None)
        yield position if number_at is None else int(row[number_at]), tuple(called)


def _are_numbers(cells: Sequence[str]) -> bool:
    return bool(cells) and all(_INDEX.fullmatch(cell) for cell in cells)


def _is_heading(row: Sequence[str]) -> bool:
    words = {"class", "classes", "name", "names", "label", "labels", "synset", "wnid", "id", "index", "description"}
    return all(set(re.findall(r"[a-z]+", cell.lower())) & words for cell in row)
