"""Metrics against formulas written another way; labels; FP32 is judged first."""

from __future__ import annotations

import math

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.comparison import ClassificationCounts, ErrorSums
from quantlab.data import ArrayBatches
from quantlab.errors import DataError, GraphError


def labelled(count: int = 60) -> tuple[ArrayBatches, np.ndarray]:
    """Images with the labels that conv_net itself gives them."""
    import onnxruntime

    x = floats(count, 3, 8, 8, seed=50)
    session = onnxruntime.InferenceSession(conv_net().SerializeToString(), providers=["CPUExecutionProvider"])
    labels = session.run(None, {"image": x})[0].argmax(1).astype(np.int64)
    return ArrayBatches({"image": x}, batch_size=16, labels=labels), labels


def int8() -> object:
    return quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches())).model


def test_error_sums_over_batches_equal_numpy_on_everything() -> None:
    ref, out = floats(40, 7), floats(40, 7) + floats(40, 7, seed=1, scale=0.1)
    sums = ErrorSums()
    for rows in (slice(0, 13), slice(13, 40)):
        sums.add(ref[rows], out[rows])
    result = sums.result()
    r, o = ref.ravel().astype(np.float64), out.ravel().astype(np.float64)
    assert math.isclose(result.cosine, r @ o / np.linalg.norm(r) / np.linalg.norm(o), rel_tol=1e-12)
    assert math.isclose(result.sqnr_db, 10 * np.log10(np.mean(r**2) / np.mean((r - o) ** 2)), rel_tol=1e-12)
    assert math.isclose(result.max_abs, np.abs(r - o).max(), rel_tol=1e-12)
    assert math.isclose(result.mean_abs, np.abs(r - o).mean(), rel_tol=1e-12)


def test_equal_outputs_have_infinite_sqnr_and_cosine_one() -> None:
    sums = ErrorSums()
    sums.add(np.ones((2, 3)), np.ones((2, 3)))
    assert sums.result().sqnr_db == math.inf
    assert sums.result().cosine == 1
    zeros = ErrorSums()
    zeros.add(np.zeros(3), np.ones(3))
    assert zeros.result().sqnr_db == -math.inf
    assert zeros.result().cosine == 0


def test_top1_top5_and_agreement_by_hand() -> None:
    reference = np.eye(6)[[0, 1, 2, 3]]
    output = np.array([[9, 1, 2, 3, 4, 5], [9, 8, 2, 3, 4, 5], [0, 1, 9, 2, 3, 4], [5, 4, 3, 0.5, 2, 1]], float)
    counts = ClassificationCounts()
    counts.add(reference, output, np.array([0, 1, 3, 3]))
    assert counts.top1 == 1 / 4
    assert counts.top5 == 3 / 4
    assert counts.agreement == 2 / 4


def test_nothing_to_compare_and_shapes_and_nan_raise() -> None:
    with pytest.raises(DataError, match="no output to compare"):
        ErrorSums().result()
    with pytest.raises(DataError, match=r"shape \(3,\), FP32 has \(2,\)"):
        ErrorSums().add(np.ones(2), np.ones(3))
    with pytest.raises(DataError, match="'logits' has NaN"):
        ErrorSums().add(np.ones(2), np.array([1, np.nan]), "logits")


def test_compare_reports_fp32_first_and_each_candidate() -> None:
    batches, _ = labelled()
    result = quantlab.compare(conv_net(), {"int8": int8()}, batches)
    assert [r.name for r in result.results] == ["fp32", "int8"]
    assert result.fp32.top1 == 1
    assert result.fp32.worst_sqnr_db == math.inf
    assert result.best is result.results[1]
    assert result.best.worst_sqnr_db > 25
    assert result.best.top1 is not None
    assert result.best.top1 == result.best.agreement > 0.9
    assert (result.samples, result.labeled, result.scores) == (60, True, "logits")


def test_labels_as_argument_equal_labels_of_the_stream() -> None:
    batches, labels = labelled()
    plain = [dict(b) for b in batches]
    assert quantlab.compare(conv_net(), {}, plain, labels).fp32.top1 == 1


def test_fixed_batch_pads_the_short_end_and_cuts_the_outputs() -> None:
    batches, _ = labelled(60)  # 16, 16, 16, 12
    fixed = quantlab.compare(conv_net(batch="16"), {}, batches)
    assert fixed.samples == 60
    assert fixed.fp32.top1 == 1


def test_wrong_labels_are_found_by_fp32_before_anything_is_judged() -> None:
    batches, labels = labelled(300)
    with pytest.raises(DataError, match="no better than guessing among 5 classes"):
        quantlab.compare(conv_net(), {}, [dict(b) for b in batches], (labels + 1) % 5)


def test_poor_fp32_is_a_warning() -> None:
    batches, labels = labelled(300)
    mixed = labels.copy()
    mixed[: int(0.6 * 300)] = (mixed[: int(0.6 * 300)] + 1) % 5
    result = quantlab.compare(conv_net(), {}, [dict(b) for b in batches], mixed)
    assert any("samples only: is the preprocess" in w for w in result.warnings)


