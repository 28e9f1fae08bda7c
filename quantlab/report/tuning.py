"""What a search found, as a page, as Markdown and as a picture of the trade-off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from quantlab.errors import expect_type
from quantlab.files import make_folder, together, write_bytes, write_text
from quantlab.plain_text import markdown, printable
from quantlab.report.front import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, front_chart
from quantlab.report.tuning_document import tuning_document
from quantlab.report.write import template_environment
from quantlab.tune.tuned import Tuned

WORDS = (
    ("SQNR", "10 log10 of the power of FP32's output over the power of the error, in dB; of several outputs the "
     "smallest. 6 dB more halve the error; ∞ means equal."),
    ("measured", "an engine was built: its latency is a median on the device, its SQNR that of its own outputs."),
    ("estimated", "no engine was built: the latency comes from the layers of those that were, the SQNR from the same "
     "model on ONNX Runtime."),
    ("front", "the candidates that no other beats in both latency and SQNR; of engines, where any were measured."),
    ("float", "nothing in INT8: FP16 on TensorRT, FP32 on ONNX Runtime."),
    ("everything", "all layers in INT8 that can be."),
    ("default", "what quantlab quantize places."),
    ("implicit", "TensorRT's own choice, from the same scales."),
)  # fmt: skip
"""What a reader of the pages may not know."""
MOST_LETTERS = 100
"""Of a name in the Markdown."""
MOST = 20
"""Layers in the Markdown; all of them are on the page."""
NAMES = ("tuned.html", "tuned.md", "front.png")
"""The files."""


def write_tuning(found: Tuned, folder: Path, title: str) -> Path:
    """Write what a search found: tuned.html, tuned.md and front.png.

    Args:
        found: What `tune` gives.
        folder: Made if needed.
        title: Of the pages.

    Returns:
        The HTML file.

    Raises:
        ConfigError: They cannot be written, or `found` is something else.
    """
    from quantlab.report.front_plot import plot_front  # matplotlib takes a second to import

    expect_type(found, Tuned, "what is reported", "give what a search returns")
    document = tuning_document(found, printable(" ".join(title.split())))
    chart = front_chart(document["candidates"])
    page, text, picture = _html(document, chart), _markdown(document), plot_front(chart)
    html, lines, png = (folder / name for name in NAMES)
    with together():
        make_folder(folder)
        write_bytes(png, picture)
        write_text(lines, text)
        write_text(html, page)
    return html


def _html(document: Mapping[str, Any], chart: Chart) -> str:
    from quantlab.report.front_plot import LEGEND

    edges = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
    template = template_environment(autoescape=True).get_template("tuning.html.j2")
    return template.render(doc=document, chart=chart, legend=LEGEND, words=WORDS, **edges).lstrip() + "\n"


def _markdown(document: Mapping[str, Any]) -> str:
    environment = template_environment(autoescape=False)
    environment.filters |= {"line": partial(markdown, limit=MOST_LETTERS), "fence": _fence}
    return environment.get_template("tuning.md.j2").render(doc=document, words=WORDS, most=MOST) + "\n"


def _fence(code: str) -> str:
    """Longer than any row of backticks in the code."""
    return "`" * (1 + max([2, *(len(run) for run in re.findall("`+", code))]))
