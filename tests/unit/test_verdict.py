"""The sentence of a report and the model it names, from results made by hand."""

from __future__ import annotations

import math

import pytest

from quantlab.comparison import AccuracyDifference, Comparison, ModelResult
from quantlab.numerics import OutputError
from quantlab.report import build_document
from quantlab.report.verdict import chosen, verdict

CHANCE = AccuracyDifference(-0.5, -1.25, 0.25, 0.2, 7, 5)
REAL = AccuracyDifference(-4.0, -6.0, -2.0, 0.001, 50, 10)


def result(name: str, sqnr_db: float = 30.0, ms: float | None = None, **known: object) -> ModelResult:
    values: dict[str, object] = {"top1": None, "top5": None, "agreement": None, "size_bytes": None, "int8": True}
    errors = {} if known.get("failed") else {"y": OutputError(1.0, sqnr_db, 0.0, 0.0)}
    facts = {} if ms is None else {"latency_p50_ms": ms}
    return ModelResult(name, errors, **(values | {"facts": facts} | known))  # type: ignore[arg-type]


def comparison(*others: ModelResult, **fp32: object) -> Comparison:
    reference = result("fp32", math.inf, int8=False, **fp32)
    return Comparison((reference, *others), 100, True, "y", "0" * 64, None, ())


def test_one_model_is_named_with_its_error() -> None:
    assert verdict(comparison(result("mse", 31.46))) == "INT8 model mse, SQNR 31.5 dB on 100 samples."
    assert "SQNR infinite (equal outputs)" in verdict(comparison(result("same", math.inf)))


def test_best_of_several_is_named_with_its_accuracy() -> None:
    rows = [result("a", 20.0, top1=0.8, difference=REAL), result("b", 30.0, top1=0.835, difference=CHANCE)]
    assert verdict(comparison(*rows, top1=0.84)) == (
        "Best of 2 INT8 models: b, top-1 83.50% against 84.00% in FP32: -0.50 points on 100 samples (95 %: -1.25 to "
        "+0.25), which can well be chance; SQNR 30.0 dB."
    )
    assert "-4.00 points" in verdict(comparison(rows[0], top1=0.84))
    assert "which is more than chance" in verdict(comparison(rows[0], top1=0.84))


def test_metric_of_the_user_is_named_where_there_are_no_labels() -> None:
    found = verdict(comparison(result("a", metric=0.25), metric=0.5))
    assert found == "INT8 model a, metric 0.25 against 0.5 in FP32 on 100 samples; SQNR 30.0 dB."


def test_nothing_sound_is_said_plainly() -> None:
    assert verdict(comparison(result("a", failed="why"))) == "Every quantized model failed."
    assert verdict(comparison()) == "There is no quantized model in this comparison."
    assert verdict(comparison(result("f", int8=False))) == "There is no quantized model in this comparison."
    for nothing in (comparison(), comparison(result("a", failed="why"))):
        assert chosen(nothing) is None


FP16 = result("fp16", 60.0, 2.0, int8=False, top1=0.8)


def test_fastest_engine_that_keeps_enough_is_shipped() -> None:
    slower, faster = result("slower", 40.0, 1.5, top1=0.8), result("faster", 20.0, 1.0, top1=0.8)
    found = comparison(FP16, slower, faster, top1=0.8)
    assert verdict(found) == "Ship faster: 1.000 ms per batch, 2.00 times as fast as fp16; SQNR 20.0 dB on 100 samples."
    assert chosen(found) is faster
    assert build_document("t", found)["comparison"]["best"] == "faster"


def test_fastest_float_engine_is_what_int8_is_held_to() -> None:
    slow = result("fp32 engine", 60.0, 8.0, int8=False, top1=0.8)
    assert "4.00 times as fast as fp16" in verdict(comparison(slow, FP16, result("i", 20.0, 0.5, top1=0.8), top1=0.8))


@pytest.mark.parametrize(("top1", "shipped"), [(0.8, True), (0.792, True), (0.7919, False)])
def test_engine_that_keeps_too_little_is_never_shipped(top1: float, shipped: bool) -> None:
    found = comparison(FP16, result("i", 20.0, 1.0, top1=top1), top1=0.8)
    assert verdict(found).startswith("Ship i") == shipped
    assert build_document("t", found)["comparison"]["models"][2]["passes"] == shipped


def test_engine_whose_metric_failed_is_never_shipped() -> None:
    found = comparison(FP16, result("i", 20.0, 1.0, metric_failed="KeyError"), metric=0.5)
    assert verdict(found).startswith("INT8 model i, ")


def test_engine_without_an_accuracy_is_the_fastest_but_not_shipped() -> None:
    found = comparison(result("fp16", 60.0, 2.0, int8=False), result("i", 20.0, 1.0))
    assert verdict(found).startswith("Fastest is i: 1.000 ms per batch, 2.00 times as fast as fp16; ")


@pytest.mark.parametrize(("ms", "faster"), [(2 / 1.0201, True), (2 / 1.0199, False), (2.0, False), (4.0, False)])
def test_two_percent_less_time_is_not_called_faster(ms: float, faster: bool) -> None:
    found = verdict(comparison(FP16, result("i", 20.0, ms, top1=0.8), top1=0.8))
    assert found.startswith("Ship i: ") == faster
    assert found.startswith(f"INT8 is not faster here: i takes {ms:.3f} ms, fp16 2.000 ms; ") == (not faster)


@pytest.mark.parametrize(
    "engine", [result("i", 20.0), result("i", 20.0, 1.0, failed="why"), result("i", 20.0, 1.0, int8=None)]
)
def test_engine_that_was_not_measured_or_is_not_known_to_be_int8_says_nothing_of_speed(engine: ModelResult) -> None:
    assert "fast" not in verdict(comparison(FP16, engine, result("m", 10.0), top1=0.8))


def test_share_that_is_kept_is_new_over_fp32() -> None:
    document = build_document("t", comparison(result("a", top1=0.6), result("b", top1=0.9), top1=0.75))
    assert [m["retained"] for m in document["comparison"]["models"]] == [1, pytest.approx(0.8), pytest.approx(1.2)]
    assert [m["passes"] for m in document["comparison"]["models"]] == [True, False, True]
    assert build_document("t", comparison(result("a")))["comparison"]["models"][1]["passes"] is None
