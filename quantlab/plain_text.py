"""Names and texts of others, put into Markdown, CSV and terminals so that they are text there and nothing else."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from quantlab.files import is_there

_MARKDOWN = re.compile(r"([\\`*\[\]|#!~$]|(?<![^\W_])_|_(?![^\W_])|^[-+=>]|^[0-9]+(?=[.)]))")
_LINK = re.compile(r"(?<=[A-Za-z])://|\b[wW]{3}\.")
_FORMULA = "=+-@\t\r\n＝＋－＠"
_ABSOLUTE = re.compile(r"(?<![\w.~])/(?:[^\s'\":,;/]+/)+[^\s'\":,;/]+")
_PATH = re.compile(r"^([^/]*=)?(/.*/.+)$")
"""An argument that is an absolute path, behind an option or a name or not."""


def printable(text: str) -> str:
    """One line that a terminal shows as it is: what is not printable stands as its escape, `\\x1b` or `\\n`.

    A byte of a file name that is not UTF-8 stands as `\\xff`.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds such a byte
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")


def markdown(text: object, limit: int | None = None) -> str:
    """Text in a line or a table cell of Markdown: no heading, link, image, HTML, list or cell begins or ends in it.

    Args:
        text: Of anyone.
        limit: Letters, after which its middle is left out; None for all.

    Returns:
        Markdown that shows the text, its white space as single spaces.
    """
    line = printable(" ".join(str(text).split()))
    if limit is not None and len(line) > limit:
        line = f"{line[: limit // 2]}…{line[-limit // 2 :]}"
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    line = _MARKDOWN.sub(lambda m: m[0] + "\\" if m[0][-1].isdigit() else "\\" + m[0], line)
    return _LINK.sub(lambda m: "&#58;//" if m[0] == "://" else f"{m[0][:3]}&#46;", line)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV that a spreadsheet does not run: a text that it would take for a formula begins with an apostrophe.

    Args:
        rows: Of cells; None is an empty one.

    Returns:
        A line per row.
    """
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return lines.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    text = "\n".join(map(printable, value.split("\n")))  # quoted, a line break is data
    return f"'{text}" if value[:1] in tuple(_FORMULA) and value != "-inf" else text


def without_folders(text: str) -> str:
    """A text without what it says of this machine: of files that are there only the names, not where they are."""
    for folder in (Path.cwd(), Path.home()):
        if len(folder.parts) > 1:
            text = text.replace(f"{folder}/", "")
    return _ABSOLUTE.sub(lambda m: m[0].rsplit("/", 1)[1] if is_there(Path(m[0])) else m[0], text)


def command_text(arguments: Iterable[str]) -> str:
    """A command line as text to paste, without where on this machine its files lie, whether they are there or not.

    Args:
        arguments: As they were typed.

    Returns:
        One line; what a shell would read otherwise is quoted.
    """
    return shlex.join(_PATH.sub(_name, without_folders(one)) for one in arguments)


def _name(found: re.Match[str]) -> str:
    """The name of a file of this machine; what only looks like one, such as the name of a node, stays."""
    before, path = found[1] or "", found[2].rstrip("/")
    is_file = is_there(Path("/", path.split("/")[1]))
    return before + (path.rsplit("/", 1)[1] if is_file else found[2])
