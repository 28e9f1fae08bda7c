"""Figures as SVG text for a page: in the colours of the page, and with points that say their name and lead to a row."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from quantlab.report.plots.style import INK, drawing

_MARK = "quantlab-mark-"


class Marks:
    """What the points of one figure are called, and where they lead."""

    def __init__(self) -> None:
        self.titles: list[tuple[str, str]] = []

    def add(self, title: str, row: str | None = None) -> str:
        """Note a point.

        Args:
            title: What is shown where a pointer rests on it.
            row: The id of the row that it leads to, None for none.

        Returns:
            What matplotlib takes for its address.
        """
        self.titles.append((title, row or ""))
        return f"{_MARK}{len(self.titles) - 1}."

    def points(self, drawn: PathCollection, named: Iterable[tuple[str, str | None]]) -> None:
        """Name the points of a scatter plot.

        Args:
            drawn: What scatter gave.
            named: (title, row) of every point, in order, as of `add`.
        """
        drawn.set_urls([self.add(title, row) for title, row in named])

    def one(self, drawn: Artist, title: str, row: str | None = None) -> None:
        """Name something that is drawn as a whole.

        Args:
            drawn: What matplotlib gave.
            title: As of `add`.
            row: As of `add`.
        """
        drawn.set_url(self.add(title, row))

    def put_into(self, text: str) -> str:
        """The SVG text of the figure, with links and titles in place of the addresses."""

        def link(match: re.Match[str]) -> str:
            title, row = self.titles[int(match[1])]
            address = f' href="#{html.escape(row)}"' if row else ""
            # the rows of the tables can be reached by the keyboard; hundreds of points would be in the way
            return f'<a{address} tabindex="-1"><title>{html.escape(title)}</title>'

        return re.sub(rf'<a xlink:href="{_MARK}([0-9]+)\."[^>]*>', link, text)


def svg_text(figure: Figure, name: str, description: str, marks: Marks) -> str:
    """A figure as it stands in a page. Text and axes take the colour of the page's text.

    Args:
        figure: The figure.
        name: Unique on the page, in letters and hyphens.
        description: For those who do not see it.
        marks: Of its points.

    Returns:
        An svg element.
    """
    buffer = io.StringIO()
    with drawing(f"quantlab-{name}"):
        metadata = {"Date": None, "Creator": None, "Title": description}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # ids must be unique on a page that holds several plots
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = marks.put_into(text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)


def finite(value: float | str | None) -> float:
    """A number for an axis; infinite and unknown values leave a gap."""
    return value if isinstance(value, (int, float)) else float("nan")


def short(name: str, limit: int = 40) -> str:
    """The end of a name, which tells layers apart.

    Args:
        name: Of a layer or tensor.
        limit: Letters.

    Returns:
        As many letters at most.
    """
    return name if len(name) <= limit else "…" + name[1 - limit :]


def legend_label(name: str) -> str:
    """A name in a legend: matplotlib leaves out those that start with an underscore."""
    return f" {short(name)}" if name.startswith("_") else short(name)


def legend_columns(names: Sequence[str]) -> int:
    """Columns of a legend that fit into the width of a figure: about 120 letters, 7 of them for each line and gap."""
    longest = max((len(short(name)) for name in names), default=0)
    return max(1, min(len(names), 120 // (longest + 7)))


def log_scale(axes: Axes) -> None:
    """A log y axis with plain numbers: matplotlib's own labels are mathematics, which is switched off for names."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 1000 * low:  # else decades alone leave one or two numbers on the axis
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def decibel(value: float | str | None) -> str:
    """An SQNR in the title of a point."""
    return value.replace("inf", "∞") if isinstance(value, str) else "–" if value is None else f"{value:.1f}"


Row = Mapping[str, Any]
"""A part of the document."""
