"""PASS or FAIL, by the best measure that the data allow."""

from __future__ import annotations

import math
import re
import statistics
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
        ({"agreement": 0.97}, True, "agreement", "; likely good, but so few samples cannot show it: "),
        ({"agreement": 0.9699}, False, "agreement", "; doubtful: "),
        ({"agreement": 0.5}, False, "agreement", "; bad: "),
        ({"sqnr": math.inf}, True, "sqnr", "has SQNR inf dB, .*; safe: "),
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


@pytest.mark.parametrize(
    ("samples", "agreement", "said"),
    [
        (4, 1.0, "keeps FP32's class on 100.00% of 4 samples, .*; likely good, but so few samples cannot show it: "),
        (123, 1.0, "; likely good, but so few samples cannot show it: "),
        (125, 1.0, "; safe: "),
        (2000, 0.995, "; safe: "),
        (2000, 0.975, "; likely good, but so few samples cannot show it: "),
        (20000, 0.975, "; likely good: "),
        (4, 0.75, "; bad: "),
    ],
)
def test_few_samples_do_not_show_that_a_model_is_safe(samples: int, agreement: float, said: str) -> None:
    row = result("a", 30.0, agreement=agreement)
    text = judge(replace(comparison(row), samples=samples), row).text
    assert re.search(said, text), text
    if bound := re.search(r"top-1 loses (.*) points at most", text):  # Wilson's bound solves |p - share| = z error(p)
        p, z = 1 - float(bound[1]) / 100, statistics.NormalDist().inv_cdf(0.975)
        assert agreement - p == pytest.approx(z * math.sqrt(p * (1 - p) / samples), abs=2e-3)
