"""What a search found as a page and as Markdown: every figure is the search's, every name harmless."""

from __future__ import annotations

import html
import html.parser
import math
import re
from pathlib import Path

import pytest

from hostile_report import ATTACK, LONG
from quantlab.errors import ConfigError
from quantlab.report import write_tuning
from quantlab.report.tuning import MOST, NAMES
from quantlab.report.tuning_document import asked, tuning_document
from quantlab.tune.target import Target
from quantlab.tune.tuned import Tuned
from tuned_double import DEVICE, hostile, point, searched, tuned


@pytest.fixture(scope="module")
def found() -> Tuned:
    return searched()


class Page(html.parser.HTMLParser):
    """The parts of a page that tests ask for."""

    VOID = frozenset({"meta", "br", "path", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.point_links: list[str] = []
        self.other_urls: list[str] = []
        self.sections: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self._section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if "id" in values:
            self.ids.append(values["id"] or "")
        if tag == "a":
            self.links.append(values["href"] or "")
            if "svg" in self.open:
                self.point_links.append(values["href"] or "")
        self.other_urls += [v or "" for k, v in attrs if k in ("src", "action", "data", "xlink:href")]
        assert not [k for k, _ in attrs if k.startswith("on")]
        if tag == "section":
            self._section = values["id"] or ""
            self.sections[self._section] = ""
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "section" in self.open:
            self.sections[self._section] += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def page_of(found: Tuned, folder: Path, title: str = "A title") -> tuple[str, Page]:
    text = write_tuning(found, folder, title).read_text()
    return text, Page(text)


def numbered(text: str) -> str:
    return text.replace("inf", "∞")


def test_files_are_written_into_a_new_folder_and_nothing_else(found: Tuned, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert write_tuning(found, folder, "t") == folder / "tuned.html"
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_tuning(found, folder, "t")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_page_is_self_contained_and_has_every_figure_of_the_search(found: Tuned, tmp_path: Path) -> None:
    text, page = page_of(found, tmp_path)
    assert page.other_urls == []
    assert page.tags.count("script") == page.tags.count("svg") == 1
    assert "http" not in text.replace("http://www.w3.org/", "")
    assert found.summary in text
    assert "Asked for: the fastest engine with an SQNR of at least 38.00 dB. Reached." in text
    assert DEVICE in text
    rows = {row[1].removesuffix(" (chosen)"): row for row in page.rows if len(row) == 7}
    for one in found.points:
        row, accuracy = rows[one.trial.name], one.accuracy
        assert row[2] == f"{one.latency_ms:.4f}"
        assert row[3] == ("measured" if one.measured else "estimated")
        assert row[4] == numbered(f"{accuracy.sqnr_db:.2f}")
        assert row[5] == (str(sum(one.trial.int8)) if one.trial.int8 else "–")
        assert row[6] == ("yes" if one in found.front else "no")
    latencies = [float(row[2]) for row in page.rows if len(row) == 7 and row[0].isdigit()]
    assert len(latencies) == len(found.points)
    assert latencies == sorted(latencies)
    assert f"{found.best.trial.name} (chosen)" in {row[1] for row in page.rows if len(row) == 7}


def test_every_point_leads_to_the_section_with_its_layers(found: Tuned, tmp_path: Path) -> None:
    _, page = page_of(found, tmp_path)
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert {link.removeprefix("#") for link in page.point_links} == set(page.sections)
    assert len(page.point_links) == len(found.points)
    for one in found.points:
        section = next(s for s in page.sections.values() if re.search(rf"\d+\. {one.trial.name}\b", s))
        assert f"{one.latency_ms:.4f} ms, {'measured' if one.measured else 'estimated'}" in section
        left = [name for name, on in zip(found.regions, one.trial.int8, strict=False) if not on]
        listed = [line for line in section.splitlines() if line in found.regions]
        assert listed == left
        assert ("TensorRT chose the layers itself" in section) == (one.trial.name == "implicit")
        assert (f"{sum(one.trial.int8)} of {len(found.regions)}" in section) == (one.trial.name != "implicit")


def test_reasons_of_the_chosen_one_are_the_searchs_and_the_most_costly_come_first(found: Tuned, tmp_path: Path) -> None:
    _, page = page_of(found, tmp_path)
    on = dict(zip(found.regions, found.best.trial.int8, strict=True))
    assert found.quantized is not None
    reasons = {one.node: (one.op, one.reason) for one in found.quantized.placement.skipped}
    left = sorted((name for name in on if not on[name]), key=lambda name: found.effects[name][0])
    shown = [row for row in page.rows if len(row) == 4 and row[0].split(" (")[0] in on]
    assert shown == [
        [
            f"{name} ({reasons[name][0]})", f"{-found.effects[name][0]:.2f}", f"{found.effects[name][1]:+.1f}",
            reasons[name][1],
        ]
        for name in left
    ]  # fmt: skip
    inside = sorted((name for name in on if on[name]), key=lambda name: -found.effects[name][0])
    gains = [row for row in page.rows if len(row) == 3 and row[0] in on]
    assert gains == [[n, f"{found.effects[n][0]:.2f}", f"{found.effects[n][1]:+.1f}"] for n in inside]
    assert ["Relu", "9", "TensorRT fuses it into the kernel before it"] in page.rows


@pytest.mark.parametrize("sqnr_db", [math.inf, -math.inf, 31.0, math.nan])
@pytest.mark.parametrize("latency_ms", [1.25, math.nan, math.inf])
def test_one_candidate_makes_a_page_without_nan(sqnr_db: float, latency_ms: float, tmp_path: Path) -> None:
    text, page = page_of(tuned(point("float", latency_ms, sqnr_db, (False, False))), tmp_path)
    figures = text.replace(tuned(point("float", latency_ms, sqnr_db)).summary, "")
    drawing = re.search(r"<svg.*?</svg>", text, re.DOTALL)
    assert drawing is not None
    assert not re.search(r"\b(nan|inf)\b", drawing[0])
    assert "None" not in figures
    drawn = not math.isnan(sqnr_db) and math.isfinite(latency_ms)
    assert len(page.point_links) == drawn
    assert ("1 of them cannot be drawn" in text) == (not drawn)
    assert "quantlab build MODEL.onnx --fp16 -o model.engine" in text
    assert 'class="line" d="M70' not in text


def test_nothing_reached_and_nothing_measured_is_said(tmp_path: Path) -> None:
    one = point("default", 1.0, 20.0, measured=False, metric=70.5, fp32=71.25)
    text, page = page_of(tuned(one, reached=False, target=Target(None, 0.5)), tmp_path)
    assert "Asked for: the fastest engine with a drop of the metric of at most 0.5." in text
    assert "Not reached" in text
    assert "No engine was built" in text
    assert ["1", "default (chosen)", "1.0000", "estimated", "20.00", "70.5000", "0.7500", "1", "yes"] in page.rows
    assert "70.5000 (drop against FP32: 0.7500)" in page.sections["candidate-1"]
    markdown = (tmp_path / "tuned.md").read_text()
    assert "**Not reached**" in markdown
    assert "1.0000 (estimated)" in markdown


def test_what_was_asked_for_is_said_whole() -> None:
    everything = Target(40.0, 0.25, 1.5, "accuracy")
    assert asked(everything) == (
        "the most accurate engine with an SQNR of at least 40.00 dB and a drop of the metric of at most 0.25 and a "
        "latency of at most 1.5 ms"
    )
    assert asked(Target()) == "the fastest engine"


def test_hostile_names_stay_text_and_many_layers_are_folded(tmp_path: Path) -> None:
    text, page = page_of(hostile(), tmp_path, f"Title {ATTACK}")
    assert "img" not in page.tags
    assert page.tags.count("script") == 1
    assert page.other_urls == []
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert (
        f"<title>Title {html.escape(ATTACK, quote=True).replace('&#x27;', '&#39;').replace('&quot;', '&#34;')}" in text
    )
    sections = "".join(page.sections.values())
    assert ATTACK in sections
    assert LONG * 4 in sections
    assert all(f"layer{k}" in page.sections["candidate-5"] for k in range(4, 500))
    assert "<details open>" not in text
    assert len(text) < 300_000


def test_markdown_keeps_hostile_names_in_their_cells(tmp_path: Path) -> None:
    write_tuning(hostile(), tmp_path, f"Title\n{ATTACK}")
    text = (tmp_path / "tuned.md").read_text()
    prose = re.sub(r"\n(`{3,}).*?\n\1\n", "", text, flags=re.DOTALL)
    assert "<" not in prose
    assert "](javascript" not in prose.replace("\\]", "")
    assert text.startswith("# Title &lt;/td>")
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for block in tables:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.strip().splitlines()}
        assert len(widths) == 1, block
    assert len(tables[1].splitlines()) == MOST + 2
    assert f"the most costly {MOST} of 250" in text
    assert max(map(len, prose.splitlines())) < 500


def test_markdown_has_the_figures_of_the_search(found: Tuned, tmp_path: Path) -> None:
    write_tuning(found, tmp_path, "A title")
    text = (tmp_path / "tuned.md").read_text()
    assert found.summary in text
    assert "](front.png)" in text
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines() if row.startswith("|")]
    for one in found.points:
        row = next(row for row in cells if row[1].removesuffix(" **(chosen)**") == one.trial.name)
        assert row[2] == f"{one.latency_ms:.4f}{'' if one.measured else ' (estimated)'}"
        assert row[3] == numbered(f"{one.accuracy.sqnr_db:.2f}")


def test_choice_of_tensorrt_has_a_plain_command_and_no_layers(tmp_path: Path) -> None:
    text, page = page_of(tuned(point("implicit", 1.0, 30.0)), tmp_path)
    assert "quantlab build MODEL.onnx --best --table TABLE.json -o model.engine" in text
    assert "TensorRT chose the layers itself" in page.sections["candidate-1"]
    assert "layers in INT8" not in page.sections["candidate-1"]


def test_what_is_no_result_of_a_search_is_not_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found is a dict, expected Tuned"):
        write_tuning({}, tmp_path / "new", "t")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_layers_that_cannot_be_in_int8_come_last_with_that_reason() -> None:
    one = tuned(point("x1", 1.0, 30.0, (False, False)), effects={"b": (-1.5, -2.0)})
    rows = tuning_document(one, "t")["float_layers"]
    assert [row["name"] for row in rows] == ["b", "a"]
    assert rows[0]["reason"] == "INT8 here costs 1.50 dB and saves 2.0 us, by the search's estimate"
    assert rows[1]["reason"] == "it cannot be in INT8"


def test_candidate_that_failed_is_named_with_its_reason(tmp_path: Path) -> None:
    one = tuned(point("x1", 1.0, 30.0, (False, True)), failed={"x2<": "no <kernel> | here"})
    text = write_tuning(one, tmp_path, "t").read_text()
    assert "<li>x2&lt;: no &lt;kernel&gt; | here</li>" in text
    markdown = (tmp_path / "tuned.md").read_text()
    assert "Left out: x2" in markdown and "here" in markdown
    assert (
        "could not be built"
        not in write_tuning(tuned(point("x1", 1.0, 30.0, (False, True))), tmp_path, "t").read_text()
    )
