"""The lines of a class list: what separates its columns, what is a heading, which column is the number of a class.

A number that is taken for the position of a line, or a heading for a class, gives every class a wrong number without
a word: what leaves that open is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

SYNSET = re.compile(r"n\d{8}")
Row = tuple[int, tuple[str, ...]]
"""The number of a class, and what it is called: the synset before the name."""
_INDEX = re.compile(r"\d{1,9}")
_LINE = re.compile(r"(?P<one>\d{1,9}|n\d{8})(?:[\s,;:]+(?P<two>\d{1,9}|n\d{8}))?(?:[\s,;:]+(?P<name>\S.*))?")
"""`number name`, `synset name`, `number synset name`, `synset number name`."""
_COUNTED = (
    re.compile(r"\A\[?(?P<number>\d{1,9})\s*[\s.,;:)\]=|-]\s*\S"),
    re.compile(r"(?<=[\s:=|])(?P<number>\d{1,9})\Z"),
)
"""Lines with a number at one of their ends that is not read as that of the class."""
_FEW = 0.1
"""Of the lines may be without a number where all others have one: they were meant to have it."""
_NUMBER_WORDS = frozenset({"id", "index", "idx", "number", "no", "label", "target", "class"})
_NAME_WORDS = frozenset({"class", "classes", "name", "names", "label", "labels", "category", "categories", "synset",
                         "synsets", "wnid", "wnids"})  # fmt: skip
_WORDS = _NUMBER_WORDS | _NAME_WORDS | {"description", "words"}


def class_rows(text: str) -> Iterator[Row]:
    """The classes of a text.

    Args:
        text: A name per line, or lines with numbers, synsets and names, with or without a heading.

    Returns:
        Numbers and names.

    Raises:
        ValueError: It leaves open which number a class has.
    """
    lines = [line.strip() for line in re.split(r"\r\n?|\n", text.rstrip())]
    if "" in lines:
        raise ValueError(f"line {lines.index('') + 1} is empty, which leaves open what number the next class has")
    if comment := next((number for number, line in enumerate(lines, 1) if re.match(r"#\s", line)), None):
        raise ValueError(f"line {comment} begins with '#', which leaves open whether it is a class")
    table = _table(lines)
    if table is not None:
        return _of_table(table)
    numbered = _numbered(lines) or (_numbered(lines[1:]) if _is_heading(lines[:1], _WORDS) else None)
    if numbered is not None:
        return iter(numbered)
    synsets = [_of_synset(line) for line in lines]
    if all(synsets[1:]) and len(lines) > 1 and synsets[0] is None:
        _require_heading([lines[0]], _WORDS, "every other line begins with a synset")
        synsets = synsets[1:]
    if all(synsets):
        return ((number, called) for number, called in enumerate(synsets) if called is not None)
    names = lines[1:] if _is_heading(lines[:1], _NAME_WORDS) else lines
    _refuse_counted(names)
    return ((number, (_unquoted(name),)) for number, name in enumerate(names))


def _numbered(lines: Sequence[str]) -> list[Row] | None:
    """Lines that begin with a number, or with a synset and a number, a different one each; else None."""
    rows = []
    for line in lines:
        found = _LINE.fullmatch(line)
        cells = [] if found is None else [found["one"], found["two"], found["name"]]
        if cells and SYNSET.fullmatch(cells[0]) and cells[1] is not None:
            cells[:2] = reversed(cells[:2])
        if not cells or not _INDEX.fullmatch(cells[0]) or not any(cells[1:]):
            return None
        if found and _INDEX.fullmatch(cells[1] or "") and _INDEX.fullmatch(found["one"]):
            cells[1:] = [line[found.start("two") :]]  # a name that begins with a number
        rows.append((int(cells[0]), tuple(_unquoted(cell) for cell in cells[1:] if cell)))
    if len({number for number, _ in rows}) < len(rows):
        if any(SYNSET.fullmatch(called[0]) for _, called in rows):
            raise ValueError("a class number is there twice")
        return None
    return rows or None


def _refuse_counted(names: Sequence[str]) -> None:
    """ValueError where the lines have numbers of their own that are not those of their places."""
    for kind in _COUNTED:
        found = {place: int(match["number"]) for place, name in enumerate(names) if (match := kind.search(name))}
        places = [number - place for place, number in found.items()]
        is_count = len(set(found.values())) == len(found) > 1 and max(found.values()) <= len(names)
        if is_count and len(found) >= (1 - _FEW) * len(names) and len(set(places)) > 1:
            raise ValueError(f"its lines are counted, but not in order, such as {names[next(iter(found))][:40]!r}")


def _of_synset(line: str) -> tuple[str, ...] | None:
    found = re.fullmatch(rf"({SYNSET.pattern})(?:[\s,;:]+(\S.*))?", line)
    return None if found is None else tuple(_unquoted(cell) for cell in found.groups() if cell)


def _unquoted(name: str) -> str:
    return re.sub(r"""^(['"])(.*)\1,?$""", r"\2", name).strip()


def _table(lines: Sequence[str]) -> list[list[str]] | None:
    """The cells, where all lines have as many columns, two or more; None for names with commas in them."""
    for mark in "\t;,":
        if not any(mark in line for line in lines):
            continue
        reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=mark, strict=True, skipinitialspace=True)
        try:
            rows = [[cell.strip() for cell in row] for row in reader]
        except csv.Error:
            continue
        is_alike = len({len(row) for row in rows}) == 1 and len(rows) == len(lines) and len(rows[0]) > 1
        if is_alike and (mark != "," or any(re.search(r",\S", line) for line in lines) or _has_columns(rows)):
            return rows
    return None


def _has_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Whether cells with a blank after every comma are columns, and not names: tench, Tinca tinca."""
    columns = [column[1:] or column for column in zip(*rows, strict=True)]
    return any(_is_heading([cell], _NAME_WORDS) for cell in rows[0]) or any(
        all(kind.fullmatch(cell) for cell in column) for column in columns for kind in (_INDEX, SYNSET)
    )


def _of_table(rows: list[list[str]]) -> Iterator[Row]:
    """Rows of a number, a synset, a name, in whatever order; without a number the row counts."""
    columns = list(zip(*rows, strict=True))
    numeric = [k for k, column in enumerate(columns) if all(_INDEX.fullmatch(cell) for cell in column[1:] or column)]
    if numeric:
        number_at = _number_column(rows, numeric)
        has_heading = _INDEX.fullmatch(rows[0][number_at]) is None
    else:
        number_at = None
        has_heading = _has_heading(rows, columns)
    named = [k for k in numeric if has_heading and k != number_at and set(_words(rows[0][k])) & _NAME_WORDS]
    others = {*numeric} - {*named}  # the classes of digits have numbers for names
    rows = rows[1:] if has_heading else rows
    if number_at is not None and len({int(row[number_at]) for row in rows}) < len(rows):
        raise ValueError("a class number is there twice")
    for position, row in enumerate(rows):
        called = [cell for k, cell in enumerate(row) if k not in others and cell]
        if not called:
            raise ValueError(f"a row has no name: {','.join(row)[:40]!r}")
        called.sort(key=lambda cell: SYNSET.fullmatch(cell) is None)
        yield position if number_at is None else int(row[number_at]), tuple(called)


def _number_column(rows: Sequence[Sequence[str]], numeric: Sequence[int]) -> int:
    """Which of the columns of numbers has those of the classes: that whose heading says so, or the only one."""
    first, rest = rows[0], rows[1:]
    named = [k for k in numeric if set(_words(first[k])) & _NUMBER_WORDS]
    chosen = named or numeric
    counts = {tuple(sorted(int(row[k]) for row in rest)) for k in numeric}
    is_count = any(tuple(range(start, start + len(rest))) in counts for start in (0, 1))
    is_heading = not any(_INDEX.fullmatch(cell) for cell in first)
    if len(chosen) > 1 or (is_heading and not named and not is_count):
        raise ValueError("it leaves open which column has the numbers of the classes: give it the heading 'id'")
    return chosen[0]


def _has_heading(rows: Sequence[Sequence[str]], columns: Sequence[Sequence[str]]) -> bool:
    """Whether the first row of a table without numbers is a heading."""
    if any(SYNSET.fullmatch(cell) for cell in rows[0]):
        return False
    if any(_is_heading([cell], _WORDS) for cell in rows[0]):
        return True
    why = "no column has the numbers of the classes"
    if len(rows) > 1 and any(all(SYNSET.fullmatch(cell) for cell in column[1:]) for column in columns):
        why = "every other line has a synset"
    return _require_heading(rows[0], _WORDS, why)


def _require_heading(cells: Sequence[str], words: frozenset[str], why: str) -> bool:
    if not _is_heading(cells, words):
        raise ValueError(f"line 1 is {', '.join(cells)[:40]!r} and {why}, which leaves open whether it is a heading")
    return True


def _is_heading(cells: Sequence[str], words: frozenset[str]) -> bool:
    return all(_words(cell) and set(_words(cell)) <= words for cell in cells)


def _words(cell: str) -> list[str]:
    return re.findall(r"[^\W_]+", cell.lower())
