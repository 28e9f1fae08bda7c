"""Classes and looks in a report: what is counted, what is cut, what is told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import quantlab
from models import parse
from quantlab.comparison.classes import class_changes, right_by_class
from quantlab.comparison.metrics import ClassificationCounts
from quantlab.report.class_rows import MATRIX, change_matrix


def test_more_classes_than_fit_are_added_up_as_others() -> None:
    pairs = [(k, k + 1) for k in range(0, 4 * MATRIX, 2)]
    before, after = (np.array(column) for column in zip(*pairs, strict=True))
    counts = ClassificationCounts(before, after)
    changes = [
        {"fp32_class": c.fp32_class, "quantized_class": c.quantized_class, "samples": c.samples}
        for c in class_changes(counts, None)
    ]
    matrix = change_matrix({"comparison": {"class_names": {}}}, {"changes": changes})
    assert matrix is not None
    assert len(matrix.names) == len(matrix.counts) == MATRIX + 1
    assert matrix.is_cut
    assert sum(map(sum, matrix.counts)) == len(pairs)


def test_class_that_is_called_others_is_not_all_the_rest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype(np.float32)
    names = {0: "cat", 1: "dog", 2: "cow", 3: "others"}
    data = quantlab.data.ArrayBatches({"x": x}, batch_size=8, class_names=names)
    fp32 = parse("m (float[N,4] x) => (float[N,4] y) { y = Identity (x) }")
    coarse = {"s": np.asarray(np.float32(1)), "z": np.asarray(np.int8(0))}
    text = "m (float[N,4] x) => (float[N,4] y) { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"
    qdq = parse(text, coarse)
    page = quantlab.report.write_report(quantlab.compare(fp32, {"q": qdq}, data), tmp_path).html.read_text("utf-8")
    assert "others" in page
    assert "are all the rest together" not in page


def test_samples_without_a_label_count_for_no_class() -> None:
    before, after = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
    labels = np.array([0, -1, 1, 1])
    of = labels >= 0
    fp32 = ClassificationCounts(before, before, before[of] == labels[of], before[of] == labels[of])
    model = ClassificationCounts(before, after, after[of] == labels[of], after[of] == labels[of])
    found = right_by_class(fp32, model, labels)
    assert {c: (a.samples, a.right, a.lost, a.won) for c, a in found.items()} == {0: (1, 1, 0, 0), 1: (2, 1, 1, 0)}
    changes = {(c.fp32_class, c.quantized_class): (c.samples, c.lost, c.won) for c in class_changes(model, labels)}
    assert changes == {(0, 1): (1, 0, 0), (1, 0): (1, 1, 0)}


def test_looks_are_fixed_by_the_algorithm_and_never_alike() -> None:
    from quantlab.report.plots.style import ALGORITHMS, looks_of

    assert len(set(ALGORITHMS.values())) == len(ALGORITHMS)
    names = ["fp32", "ort:qdq:mse", "trt:qdq:mse", "mse+bias", "percentile-99.99", "percentile-99.9", "mine", "other"]
    looks = looks_of(names)
    assert len(set(looks.values())) == len(names)
    assert {looks[name].color for name in names[1:4]} == {ALGORITHMS["mse"].color}
    assert looks_of(["percentile-99.9"])["percentile-99.9"] == looks["percentile-99.9"] == ALGORITHMS["percentile-99.9"]
    assert looks["percentile-99.99"] == ALGORITHMS["percentile-99.99"]


def test_dead_and_faint_channels_are_apart() -> None:
    weights = np.ones((6, 4), np.float32) * np.linspace(0.5, 1, 4, dtype=np.float32)
    weights[1], weights[2] = 0, 1e-7
    from quantlab.numerics import PerChannel, amax_of, dequantize, quantize, scale_from_amax
    from quantlab.qdq import WeightSite, weight_error
    from quantlab.report.layers import weight_document

    scale = scale_from_amax(amax_of(weights, PerChannel(0)))
    kept = dequantize(quantize(weights, scale, 0), scale, 0)
    found = weight_document(weight_error(WeightSite("n", 1, "w", 0), weights, kept, scale))
    assert (found["channels"], found["dead"], found["faint"]) == (6, 1, 1)
    assert found["scale"]["min"] == found["scale"]["max"] == pytest.approx(1 / 127)
