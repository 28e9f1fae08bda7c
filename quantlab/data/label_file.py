"""A text file of labels, line by line: what separates its columns, what is a header, which column is the label."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantlab.data.class_lines import SYNSET
from quantlab.data.class_map import ClassMap
from quantlab.data.file_names import FileNames
from quantlab.errors import DataError

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")
_DIGIT = re.compile(r"\d|^[+-]?(nan|inf|infinity)$", re.IGNORECASE)
_BOXES = re.compile(r"(n\d{8})(?:\s+-?\d+)+(?:\s+n\d{8}(?:\s+-?\d+)+)*")
"""A synset with its boxes, as in the solution file of the ImageNet challenge."""
_LABEL_WORDS = frozenset({"label", "labels", "class", "classes", "target", "targets", "category", "y", "truth",
                          "synset", "wnid", "predictionstring"})  # fmt: skip
_FILE_WORDS = frozenset({"file", "files", "filename", "path", "paths", "filepath", "image", "images", "img", "name",
                         "imageid"})  # fmt: skip
_OTHER_WORDS = frozenset({"id", "ids", "index", "idx", "number", "no", "num", "true", "ground", "gt", "x", "sample"})
_LONGEST_LINE = 1 << 20
_Row = tuple[int, list[str]]
"""The number of a line, from 1, and its cells."""


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


def read_label_lines(
    text: str, source: Path, classes: ClassMap | None = None, files: Sequence[str] = ()
) -> list[LabelLine]:
    """Read labels, one per line or beside the name of a file.

    Columns are separated by tabs, commas, semicolons or blanks; names with blanks in them are told by the files that
    there are. A first line is a header if it has a word that stands above labels or files and nothing that looks like a
    number, or nothing that is known; of more than two columns the header says which are meant, or the files that there
    are, where all other columns say the same.

    Args:
        text: The content of the file.
        source: Its name, for the error text.
        classes: Which class a name is; without it labels are numbers.
        files: The names of the files that are to be labelled, where they have any.

    Returns:
        The lines, all with files or all without.

    Raises:
        DataError: A line is something else; its number is named.
    """
    known = FileNames(files)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise _no_labels(source)
    kinds: list[Callable[[], list[_Row]]] = [
        lambda: [(number, [_unquoted(line)]) for number, line in lines],
        *(_separated(text, source, mark) for mark in "\t,;" if any(mark in line for _, line in lines)),
    ]
    of_words = sum(len(line.split()) > 1 for _, line in lines)
    likeliest = 1 if len(kinds) > 1 or 2 * of_words > len(lines) else 0
    if of_words:
        kinds.append(lambda: [(number, _at_blank(line, known, classes)) for number, line in lines])
    problem: DataError | None = None
    for kind, rows_of in enumerate(kinds):
        try:
            found = _labelled(rows_of(), source, classes, known)
        except DataError as error:
            problem = error if kind == likeliest else problem
            continue
        if kind < 2 or not files or any(line.file in known for line in found):
            return found
    raise problem or _no_labels(source)


def _no_labels(source: Path) -> DataError:
    return DataError(f"labels file {source} has no labels", hint="one class number per line, or file,number")


def _separated(text: str, source: Path, mark: str) -> Callable[[], list[_Row]]:
    return lambda: _rows(text, source, mark)


def _rows(text: str, source: Path, mark: str) -> list[_Row]:
    """(number of the line, its cells) of all that are not empty."""
    before = csv.field_size_limit(_LONGEST_LINE)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True, skipinitialspace=True)
    rows: list[_Row] = []
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


def _at_blank(line: str, known: FileNames, classes: ClassMap | None) -> list[str]:
    """File and label of a line of words: the longest file that is known, else all but the last word."""
    blanks = [found.span() for found in re.finditer(r"\s+", line)]
    for start, end in reversed(blanks):
        if _unquoted(line[:start]) in known:
            return [_unquoted(line[:start]), line[end:]]
    for start, end in blanks:
        if _unquoted(line[end:]) in known and _class_of(line[:start], classes) is not None:
            return [_unquoted(line[end:]), line[:start]]
    return [_unquoted(cell) for cell in line.rsplit(None, 1)]


def _unquoted(cell: str) -> str:
    """Without the quotation marks around it: one alone is no number."""
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _labelled(rows: Sequence[_Row], source: Path, classes: ClassMap | None, known: FileNames) -> list[LabelLine]:
    """The lines of rows; DataError where one cannot be read."""
    header = rows[0][1] if rows and _is_header(rows[0][1], classes, known) else None
    rows = rows[1:] if header is not None else rows
    if not rows:
        raise _no_labels(source)
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width:
            raise DataError(
                f"labels file {source}, line {number}: {len(row)} columns, expected {width}",
                hint="one class number per line, or two columns: file,number",
            )
    file_at, label_at = _columns(header, rows, source, classes, known)
    found = []
    for number, row in rows:
        file = "" if file_at is None else row[file_at]
        if file_at is not None and not file:
            raise DataError(f"labels file {source}, line {number} names no file", hint="file,number")
        found.append(LabelLine(number, file, _label(row[label_at], source, number, row, classes)))
    return found


def _columns(
    header: list[str] | None, rows: Sequence[_Row], source: Path, classes: ClassMap | None, known: FileNames
) -> tuple[int | None, int]:
    """Which column has the files, None for none, and which the labels."""
    width = len(rows[0][1])
    if width == 1:
        return None, 0
    words = [_words(cell) for cell in header] if header is not None and len(header) == width else [set()] * width
    named = [k for k in range(width) if words[k] & _FILE_WORDS and not words[k] & _LABEL_WORDS]
    cells = [[row[k] for _, row in rows] for k in range(width)]
    met = [k for k in range(width) if any(cell in known for cell in cells[k])]
    readable = [k for k in range(width) if all(_class_of(cell, classes) is not None for cell in cells[k])]
    headed = [k for k in range(width) if words[k] & _LABEL_WORDS]
    is_clear = not header or headed or named or {0, 1} - {*met} or {0, 1} - {*readable}
    if width == 2 and is_clear:
        seems = 0 in readable and 1 in met and (0 not in met or 1 not in readable)
        return (1, 0) if headed == [0] or (headed != [1] and (named == [1] or seems)) else (0, 1)
    of_files = named if len(named) == 1 else met
    if len(of_files) == 1 and headed and not {*headed} & {*readable}:
        return of_files[0], headed[0]  # the error is about the class that it names
    # without a heading every column must say the same: one of numbers may count the lines beside names of classes
    labels = headed or [k for k in range(width) if k not in of_files and any(cells[k])]
    labels = [k for k in labels if k in readable] if headed or {*labels} <= {*readable} else []
    same = len({tuple(_class_of(cell, classes) for cell in cells[k]) for k in labels}) == 1
    if len(of_files) != 1 or not same:
        raise DataError(
            f"labels file {source}, line {rows[0][0]}: {width} columns, of which it is not clear which are the files "
            "and which the labels",
            hint="two columns: file,number; or headings 'file' and 'label' in the first line",
        )
    return of_files[0], labels[0]


def _label(text: str, source: Path, number: int, row: Sequence[str], classes: ClassMap | None) -> int:
    found = _class_of(text, classes)
    where = f"labels file {source}, line {number}"
    if found is None:
        hint = "end the line with one: 0, 1, 2, ..."
        if classes is None and not _DIGIT.search(text):
            hint += "; for names of classes say which number each has: --classes FILE"
        unknown = "" if classes is None else f", and {classes.source} has no class of that name"
        raise DataError(f"{where}: {','.join(row)[:60]!r} has no class number{unknown}", hint=hint)
    if classes is not None and _NUMBER.fullmatch(text):
        other = classes.find(text)
        if other is not None and other != found:
            raise DataError(
                f"{where}: '{text}' is the number of a class and the name of class {other} in {classes.source}",
                hint="give a class list whose names are no numbers, or none",
            )
        if found not in classes.names:
            raise DataError(
                f"{where}: class {found} is not in {classes.source}, whose classes are {min(classes.names)} to "
                f"{max(classes.names)}",
                hint="do the labels count from 1, or are they of another list?",
            )
    return found


def _class_of(text: str, classes: ClassMap | None) -> int | None:
    """The class that a cell says: its number, or a name that is known."""
    if _NUMBER.fullmatch(text):
        return int(text.split(".")[0])
    if classes is None:
        return None
    boxes = _BOXES.fullmatch(text)
    return classes.find(boxes[1] if boxes else text)


def _is_header(row: list[str], classes: ClassMap | None, files: FileNames) -> bool:
    """Whether a line is a heading: a cell is a word for files or labels, and none looks like a number or a class; or
    it has neither a file that there is nor a class, and labels nothing."""
    if files and len(row) > 1 and not any(cell in files or _class_of(cell, classes) is not None for cell in row):
        return True
    if any(_DIGIT.search(cell) or SYNSET.fullmatch(cell) for cell in row):
        return False
    if classes is not None and any(classes.find(cell) is not None for cell in row):
        return False
    label, others = _words(row[-1]), [_words(cell) for cell in row[:-1]]
    known = _LABEL_WORDS | _FILE_WORDS | _OTHER_WORDS
    if others and others[0] & _FILE_WORDS and others[0] <= known:
        return True  # above a column of files; what the other is called is their owner's business
    if (
        len(row) > 2
        and any(words & _FILE_WORDS for words in others)
        and any(w & _LABEL_WORDS for w in (label, *others))
    ):
        return True
    if others and label & _FILE_WORDS and others[-1] & _LABEL_WORDS and label <= known:
        return True
    return bool(label & _LABEL_WORDS) and label <= known and all(words & known or not words for words in others)


def _words(cell: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", cell.lower()))
