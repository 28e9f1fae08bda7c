"""The page in a real browser: nothing is fetched, tables sort, every text can be read on every screen and on paper."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from hostile_report import ATTACK, document
from quantlab.report import write_document

NARROW, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
PAPER = {"width": 680, "height": 1000}
"""A4 or Letter in portrait without the browser's default margins, in CSS pixels, less a little."""
READABLE = 4.5
"""Contrast that WCAG 2 asks of text (success criterion 1.4.3)."""


@pytest.fixture(scope="module")
def report(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made only where there is a browser."""
    return write_document(document(), tmp_path_factory.mktemp("page")).html


class Seen(NamedTuple):
    """A page, and what it did beside showing itself."""

    page: Any
    complaints: list[str]
    requests: list[str]


Open = Callable[..., Seen]


def watched(page: Any) -> Seen:
    """A page whose complaints and requests are noted."""
    seen = Seen(page, [], [])
    page.set_default_timeout(5000)
    page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    return seen


@pytest.fixture(scope="module")
def seen(browser: Any) -> Iterator[Seen]:
    """The page that all tests share; each of them loads it anew."""
    context = browser.new_context(offline=True)
    yield watched(context.new_page())
    context.close()


@pytest.fixture
def show(seen: Seen, report: Path) -> Open:
    """Loads the report on a screen of the given size and colours, without a network."""

    def opened(viewport: Mapping[str, int] = DESKTOP, color_scheme: str = "light") -> Seen:
        seen.page.set_viewport_size(viewport)
        seen.page.emulate_media(media="screen", color_scheme=color_scheme)
        seen.complaints.clear()
        seen.requests.clear()
        seen.page.goto(report.as_uri())
        return seen

    return opened


def open_details(page: Any) -> None:
    """By a click on each, as a reader does."""
    for summary in page.locator("details > summary").all():
        summary.click()


def test_page_fetches_nothing_complains_of_nothing_and_runs_no_name(show: Open, report: Path) -> None:
    page, complaints, requests = show()
    open_details(page)
    page.locator("th button").first.click()
    page.evaluate("document.querySelectorAll('th button').forEach((button) => button.click())")
    assert complaints == []
    assert requests == [report.as_uri()]
    assert page.evaluate("window.pwned") is None
    assert page.locator("iframe, link, object, embed").count() == 0
    pictures = page.locator("img").evaluate_all("all => all.map(i => [i.src.slice(0, 23), i.complete, i.naturalWidth])")
    assert pictures
    assert all(picture == ["data:image/jpeg;base64,", True, 9] for picture in pictures)
    assert page.locator("script").count() == 1
    assert page.title() == page.locator("h1").inner_text() == f"Title {ATTACK}"
    for part in ("td", "dd", ".warnings li", "svg text"):
        assert page.locator(part, has_text=re.compile("pwned=1</script>")).count() > 0, part


def test_every_plot_is_drawn_and_has_a_label(show: Open) -> None:
    plots = show().page.locator("svg")
    labels = [plot.get_attribute("aria-label") for plot in plots.all()]
    assert len(labels) == 8  # quality, trade-off, latency, error trace, weights, classes, amax, histograms
    assert len(set(labels)) == 8
    for plot in plots.all():
        assert plot.get_attribute("role") == "img"
        assert plot.get_attribute("aria-label")
        box = plot.bounding_box()
        assert box["width"] > 300
        assert box["height"] > 50


def test_no_text_of_a_plot_is_cut_off(show: Open) -> None:
    cut = show().page.evaluate("""() => [...document.querySelectorAll("svg text")].filter((text) => {
        const inner = text.getBoundingClientRect(), outer = text.closest("svg").getBoundingClientRect();
        return inner.left < outer.left - 10 || inner.right > outer.right + 10;
    }).map((text) => text.textContent)""")
    assert cut == []  # 10 pixels: the browser's font is not matplotlib's


def test_headings_tables_and_language_are_there_for_a_screen_reader(show: Open) -> None:
    page = show().page
    assert page.locator("html").get_attribute("lang") == "en"
    levels = page.locator("h1, h2, h3, h4, h5, h6").evaluate_all("all => all.map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels[1] == 2
    assert all(step <= 1 for step in np.diff(levels[1:]))  # no level is left out
    tables = page.locator("table")
    assert tables.count() == 12
    for table in tables.all():
        assert table.locator("thead th").count() == table.locator("thead th[scope=col]").count() > 0
        # every row has a cell under every heading
        widths = table.locator("tr").evaluate_all("rows => rows.map(row => row.cells.length)")
        assert len(set(widths)) == 1


SORTED = """table => {
    const headings = [...table.tHead.rows[0].cells];
    const rows = () => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
    const click = (heading) => {
        heading.querySelector("button").click();
        return { sorts: headings.map((th) => th.getAttribute("aria-sort")), rows: rows() };
    };
    const is_text = [...table.tBodies[0].rows[0].cells].map((cell) => cell.classList.contains("text"));
    return { before: rows(), is_text, after: headings.map((heading) => [click(heading), click(heading)]) };
}"""
"""The rows of a table, and those after one and two clicks on each heading."""


def number(text: str) -> float | None:
    """The number that a cell starts with, None if it has none."""
    if "∞" in text:
        return -math.inf if text.startswith("-") else math.inf
    found = re.match(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", text.replace(",", ""))
    return float(found[0]) if found else None


def test_every_column_of_every_table_sorts_up_and_then_down(show: Open) -> None:
    page = show().page
    open_details(page)
    tables = page.locator("table.sortable")
    assert tables.count() == 11
    kinds = set()
    for table in tables.all():
        found = table.evaluate(SORTED)
        for column, clicks in enumerate(found["after"]):
            for direction, shown in zip(("ascending", "descending"), clicks, strict=True):
                assert shown["sorts"] == [direction if k == column else None for k in range(len(clicks[0]["sorts"]))]
                assert sorted(shown["rows"]) == sorted(found["before"])  # every row is still there, whole
                if found["is_text"][column]:
                    continue
                values = [number(row[column]) for row in shown["rows"]]
                known = [value for value in values if value is not None]
                assert values[len(known) :] == [None] * (len(values) - len(known)), "dashes come last"
                assert known == sorted(known, reverse=direction == "descending"), shown
                kinds |= {"dash"} if len(known) < len(values) else set()
                kinds |= {value for value in known if math.isinf(value)}
    assert {"dash", math.inf} <= kinds  # the page has both


def test_names_sort_as_text_and_their_numbers_as_numbers(show: Open) -> None:
    page = show().page
    open_details(page)
    table = page.locator("table.sortable", has=page.locator("th", has_text=re.compile("^layer$")))
    table.locator("th button").first.click()
    names = table.locator("tbody td:first-child").all_inner_texts()
    assert names.index("conv9/Conv") < names.index("conv10/Conv") < names.index("logits/Gemm")


def test_tables_sort_by_keyboard_and_show_the_focus(show: Open) -> None:
    page = show().page
    heading = page.locator("th").first
    focused = "document.activeElement.closest('th') === document.querySelector('th')"
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate(focused):
            break
    assert page.evaluate(focused)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "top-1"


OVERFLOW = """() => {
    const wide = (element) => element.scrollWidth > element.clientWidth + 1;
    const name = (element) => `${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 40)}`;
    const root = document.documentElement;
    const boxes = [...document.querySelectorAll("body *:not(svg *)")].filter(
        (e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX));
    const out = [...document.querySelectorAll("body *:not(svg *)")].filter(
        (e) => e.getClientRects().length && !boxes.some((box) => box.contains(e)) &&
               e.getBoundingClientRect().right > innerWidth + 1);
    return { page: root.scrollWidth - innerWidth, outside: out.map(name),
             scrolled: boxes.filter(wide).map(name) };
}"""


@pytest.mark.parametrize("viewport", [NARROW, DESKTOP], ids=["narrow", "desktop"])
def test_page_is_never_wider_than_the_screen(viewport: dict[str, int], show: Open) -> None:
    page = show(viewport).page
    open_details(page)
    found = page.evaluate(OVERFLOW)
    assert found["page"] <= 0
    assert found["outside"] == []


def test_wide_tables_scroll_on_a_narrow_screen_to_their_last_column(show: Open) -> None:
    page = show(NARROW).page
    page.locator("th", has_text="KiB").first.scroll_into_view_if_needed()
    box = page.locator("th", has_text="KiB").first.bounding_box()
    assert 0 <= box["x"] <= box["x"] + box["width"] <= NARROW["width"]


def test_text_of_the_plots_is_large_enough_on_a_narrow_screen(show: Open) -> None:
    sizes = show(NARROW).page.evaluate("""() => [...document.querySelectorAll("svg text")].map((text) =>
        parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b))""")
    assert sizes
    assert min(sizes) >= 7  # CSS pixels; the smallest labels are two thirds of the normal ones


def test_nothing_is_cut_off_on_paper(show: Open) -> None:
    page = show(PAPER).page
    open_details(page)
    page.emulate_media(media="print")
    found = page.evaluate(OVERFLOW)
    assert found == {"page": found["page"], "outside": [], "scrolled": []}
    assert found["page"] <= 0


CONTRAST = """(selector) => {
    const parse = (text) => { const v = text.match(/[0-9.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
    const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3])).concat(1);
    const background = (element) => {
        const own = parse(getComputedStyle(element).backgroundColor);
        const parent = element.parentElement;
        return own[3] === 1 ? own : over(own, parent ? background(parent) : [255, 255, 255, 1]);
    };
    const luminance = ([r, g, b]) => [[r, 0.2126], [g, 0.7152], [b, 0.0722]].reduce((sum, [value, weight]) => {
        const c = value / 255;
        return sum + weight * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    }, 0);
    return [...document.querySelectorAll(selector)].map((element) => {
        const style = getComputedStyle(element), below = background(element);
        const ink = over(parse(element.closest("svg") ? style.fill : style.color), below);
        const [low, high] = [luminance(ink), luminance(below)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    });
}"""
TEXTS = (
    "body", "h1", "h2", ".verdict", "thead th", "thead button", "tbody td", "caption", ".note", "figcaption",
    ".warnings li", ".failed", "summary", "dt", "dd", "svg text",
)  # fmt: skip


@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")])
def test_every_text_can_be_read_in_both_colour_schemes(scheme: str, media: str, show: Open) -> None:
    page = show(color_scheme=scheme).page
    open_details(page)
    page.emulate_media(media=media)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    # paper is white, whatever the screen was
    assert (background == "rgb(255, 255, 255)") == (scheme == "light" or media == "print")
    for selector in TEXTS:
        contrasts = page.evaluate(CONTRAST, selector)
        assert contrasts, selector
        assert min(contrasts) >= READABLE, selector


def test_details_are_open_on_paper_and_closed_again(show: Open) -> None:
    page = show().page
    hidden = "[...document.querySelectorAll('details')].filter(d => !d.lastElementChild.checkVisibility()).length"
    count = page.locator("details").count()
    assert page.evaluate(hidden) == count > 0
    page.emulate_media(media="print")  # by the style alone, as where no script runs
    assert page.evaluate(hidden) == 0
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details[open]").count() == count
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_point_of_a_plot_leads_to_its_row(show: Open) -> None:
    page = show().page
    point = page.locator("svg[aria-label^='How the error grows'] a[href^='#layer-']").first
    row = point.get_attribute("href")
    point.dispatch_event("click")
    assert page.evaluate("location.hash") == row
    assert page.evaluate(f"document.querySelector('{row}').matches(':target')")
    box, inner = page.locator(row).bounding_box(), page.evaluate("innerHeight")
    assert 0 <= box["y"] <= inner  # it was scrolled to


def test_page_without_scripts_shows_every_table(browser: Any, report: Path) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    page, complaints, _ = watched(context.new_page())
    page.goto(report.as_uri())
    assert complaints == []
    open_details(page)
    assert page.locator("th button").count() == 0
    assert not page.get_by_text("Click a heading to sort").is_visible()
    for table in page.locator("table").all():
        assert table.is_visible()
        assert table.locator("tbody tr").first.inner_text().strip()
    context.close()
