"""A text file of labels, line by line: what is a header, which column is the label, what is a class number."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from quantlab.errors import DataError

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")
_DIGIT = re.compile(r"\d|^[+-]?(nan|inf|infinity)$", re.IGNORECASE)
_LABEL_WORDS = frozenset({"label", "labels", "class", "classes", "target", "targets", "category", "y", "truth"})
_FILE_WORDS = frozenset({"file", "files", "filename", "path", "paths", "filepath", "image", "images", "img", "name"})
_OTHER_WORDS = frozenset({"id", "ids", "index", "idx", "number", "no", "num", "true", "ground", "gt", "x", "sample"})
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class LabelLine:
    """One line of a file of labels.

    Attributes:
        number: Of the line, from 1.
        file: What it labels, '' where the file has labels only.
        label: The class.
    """

    number: int
    file: str
    label: int


def read_label_lines(text: str, source: Path) -> list[LabelLine]:
    """Read labels, one per line or after the name of a file and a comma.

    A first line is a header if its label is a word that stands above labels; nothing that looks like a number is.

    Args:
        text: The content of the file.
        source: Its name, for the error text.

    Returns:
        The lines, all with files or all without.

    Raises:
        DataError: A line is something else; its number is named.
    """
    rows = _rows(text, source)
    if rows and _is_header(rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise DataError(f"labels file {source} has no labels", hint="one class number per line, or file,number")
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width or width > 2:
            raise DataError(
                f"labels file {source}, line {number}: {len(row)} columns, expected {min(width, 2)}",
                hint="one class number per line, or two columns: file,number",
            )
        if width == 2 and not row[0]:
            raise DataError(f"labels file {source}, line {number} names no file", hint="file,number")
        if not _NUMBER.fullmatch(row[-1]):
            raise DataError(
                f"labels file {source}, line {number}: {','.join(row)[:60]!r} has no class number",
                hint="end the line with one: 0, 1, 2, ...",
            )
    return [LabelLine(number, row[0] if width == 2 else "", int(row[-1].split(".")[0])) for number, row in rows]


def _rows(text: str, source: Path) -> list[tuple[int, list[str]]]:
    """(number of the line, its cells) of all that are not empty."""
    before = csv.field_size_limit(_LONGEST_LINE)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        first = 1
        for row in reader:
            rows.append((first, [cell.strip() for cell in row]))
            if reader.line_num > first:
                raise csv.Error("a quoted cell goes over several lines")
            first = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"labels file {source}, line {max(reader.line_num, 1)}: {error}", hint="is a quotation mark not closed?"
        ) from error
    finally:
        csv.field_size_limit(before)
    return [(number, row) for number, row in rows if any(row)]


def _is_header(row: list[str]) -> bool:
    """Whether a line is a heading: a cell is a word for files or labels, and none looks like a number."""
    if any(_DIGIT.search(cell) for cell in row):
        return False
    label, others = _words(row[-1]), [_words(cell) for cell in row[:-1]]
    known = _LABEL_WORDS | _FILE_WORDS | _OTHER_WORDS
    if others and others[0] & _FILE_WORDS and others[0] <= known:
        return True  # above a column of files; what the other is called is their owner's business
    return bool(label & _LABEL_WORDS) and label <= known and all(words & known or not words for words in others)


def _words(cell: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", cell.lower()))
