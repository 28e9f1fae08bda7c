"""Results as a person looks at them in a notebook or prints them, and as a pandas DataFrame where that is installed."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from quantlab.errors import MissingDependencyError
from quantlab.plain_text import printable

SHOWN = 60
"""Rows of a table in a notebook; the first and the last where there are more."""
_LETTERS = 100
"""Of a cell in a notebook, after which its middle is left out."""
_TEXT = ' style="text-align:left"'


@dataclass(frozen=True, slots=True)
class Rows:
    """Headings and rows of plain values: text, numbers, None for what is not known.

    Attributes:
        columns: The headings, as names that code can use.
        rows: As many values in each as there are columns.
        caption: One line about all of them.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    caption: str = ""

    @classmethod
    def of(cls, columns: tuple[str, ...], rows: Iterable[Iterable[object]], caption: str = "") -> Rows:
        """Rows without the columns that have no value anywhere.

        Args:
            columns: The headings.
            rows: The values.
            caption: One line about all of them.

        Returns:
            The rows.
        """
        given = [tuple(row) for row in rows]
        kept = [k for k in range(len(columns)) if not given or any(row[k] is not None for row in given)]
        return cls(tuple(columns[k] for k in kept), tuple(tuple(row[k] for k in kept) for row in given), caption)

    def to_html(self) -> str:
        """A small table for a notebook. Whatever a name holds is text in it."""
        left = [all(isinstance(row[k], str | None) for row in self.rows) for k in range(len(self.columns))]
        head = "".join(f"<th{_TEXT * left[k]}>{html.escape(name)}</th>" for k, name in enumerate(self.columns))
        body = self.rows
        if len(self.rows) > SHOWN:
            body = (*self.rows[: SHOWN // 2], ("…",) * len(self.columns), *self.rows[-SHOWN // 2 :])
        lines = [
            "".join(f"<td{_TEXT * left[k]}>{html.escape(_shorter(_cell(value)))}</td>" for k, value in enumerate(row))
            for row in body
        ]
        caption = f"<caption>{html.escape(printable(self.caption))}</caption>" if self.caption else ""
        rows = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def to_text(self) -> str:
        """Aligned columns for a terminal: every row, every name whole."""
        cells = [self.columns, *([printable(_cell(value)) for value in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join(line.rstrip() for line in lines)

    def to_pandas(self) -> Any:
        """A DataFrame; MissingDependencyError without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise MissingDependencyError(
                f"a DataFrame needs pandas, which cannot be imported: {error}", hint="pip install pandas"
            ) from error
        return pandas.DataFrame(list(self.rows), columns=list(self.columns))


class Tabular:
    """A result that a notebook shows as a table."""

    __slots__ = ()

    def to_rows(self) -> Rows:
        """What the table shows."""
        raise NotImplementedError

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame; MissingDependencyError without pandas, which quantlab does not need."""
        return self.to_rows().to_pandas()

    def _repr_html_(self) -> str:
        return self.to_rows().to_html()


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _shorter(text: str) -> str:
    line = printable(text)
    return line if len(line) <= _LETTERS else f"{line[: _LETTERS // 2]}…{line[-_LETTERS // 2 :]}"
