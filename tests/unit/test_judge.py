"""Is a comparison itself sound, what is kept of FP32's accuracy, and which model is the best."""

from __future__ import annotations

import math

import numpy as np
import pytest

import quantlab
from comparisons import comparison, result
from models import coloured, conv_net, parse, quantized, run
from quantlab.comparison import ClassificationCounts, ModelResult
from quantlab.comparison.judge import judge_fp32, parse_threshold, reaches, require_accuracy, scores_output
from quantlab.data import ArrayBatches
from quantlab.errors import ConfigError, DataError
from quantlab.numerics import OutputError


@pytest.mark.parametrize(
    ("shape", "found"),
    [("N,2", "y"), ("N,1", None), ("N,classes", "y"), ("N", None), ("N,5,5", None), ("3,7", "y")],
)
def test_class_scores_are_an_output_with_two_dimensions_and_two_classes(shape: str, found: str | None) -> None:
    assert scores_output(parse(f"m (float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}")) == found


def test_class_scores_are_floats_and_the_first_of_several_outputs() -> None:
    outputs = "int64[N,4] i, float[N,4] y, float[N,4] z"
    body = "{ i = Cast <to = 7> (x) y = Relu (x) z = Abs (x) }"
    assert scores_output(parse(f"m (float[N,4] x) => ({outputs}) {body}")) == "y"


def hits(right: int, total: int) -> ClassificationCounts:
    labels = np.zeros(total, np.int64)
    known = np.arange(total) < right
    return ClassificationCounts(labels, labels, known, known)


def scores(classes: int) -> object:
    return parse(f"m (float[N,{classes}] x) => (float[N,{classes}] y) {{ y = Relu (x) }}")


def guesses_reach(classes: int, total: int) -> int:
    """The most hits that count as guessing: 0.1 + 3.1 * sqrt(0.1 * 0.9 / 1000) = 12.9 % of 1000 for ten classes."""
    chance = 1 / classes
    return math.floor(total * (chance + 3.1 * math.sqrt(chance * (1 - chance) / total)))


@pytest.mark.parametrize(("classes", "total"), [(10, 1000), (2, 100), (1000, 5000)])
def test_fp32_that_is_no_better_than_guessing_is_refused(classes: int, total: int) -> None:
    bound = guesses_reach(classes, total)
    with pytest.raises(DataError, match=f"no better than guessing among {classes} classes") as caught:
        judge_fp32(hits(bound, total), scores(classes), "y")
    assert caught.value.text.startswith(f"FP32 itself is right on {bound / total:.1%} of {total} samples")
    accepted = judge_fp32(hits(bound + 1, total), scores(classes), "y")
    assert len(accepted) == (classes > 2)  # above the bound it is poor, or with two classes more than half right


def test_bound_of_guessing_is_that_of_the_binomial() -> None:
    stats = pytest.importorskip("scipy.stats")
    for classes, total in ((10, 1000), (5, 300), (100, 10000)):
        bound = guesses_reach(classes, total)
        assert 1e-4 < stats.binom.sf(bound, total, 1 / classes) < 3e-3  # the normal distribution's 1e-3, about


def test_fp32_that_is_poor_is_a_warning_and_one_that_is_good_is_none() -> None:
    (line,) = judge_fp32(hits(499, 1000), scores(10), "y")
    assert line == (
        "FP32 itself is right on 49.9% of 1000 samples only: is the preprocess the one it was trained with "
        "(quantlab check-data --try-presets)?"
    )
    assert judge_fp32(hits(500, 1000), scores(10), "y") == []
    assert judge_fp32(hits(501, 1000), scores(10), "y") == []


def test_few_samples_cannot_refuse_a_model() -> None:
    assert len(judge_fp32(hits(0, 99), scores(10), "y")) == 1
    with pytest.raises(DataError, match="no better than guessing"):
        judge_fp32(hits(0, 100), scores(10), "y")


def test_number_of_classes_that_the_model_does_not_tell_is_taken_for_a_thousand() -> None:
    model = parse("m (float[N,classes] x) => (float[N,classes] y) { y = Relu (x) }")
    with pytest.raises(DataError, match="guessing among 1000 classes"):
        judge_fp32(hits(guesses_reach(1000, 1000), 1000), model, "y")


