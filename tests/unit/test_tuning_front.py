"""The trade-off as a drawing: every candidate at its figures, every name readable."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantlab.report import write_tuning
from quantlab.report.front import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, front_chart
from quantlab.report.front_labels import LETTER, LINE
from quantlab.report.tuning_document import tuning_document
from quantlab.tune.tuned import Tuned
from tuned_double import point, searched, tuned


@pytest.fixture(scope="module")
def found() -> Tuned:
    return searched()


def test_chart_places_every_candidate_by_its_figures(found: Tuned) -> None:
    candidates = tuning_document(found, "t")["candidates"]
    chart = front_chart(candidates)
    at = {mark.id: mark for mark in chart.marks}
    ticks = {float(text): x for x, text in chart.x_ticks}
    low, high = min(ticks), max(ticks)
    for one in candidates:
        mark = at[one["id"]]
        expected = ticks[low] + (one["latency_ms"] - low) * (ticks[high] - ticks[low]) / (high - low)
        assert mark.x == pytest.approx(expected)
        assert (mark.measured, mark.on_front, mark.is_best) == (one["measured"], one["on_front"], one["is_best"])
        assert (mark.y == TOP) == (one["sqnr_db"] == "inf")
    finite = [c for c in candidates if c["sqnr_db"] != "inf"]
    by_db = sorted(finite, key=lambda c: c["sqnr_db"])
    heights = [at[c["id"]].y for c in by_db]
    assert heights == sorted(heights, reverse=True)
    assert sum(mark.is_best for mark in chart.marks) == 1
    corners = set(chart.line)
    assert all((at[c["id"]].x, at[c["id"]].y) in corners for c in candidates if c["on_front"])
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in zip(chart.line, chart.line[1:], strict=False))
    assert {"float", "everything", "default", "implicit", "chosen"} <= {label.text for label in chart.labels}
    assert (TOP, "∞") in chart.y_ticks


def boxes(chart: Any) -> list[tuple[float, float, float, float]]:
    found = []
    for label in chart.labels:
        width = LETTER * len(label.text)
        left = label.text_x - {"start": 0, "end": width, "middle": width / 2}[label.anchor]
        found.append((left, label.y - LINE / 2, left + width, label.y + LINE / 2))
    return found


@pytest.mark.parametrize(
    "places",
    [
        [(1.0, 30.0)] * 4,
        [(1.0, 30.0), (1.001, 30.1), (1.002, 30.2), (2.0, 60.0)],
        [(1.0, math.inf)] * 3 + [(2.0, 30.0)],
        [(1.0, 30.0), (1.0, 40.0), (1.0, 50.0), (1.0, math.inf)],
        [(1.0, math.inf), (50.0, 20.0), (60.0, 20.0), (1.1, -math.inf)],
        [(0.0, 0.0)] * 4,
    ],
)
def test_names_neither_hide_each_other_nor_leave_the_drawing(places: list[tuple[float, float]]) -> None:
    bases = ("float", "everything", "default", "implicit")
    points = [point(name, *place) for name, place in zip(bases, places, strict=True)]
    chart = front_chart(tuning_document(tuned(*points, best=1), "t")["candidates"])
    found = boxes(chart)
    assert len(found) == 4
    for k, a in enumerate(found):
        assert 0 <= a[0] < a[2] <= WIDTH
        assert 0 <= a[1] < a[3] <= HEIGHT
        for b in found[:k]:
            assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1]), (a, b)
    for mark in chart.marks:
        assert LEFT <= mark.x <= RIGHT
        assert TOP <= mark.y <= BOTTOM


def test_far_slower_candidate_lies_on_the_edge_and_says_its_latency() -> None:
    points = (point("everything", 1.0, 30.0), point("float", 2.0, 60.0), point("implicit", 100.0, 30.0))
    chart = front_chart(tuning_document(tuned(*points, front=(0, 1)), "t")["candidates"])
    beyond = [mark for mark in chart.marks if mark.is_beyond]
    assert [mark.x for mark in beyond] == [RIGHT]
    assert beyond[0].hint == "implicit: 100.0000 ms (measured), 30.00 dB"
    assert "implicit, 100 ms" in {label.text for label in chart.labels}
    assert max(float(text) for _, text in chart.x_ticks) < 3


def test_picture_is_a_png_of_the_drawing(found: Tuned, tmp_path: Path) -> None:
    write_tuning(found, tmp_path, "t")
    path = tmp_path / "front.png"
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (1.6 * WIDTH, 1.6 * HEIGHT)
        pixels = np.asarray(image.convert("RGB"))
    assert 20_000 < path.stat().st_size < 300_000
    assert (pixels[0, 0] == 255).all()
    chart = front_chart(tuning_document(found, "t")["candidates"])
    for mark in chart.marks:  # the middle of a measured point has its colour, of an estimated one it is white
        middle = pixels[round(1.6 * mark.y), round(1.6 * mark.x)]
        covered = any(math.dist((mark.x, mark.y), (o.x, o.y)) < 12 for o in chart.marks if o is not mark)
        assert covered or (middle == 255).all() == (not mark.measured), mark