def test_labels_of_wrong_number_or_range_raise() -> None:
    batches, labels = labelled()
    plain = [dict(b) for b in batches]
    with pytest.raises(DataError, match="labels end at sample 50"):
        quantlab.compare(conv_net(), {}, plain, labels[:50])
    with pytest.raises(DataError, match="61 labels for 60 samples"):
        quantlab.compare(conv_net(), {}, plain, np.append(labels, 0))
    with pytest.raises(DataError, match="batch 0 has label 9, the model has classes 0 to 4"):
        quantlab.compare(conv_net(), {}, plain, labels + 9 - labels)


def test_no_batches_raise() -> None:
    with pytest.raises(DataError, match="no batches to compare on"):
        quantlab.compare(conv_net(), {}, [])


def test_candidate_with_other_outputs_or_a_taken_name_raises() -> None:
    other = parse("m (float[N,3,8,8] image) => (float[N,3,8,8] y) { y = Relu (image) }")
    with pytest.raises(GraphError, match="model 'other' has inputs and outputs image, y, FP32 has image, logits"):
        quantlab.compare(conv_net(), {"other": other}, image_batches())
    with pytest.raises(GraphError, match="same name"):
        quantlab.compare(conv_net(), {"fp32": conv_net()}, image_batches())


def test_model_without_scores_is_compared_by_error_alone() -> None:
    model = parse("m (float[N,4] x) => (float[N,4,1] y) { y = Unsqueeze (x, axes) }", {"axes": np.array([2])})
    result = quantlab.compare(model, {"same": model}, [{"x": floats(3, 4)}])
    assert result.scores is None
    assert result.results[1].top1 is None
    assert result.results[1].worst_sqnr_db == math.inf
    assert result.best is None  # it is no INT8 model


def test_output_without_batch_dimension_is_compared_whole() -> None:
    model = parse("m (float[N,4] x) => (float[8,2] y) { y = Reshape (x, s) }", {"s": np.array([8, 2])})
    other = parse(
        "m (float[N,4] x) => (float[8,2] y) { t = Reshape (x, s)  y = Mul (t, f) }",
        {"s": np.array([8, 2]), "f": np.repeat(np.array([[1], [2]], np.float32), 4, axis=0)},
    )
    result = quantlab.compare(model, {"half doubled": other}, [{"x": floats(4, 4)}])
    error = result.results[1].errors["y"]
    expected = np.abs(floats(4, 4).reshape(8, 2)[4:]).max()
    assert math.isclose(error.max_abs, expected, rel_tol=1e-6)


@pytest.mark.parametrize("labels", [np.zeros((60, 1), np.int64), np.zeros(60)])
def test_labels_of_wrong_shape_or_type_raise(labels: np.ndarray) -> None:
    batches, _ = labelled()
    with pytest.raises(DataError, match=r"expected integers \(N,\)"):
        quantlab.compare(conv_net(), {}, [dict(b) for b in batches], labels)


def test_labels_of_a_loader_with_wrong_shape_raise() -> None:
    loader = quantlab.LoaderBatches([(floats(4, 3, 8, 8), np.zeros((4, 1), np.int64))], ["image"])
    with pytest.raises(DataError, match=r"batch 0 has labels of shape \(4, 1\), expected \(4,\)"):
        quantlab.compare(conv_net(), {}, loader)


def test_labels_without_class_scores_are_a_warning() -> None:
    model = parse("m (float[N,4] x) => (float[N,4,1] y) { y = Unsqueeze (x, axes) }", {"axes": np.array([2])})
    result = quantlab.compare(model, {}, [{"x": floats(3, 4)}], np.arange(3))
    assert not result.labeled
    assert any("they were not used" in w for w in result.warnings)


def test_few_samples_cannot_refuse_a_model() -> None:
    batches, labels = labelled(20)
    result = quantlab.compare(conv_net(), {}, [dict(b) for b in batches], (labels + 1) % 5)
    assert any("samples only" in w for w in result.warnings)


def test_qdq_model_as_reference_is_refused_and_float_candidate_is_a_warning() -> None:
    with pytest.raises(GraphError, match="a comparison needs the FP32 model"):
        quantlab.compare(int8(), {}, image_batches())
    result = quantlab.compare(conv_net(), {"same": conv_net(), "again": conv_net()}, image_batches(1))
    said = [w for w in result.warnings if "no Q/DQ nodes" in w]
    assert said == ["'same', 'again': it has no Q/DQ nodes: it is compared, but it is not an INT8 model"]


def test_images_that_were_skipped_are_in_the_warnings() -> None:
    class Skipping(list):
        skipped = ("a", "b")

    batches = Skipping(image_batches(1))
    assert any(w.startswith("2 images") for w in quantlab.compare(conv_net(), {}, batches).warnings)
    assert any(w.startswith("2 images") for w in quantlab.calibrate(conv_net(), batches).warnings)