def test_labels_in_another_order_are_found_before_anything_is_compared() -> None:
    x = coloured(300)
    labels = (run(conv_net(), {"image": x})[0].argmax(1) + 1) % 5
    with pytest.raises(DataError, match="no better than guessing among 5 classes"):
        quantlab.compare(conv_net(), {}, ArrayBatches({"image": x}, labels=labels))


@pytest.mark.parametrize(
    ("text", "share"), [("mlperf-99", 0.99), ("mlperf-99.9", 0.999), ("99", 0.99), ("97.5%", 0.975), ("100", 1.0)]
)
def test_threshold_is_a_name_or_a_percentage(text: str, share: float) -> None:
    assert parse_threshold(text) == pytest.approx(share, rel=1e-15)


@pytest.mark.parametrize("text", ["much", "0", "-1", "100.1", "", "99 %%", "nan", "mlperf-98"])
def test_threshold_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^--fail-under {text} is no threshold"):
        parse_threshold(text)


def test_share_that_is_exactly_the_threshold_reaches_it_in_spite_of_rounding() -> None:
    for total in (7, 1000, 50_000):
        for base in range(100, 1100, 100):
            for percent in (90, 97, 99):
                share = (base * percent // 100 / total) / (base / total)
                assert reaches(share, parse_threshold(f"{percent}")), (total, base, percent)
                assert not reaches(
                    ((base * percent - 100) // 100 / total) / (base / total), parse_threshold(f"{percent}")
                )


def test_metric_of_the_user_goes_before_top1() -> None:
    row = result("a", top1=0.5, metric=0.9)
    assert row.retained(result("fp32", top1=0.5, metric=1.8)) == 0.5
    assert row.retained(result("fp32", top1=0.25)) == 2
    assert result("a", top1=0.5).retained(result("fp32", top1=0.5, metric=1.8)) is None
    assert row.retained(result("fp32", top1=0.5, metric=-1.0)) is None
    assert row.retained(result("fp32", top1=0.0)) is None


def test_threshold_without_an_accuracy_is_refused() -> None:
    row = result("a", top1=0.5, metric=1.0)
    require_accuracy(comparison(row, top1=0.8), row)
    with pytest.raises(ConfigError, match="--fail-under needs an accuracy"):
        require_accuracy(comparison(result("a")), result("a"))
    for known, what in (({"top1": 0.0}, "accuracy"), ({"top1": 0.5, "metric": -2.0}, "metric")):
        with pytest.raises(ConfigError, match=f"FP32's {what} is .*: no share of it can be kept"):
            require_accuracy(comparison(row, **known), row)


def test_quantized_models_are_sorted_by_sqnr_and_the_first_is_the_best() -> None:
    rows = [
        result("low", 20.0, int8=True), result("high", 40.0, int8=True), result("unknown", 30.0, int8=None),
        result("float", 99.0, int8=False), result("broken", failed="why", int8=True),
    ]  # fmt: skip
    found = comparison(*rows)
    assert [row.name for row in found.quantized] == ["high", "unknown", "low"]
    assert found.best.name == "high"


def test_worst_output_of_a_model_decides() -> None:
    two = ModelResult("two", {n: OutputError(1.0, db, 0.0, 0.0) for n, db in (("y", 50.0), ("z", 10.0))}, *[None] * 4)
    assert two.worst_sqnr_db == 10.0
    assert comparison(two, result("one", 20.0)).best.name == "one"
    assert result("broken", failed="why").worst_sqnr_db == -math.inf


@pytest.mark.parametrize("rows", [[], [result("float", int8=False)], [result("broken", failed="why", int8=True)]])
def test_comparison_without_a_sound_model_has_no_best(rows: list[ModelResult]) -> None:
    assert comparison(*rows).quantized == ()
    with pytest.raises(DataError, match="no quantized model of this comparison is sound"):
        _ = comparison(*rows).best


def test_best_is_not_chosen_by_accuracy_on_the_test_set() -> None:
    x = coloured(40)
    fine = quantized(conv_net(), [{"image": coloured(32, seed=1)}]).model
    lucky = lambda batch: {"logits": 1.3 * run(conv_net(), batch)[0]}  # noqa: E731
    labels = run(conv_net(), {"image": x})[0].argmax(1)
    found = quantlab.compare(conv_net(), {"lucky": lucky, "fine": fine}, ArrayBatches({"image": x}, labels=labels))
    assert found.results[1].top1 == 1 >= found.results[2].top1
    assert found.best.name == "fine"
