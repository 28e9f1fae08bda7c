"""PASS or FAIL, by the best measure that the data allow."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from comparisons import comparison, result
from quantlab.numerics import OutputError
from quantlab.report.judgement import judge


@pytest.mark.parametrize(
    ("values", "passed", "measure", "said"),
    [
        ({"top1": 0.792}, True, "accuracy", "keeps 99.00% of FP32's accuracy, the bar is 99%"),
        ({"top1": 0.7919, "agreement": 1.0}, False, "accuracy", "keeps 98.99%"),
        ({"agreement": 0.995}, True, "agreement", "99.50% of the samples keep FP32's class, .*; safe: "),
        ({"agreement": 0.97}, True, "agreement", "; likely good: "),
        ({"agreement": 0.9699}, False, "agreement", "; doubtful: "),
        ({"agreement": 0.5}, False, "agreement", "; bad: "),
        ({"sqnr": math.inf}, True, "sqnr", "SQNR inf dB, .*; safe: "),
        ({"sqnr": 20.0}, True, "sqnr", "the bar without classes is 20 dB; likely good: "),
        ({"sqnr": 19.9}, False, "sqnr", "; doubtful: "),
        ({"sqnr": -3.0}, False, "sqnr", "; bad: "),
    ],
)
def test_judgement_is_by_the_best_measure_there_is(values: dict, passed: bool, measure: str, said: str) -> None:
    row = result("a", values.pop("sqnr", 30.0), **values)
    found = judge(comparison(row, top1=0.8) if "top1" in values else comparison(row), row)
    assert (found.passed, found.measure) == (passed, measure)
    assert re.search(said, found.text), found.text


@pytest.mark.parametrize(
    ("agreement", "boxes_db", "passed", "measure"),
    [
        (1.0, 31.0, True, "agreement"),
        (1.0, 25.0, True, "sqnr"),
        (1.0, 5.0, False, "sqnr"),
        (0.9, 15.0, False, "agreement"),
    ],
)
def test_output_beside_the_class_scores_counts_where_it_is_worse_off(
    agreement: float, boxes_db: float, passed: bool, measure: str
) -> None:
    row = result("a", 5.0, agreement=agreement)  # of the scores themselves, whose classes count
    row = replace(row, errors=row.errors | {"boxes": OutputError(1.0, boxes_db, 0.0, 0.0)})
    found = judge(comparison(row), row)
    assert (found.passed, found.measure) == (passed, measure)
    if measure == "sqnr":
        assert found.value == boxes_db and "beside the class scores ('y') has SQNR" in found.text


def test_bar_is_the_users() -> None:
    row = result("a", top1=0.72)
    assert judge(comparison(row, top1=0.8), row, 0.9).passed
    assert not judge(comparison(row, top1=0.8), row, 0.91).passed
