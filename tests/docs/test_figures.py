"""Figures that stand in two places are the same in both, and ratios are those of what stands beside them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDED = 0.001
"""Of a ratio whose two figures were rounded."""


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """First cell -> the others, of the table under a line of headings."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: others for name, *others in cells}


def test_latencies_of_the_readme_are_those_of_the_page() -> None:
    short = rows("README.md", "| model, batch | fastest other |")
    whole = rows(".docs/pages/figures.md", "| model, batch | FP16 |")
    assert list(short) == list(whole)
    for name, (fp16, implicit, modelopt, ours, ratio) in whole.items():
        known = {"FP16": fp16, "implicit": implicit, "ModelOpt": modelopt}
        times = {who: float(ms) for who, ms in known.items() if re.fullmatch(r"[\d.]+", ms)}
        fastest = min(times, key=lambda who: times[who])
        assert short[name] == [f"{times[fastest]:.4f} ({fastest})", ours, ratio]
        assert abs(float(ours) / times[fastest] - float(ratio)) < ROUNDED


def test_accuracy_of_the_readme_is_the_best_row_of_the_page() -> None:
    short = rows("README.md", "| | embedded sample |")
    whole = rows(".docs/pages/figures.md", "| | embedded sample |")
    for name, cells in short.items():
        tool = name.split(",")[0].split()[0]
        mine = [row for other, row in whole.items() if other.startswith(tool)]
        assert cells == [max((row[k] for row in mine), key=float) for k in range(3)], name
