"""Results in a notebook, printed, and as a DataFrame; a parser of HTML says what a browser would read."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

import quantlab
from models import conv_net, image_batches
from quantlab.calibration import CalibrationTable, TrtCache
from quantlab.errors import MissingDependencyError
from quantlab.qdq import Placement, Skipped
from quantlab.tabular import SHOWN, Rows, Tabular
from quantlab.tune.sensitivity_table import Effect, SensitivityProvenance, SensitivityRow, SensitivityTable

ATTACK = "</td></table><script>alert(1)</script>&amp; \"'<img src=x onerror=alert(1)>\x1b[31m"


class Page(HTMLParser):
    """The tags of a page in order, and the text of every cell."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.caption = ""
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"style"}
        self.tags.append(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] == "caption":
            self.caption += data
        else:
            self.rows[-1][-1] += data


def results() -> Iterator[tuple[str, Tabular, int]]:
    """(name, a result, its rows), each with names that would break a page."""
    amax = {ATTACK: np.float32(1.5), "b": np.float32(0)}
    table = CalibrationTable(amax)
    yield "table", table, 2
    yield "cache", TrtCache("TRT-8600-EntropyCalibration2", {ATTACK: np.float32(0.5)}), 1
    model, batches = conv_net(), image_batches(2)
    quantized = quantlab.quantize(model, quantlab.calibrate(model, batches, "minmax"))
    skipped = (*quantized.placement.skipped, Skipped(ATTACK, "Relu", ATTACK))
    given = quantized.placement
    placement = Placement(given.activations, given.weights, skipped, given.groups, given.why)
    yield "placement", placement, len(given.activations) + len(given.weights) + len(skipped)
    yield "skipped", placement.skipped, len(skipped)
    yield "comparison", quantlab.compare(model, {ATTACK: quantized}, batches), 2
    rows = (
        SensitivityRow("layer", "quiet", "Conv", 2, Effect(1e-4, 0.0)),
        SensitivityRow("layer", ATTACK, "Conv", 2, Effect(1e-2, 0.5), estimate=0.0),
    )
    yield "sensitivity", SensitivityTable(rows, (), SensitivityProvenance("", "", "mse", "")), 2


RESULTS = list(results())
each = pytest.mark.parametrize(("result", "count"), [r[1:] for r in RESULTS], ids=[r[0] for r in RESULTS])


@each
def test_notebook_shows_one_table_in_which_names_are_text(result: Tabular, count: int) -> None:
    page = Page(result._repr_html_())
    assert set(page.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert page.tags.count("table") == 1
    assert len(page.rows) == count + 1
    assert {len(row) for row in page.rows} == {len(page.rows[0])}
    shown = [cell for row in page.rows for cell in row]
    assert any("<script>" in cell for cell in shown)
    assert "\x1b" not in "".join(shown)


@each
def test_dataframe_has_the_same_columns_and_the_values_themselves(result: Tabular, count: int) -> None:
    pytest.importorskip("pandas")
    frame = result.to_pandas()
    assert list(frame.columns) == Page(result._repr_html_()).rows[0]
    assert len(frame) == count
    assert ATTACK in frame.to_numpy().ravel().tolist()


def test_dataframe_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="needs pandas.* Hint: pip install pandas"):
        RESULTS[0][1].to_pandas()


def test_values_of_a_table_are_those_of_the_calibration() -> None:
    table = quantlab.calibrate(conv_net(), image_batches(2), "minmax")
    page = Page(table._repr_html_())
    assert page.rows[0] == ["tensor", "amax", "scale"]
    for (name, amax, scale), tensor in zip(page.rows[1:], table.amax, strict=True):
        assert name == tensor
        assert math.isclose(float(amax), table.amax[tensor], rel_tol=1e-5)
        assert math.isclose(float(scale), float(table.scale(tensor)), rel_tol=1e-5)
    assert page.caption.startswith("minmax, ")


def test_comparison_shows_what_is_known_and_leaves_out_what_nothing_knows() -> None:
    model, batches = conv_net(), image_batches(2)
    compared = quantlab.compare(model, {"same": model}, batches)
    rows = Page(compared._repr_html_()).rows
    assert "top1" not in rows[0]  # there are no labels
    assert (rows[2][0], rows[2][rows[0].index("sqnr_db")]) == ("same", "inf")


def test_worst_place_comes_first() -> None:
    sensitivity = next(result for name, result, _ in RESULTS if name == "sensitivity")
    sqnr = [float(row[4]) for row in Page(sensitivity._repr_html_()).rows[1:]]
    assert sqnr == sorted(sqnr)


def test_table_of_many_rows_stays_small_and_is_whole_in_text() -> None:
    rows = Rows(("number", "name"), tuple((k, f"n{k}") for k in range(1000)))
    page = Page(rows.to_html())
    assert len(page.rows) <= SHOWN + 2
    assert (page.rows[1][0], page.rows[-1][0]) == ("0", "999")
    assert ["…", "…"] in page.rows
    assert len(rows.to_text().splitlines()) == 1001
    assert len(Page(Rows(("name",), (("x" * 10_000,),)).to_html()).rows[1][0]) < 200


def test_skipped_nodes_are_a_tuple_that_prints_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = (Skipped("a", "Relu", "no INT8 form"), Skipped("longer/name", "Softmax", ATTACK))
    skipped = Placement((), (), nodes).skipped
    assert skipped == nodes
    assert skipped[0] is nodes[0]
    print(skipped)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["node", "op", "reason"]
    assert [line.split()[:2] for line in lines[1:]] == [["a", "Relu"], ["longer/name", "Softmax"]]
    starts = [
        [line.index(cell) for cell in cells] for line, cells in zip(lines, (["op"], ["Relu"], ["Softmax"]), strict=True)
    ]
    assert all(a == b for a, b in pairwise(starts))
    assert "\x1b" not in "".join(lines)


def test_nothing_skipped_prints_its_headings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    empty = Placement((), (), ()).skipped
    print(empty)
    assert capsys.readouterr().out.split() == ["node", "op", "reason"]
    assert len(Page(empty._repr_html_()).rows) == 1
