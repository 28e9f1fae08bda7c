"""The page of a search in a real browser: points lead to sections, with no script and no network, on every screen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hostile_report import ATTACK, LONG
from quantlab.report import write_tuning
from quantlab.tune.points import Point
from quantlab.tune.problem import Trial
from quantlab.tune.target import Accuracy, Target
from quantlab.tune.tuned import Tuned

NARROW, DESKTOP, PAPER = (360, 740), (1280, 900), (680, 1000)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 layers, two of them of hostile names."""
    regions = (ATTACK, LONG * 3, *(f"layer{k}" for k in range(2, 60)))
    choices = {"float": 0, "everything": 60, "default": 40, "x1": 50, "x2": 20, "implicit": None}
    latencies, sqnrs = (2.0, 1.0, 1.3, 1.1, 1.7, 9.0), (math.inf, 20.0, 35.0, 30.0, 50.0, 30.0)
    points = tuple(
        Point(Trial(name, () if n is None else tuple(k >= 60 - n for k in range(60))), Accuracy(db), ms, name != "x2")
        for (name, n), ms, db in zip(choices.items(), latencies, sqnrs, strict=True)
    )
    kept = {name: "fp16" for name, on in zip(regions, points[2].trial.int8, strict=True) if not on}
    effects = {name: (0.5 - 0.02 * k, k - 20.0) for k, name in enumerate(regions)}
    found = Tuned(
        best=points[2], reached=True, quantized=None, target=Target(33.0), points=points, failed={}, effects=effects,
        front=tuple(points[k] for k in (1, 3, 2, 4, 0)), layer_precisions=kept, device="A GPU", spent_s=5.0,
        engine=None, regions=regions,
    )  # fmt: skip
    return write_tuning(found, tmp_path_factory.mktemp("tuned"), f"Title {ATTACK}")


def opened(browser: Any, report: Path, size: tuple[int, int], **more: Any) -> Any:
    context = browser.new_context(offline=True, viewport={"width": size[0], "height": size[1]}, **more)
    page = context.new_page()
    page.set_default_timeout(5000)
    page.goto(report.as_uri())
    return page


def test_every_point_leads_to_its_section_without_scripts(browser: Any, report: Path) -> None:
    page = opened(browser, report, DESKTOP, java_script_enabled=False)
    points = page.locator("svg a")
    assert points.count() == 6
    for k in range(points.count()):
        name = points.nth(k).locator("title").text_content().split(":")[0]
        points.nth(k).locator(".dot").click()
        section = page.locator("section:target")
        assert f". {name}" in section.locator("h3").inner_text()
        box = section.locator("h3").bounding_box()
        assert 0 <= box["y"] < DESKTOP[1]
        section.get_by_text("Back to the picture").click()
        assert page.locator("h2:target").inner_text() == "Latency and accuracy"
    page.context.close()


def test_points_can_be_reached_by_the_keyboard_and_say_what_they_are(browser: Any, report: Path) -> None:
    page = opened(browser, report, DESKTOP)
    page.keyboard.press("Tab")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert "layers in INT8" in label or "implicit" in label
    page.keyboard.press("Enter")
    assert page.locator("section:target").count() == 1
    page.context.close()


def test_no_name_runs_and_nothing_is_fetched(browser: Any, report: Path) -> None:
    page = opened(browser, report, DESKTOP)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.reload()
    page.evaluate("document.querySelectorAll('th button').forEach((button) => button.click())")
    assert requests == [report.as_uri()]
    assert complaints == []
    assert page.evaluate("window.pwned") is None
    assert page.title() == page.locator("h1").inner_text() == f"Title {ATTACK}"
    page.context.close()


OUTSIDE = """() => {
    const all = [...document.querySelectorAll("body *:not(svg *)")];
    const boxes = all.filter((e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX));
    const out = all.filter((e) => e.getClientRects().length && !boxes.some((box) => box.contains(e)) &&
                                  e.getBoundingClientRect().right > innerWidth + 1);
    return [document.documentElement.scrollWidth - innerWidth, out.map((e) => e.textContent.slice(0, 40))];
}"""


@pytest.mark.parametrize(
    ("size", "media"), [(NARROW, "screen"), (DESKTOP, "screen"), (PAPER, "print")], ids=["narrow", "desktop", "paper"]
)
def test_page_is_never_wider_than_the_screen_or_the_paper(
    size: tuple[int, int], media: str, browser: Any, report: Path
) -> None:
    page = opened(browser, report, size)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.emulate_media(media=media)
    wider, outside = page.evaluate(OUTSIDE)
    assert outside == []
    assert wider <= 0
    page.context.close()


@pytest.mark.parametrize("size", [NARROW, DESKTOP], ids=["narrow", "desktop"])
def test_texts_of_the_drawing_can_be_read_and_do_not_overlap(size: tuple[int, int], browser: Any, report: Path) -> None:
    page = opened(browser, report, size)
    found = page.evaluate("""() => {
        const svg = document.querySelector("svg"), outer = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].map((text) => {
            const box = text.getBoundingClientRect(), matrix = text.getScreenCTM();
            const size = parseFloat(getComputedStyle(text).fontSize) * Math.hypot(matrix.a, matrix.b);
            return [box.left - outer.left, box.top - outer.top, box.right - outer.left, box.bottom - outer.top, size,
                    outer.width, outer.height];
        });
    }""")
    assert len(found) > 12
    for k, (left, top, right, bottom, letters, width, height) in enumerate(found):
        assert letters >= 9
        assert -1 <= left < right <= width + 1
        assert -1 <= top < bottom <= height + 1
        for other in found[:k]:
            assert min(right, other[2]) <= max(left, other[0]) or min(bottom, other[3]) <= max(top, other[1]) + 2
    page.context.close()
