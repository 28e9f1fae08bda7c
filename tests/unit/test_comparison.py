"""Metrics against formulas written another way, labels, padding, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
import pytest

import quantlab
from models import coloured, conv_net, floats, image_batches, parse, run
from quantlab.calibration import CalibrationTable
from quantlab.comparison import ClassificationCounts, classify
from quantlab.data import ArrayBatches
from quantlab.errors import ConfigError, DataError, GraphError
from quantlab.numerics import ErrorSums, error_sums


def labelled(count: int = 60) -> tuple[ArrayBatches, np.ndarray]:
    """Images with the labels that conv_net itself gives them."""
    x = coloured(count)
    labels = run(conv_net(), {"image": x})[0].argmax(1).astype(np.int64)
    return ArrayBatches({"image": x}, batch_size=16, labels=labels), labels


def int8(batch: str = "N") -> onnx.ModelProto:
    table = quantlab.calibrate(conv_net(), [{"image": coloured(32, seed=1)}], "minmax")
    return quantlab.quantize(conv_net(batch), CalibrationTable(dict(table.amax))).model


def test_error_sums_over_batches_equal_numpy_on_everything() -> None:
    ref, out = floats(40, 7), floats(40, 7) + floats(40, 7, seed=1, scale=0.1)
    out[3, 2] += 2  # the largest error is in the first part
    parts = [error_sums(ref[rows], out[rows]) for rows in (slice(0, 13), slice(13, 38), slice(38, 40))]
    result = sum(parts, ErrorSums()).result()
    r, o = ref.ravel().astype(np.float64), out.ravel().astype(np.float64)
    assert math.isclose(result.cosine, r @ o / np.linalg.norm(r) / np.linalg.norm(o), rel_tol=1e-12)
    assert math.isclose(result.sqnr_db, 10 * np.log10(np.mean(r**2) / np.mean((r - o) ** 2)), rel_tol=1e-12)
    assert math.isclose(result.max_abs, np.abs(r - o).max(), rel_tol=1e-12)
    assert math.isclose(result.mean_abs, np.abs(r - o).mean(), rel_tol=1e-12)


def test_errors_of_a_comparison_are_those_of_all_batches_at_once() -> None:
    model, batches = int8(), image_batches(3)
    batches[2] = {"image": batches[2]["image"][:2]}  # batches of different sizes
    batches[0]["image"][1] *= 4  # the largest error is in the first one
    x = np.concatenate([batch["image"] for batch in batches])
    ref, out = (run(m, {"image": x})[0].astype(np.float64) for m in (conv_net(), model))
    error = quantlab.compare(conv_net(), {"int8": model}, batches).results[1].errors["logits"]
    # ONNX Runtime computes a batch of another size with other kernels: float32 rounding, far below the error of INT8
    assert math.isclose(error.max_abs, np.abs(ref - out).max(), rel_tol=1e-3)
    assert math.isclose(error.mean_abs, np.abs(ref - out).mean(), rel_tol=1e-3)
    assert math.isclose(error.sqnr_db, 10 * np.log10((ref**2).sum() / ((ref - out) ** 2).sum()), abs_tol=0.01)
    assert math.isclose(error.cosine, (ref * out).sum() / np.sqrt((ref**2).sum() * (out**2).sum()), rel_tol=1e-6)


def test_equal_outputs_have_infinite_sqnr_and_cosine_one() -> None:
    equal = error_sums(np.ones((2, 3)), np.ones((2, 3))).result()
    assert (equal.sqnr_db, equal.cosine, equal.max_abs, equal.mean_abs) == (math.inf, 1, 0, 0)
    from_zeros = error_sums(np.zeros(3), np.ones(3)).result()
    assert (from_zeros.sqnr_db, from_zeros.cosine, from_zeros.max_abs, from_zeros.mean_abs) == (-math.inf, 0, 1, 1)


def test_top1_top5_and_agreement_by_hand() -> None:
    reference = np.eye(6)[[0, 1, 2, 3]]
    output = np.array([[9, 1, 2, 3, 4, 5], [9, 8, 2, 3, 4, 5], [0, 1, 9, 2, 3, 4], [5, 4, 3, 0.5, 2, 1]], float)
    labels = np.array([0, 1, 3, 3])  # first, second, fourth and sixth of the output's classes
    counts = classify(reference, output, labels)
    assert counts.top1 == 1 / 4
    assert counts.top5 == 3 / 4
    assert counts.agreement == 2 / 4
    assert (counts.samples, counts.labeled) == (4, 4)


@pytest.mark.parametrize(("place", "among"), [(1, True), (5, True), (6, False)])
def test_top5_takes_five_classes(place: int, among: bool) -> None:
    output = np.array([[7.0, 6, 5, 4, 3, 2, 1]])
    assert classify(output, output, np.array([place - 1])).top5 == among


def test_fewer_than_five_classes_are_all_among_the_five() -> None:
    counts = classify(np.array([[1.0, 2, 3]]), np.array([[1.0, 2, 3]]), np.array([0]))
    assert (counts.top1, counts.top5) == (0, 1)


def test_counts_of_parts_are_joined_in_order() -> None:
    scores = np.eye(4)
    parts = [classify(scores[[1]], scores[[2]], None), classify(scores[[3, 0]], scores[[3, 1]], np.array([3, 1]))]
    joined = ClassificationCounts.joined(parts)
    assert [joined.pair(k) for k in range(4)] == [(1, 2), (3, 3), (0, 1), (None, None)]
    assert (joined.agreement, joined.top1, joined.labeled, joined.samples) == (1 / 3, 1, 2, 3)
    assert joined.by_class() == {0: (1, 0), 1: (1, 0), 3: (1, 1)}
    assert ClassificationCounts.joined([]).top1 is None


def test_nothing_to_compare_and_shapes_and_nan_raise() -> None:
    with pytest.raises(DataError, match="no output to compare"):
        ErrorSums().result()
    with pytest.raises(DataError, match=r"shape \(3,\), FP32 has \(2,\)"):
        error_sums(np.ones(2), np.ones(3))
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="^output 'logits' has NaN or infinity"):
            error_sums(np.ones(2), np.array([1, bad]), "logits")
        with pytest.raises(DataError, match="the reference of output 'logits' has NaN or infinity"):
            error_sums(np.array([bad, 1]), np.ones(2), "logits")
    assert math.isnan(error_sums(np.ones(2), np.array([1, np.nan]), finite=False).sqnr_db)


def test_fp32_that_computes_nan_is_refused_with_its_batch() -> None:
    model = parse("m (float[N,4] x) => (float[N,4] y) { y = Log (x) }")
    data = [{"x": np.ones((2, 4), np.float32)}, {"x": -np.ones((2, 4), np.float32)}]
    with pytest.raises(DataError, match="^batch 1, output 'fp32/y' has NaN or infinity"):
        quantlab.compare(model, {}, data)


def test_compare_reports_fp32_first_and_each_candidate() -> None:
    batches, _ = labelled()
    result = quantlab.compare(conv_net(), {"int8": int8()}, batches)
    assert [r.name for r in result.results] == ["fp32", "int8"]
    assert result.fp32.top1 == 1
    assert result.fp32.worst_sqnr_db == math.inf
    assert result.best is result.results[1]
    assert result.best.worst_sqnr_db > 25
    assert result.best.top1 is not None
    assert result.best.top1 == result.best.agreement > 0.9  # the labels are FP32's
    assert (result.samples, result.labeled, result.scores) == (60, True, "logits")


def test_accuracy_is_by_labels_and_agreement_by_fp32() -> None:
    batches, labels = labelled()
    wrong = labels.copy()
    wrong[::3] = (wrong[::3] + 1) % 5
    fp32, same = quantlab.compare(conv_net(), {"same": conv_net()}, [dict(b) for b in batches], wrong).results
    assert fp32.top1 == same.top1 == 40 / 60
    assert fp32.agreement == same.agreement == 1
    assert fp32.top5 == same.top5 == 1  # there are five classes


def test_labels_as_argument_equal_labels_of_the_stream() -> None:
    batches, labels = labelled()
    plain = [dict(b) for b in batches]
    assert quantlab.compare(conv_net(), {}, plain, labels).fp32.top1 == 1


@pytest.mark.parametrize("left", [1, 12, 15])
def test_fixed_batch_pads_the_short_end_and_cuts_the_outputs(left: int) -> None:
    batches, _ = labelled(32 + left)
    fixed = quantlab.compare(conv_net(batch="16"), {"int8": int8(batch="16")}, batches)
    assert fixed.samples == 32 + left
    assert (fixed.fp32.top1, fixed.partial) == (1, False)
    free = quantlab.compare(conv_net(), {"int8": int8()}, batches)
    ours, theirs = fixed.results[1], free.results[1]
    assert (ours.top1, ours.agreement) == (theirs.top1, theirs.agreement)
    assert [w.index for w in ours.worst] == [w.index for w in theirs.worst]
    # no sample of the padding is in the error; kernels for other batch sizes round differently
    assert math.isclose(ours.errors["logits"].mean_abs, theirs.errors["logits"].mean_abs, rel_tol=1e-3)


def test_labels_of_wrong_number_or_range_raise() -> None:
    batches, labels = labelled()
    plain = [dict(b) for b in batches]
    with pytest.raises(DataError, match="labels end at sample 50"):
        quantlab.compare(conv_net(), {}, plain, labels[:50])
    with pytest.raises(DataError, match="61 labels for 60 samples"):
        quantlab.compare(conv_net(), {}, plain, np.append(labels, 0))
    with pytest.raises(DataError, match="^batch 0, it has label 9, the model has classes 0 to 4"):
        quantlab.compare(conv_net(), {}, plain, labels + 9 - labels)
    with pytest.raises(DataError, match="^batch 1, it has label 5, the model has classes 0 to 4"):
        quantlab.compare(conv_net(), {}, plain, np.where(np.arange(60) == 20, 5, labels))
    with pytest.raises(DataError, match="^batch 3, it has label -1"):
        quantlab.compare(conv_net(), {}, plain, np.append(labels[:-1], -1))


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
    with pytest.raises(DataError, match="no quantized model of this comparison is sound"):
        _ = result.best  # it is no INT8 model


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
    with pytest.raises((ConfigError, DataError), match=r"expected integers \(N,\)|expected ndarray of int"):
        quantlab.compare(conv_net(), {}, [dict(b) for b in batches], labels)


def test_labels_of_a_loader_with_wrong_shape_raise() -> None:
    loader = quantlab.LoaderBatches([(floats(4, 3, 8, 8), np.zeros((4, 1), np.int64))], ["image"])
    with pytest.raises(DataError, match=r"^batch 0, its labels have shape \(4, 1\), expected \(4,\)"):
        quantlab.compare(conv_net(), {}, loader)


def test_labels_without_class_scores_are_a_warning() -> None:
    model = parse("m (float[N,4] x) => (float[N,4,1] y) { y = Unsqueeze (x, axes) }", {"axes": np.array([2])})
    result = quantlab.compare(model, {}, [{"x": floats(3, 4)}], np.arange(3))
    assert not result.labeled
    assert any("they were not used" in w for w in result.warnings)


def test_qdq_model_as_reference_is_refused_and_float_candidate_is_a_warning() -> None:
    with pytest.raises(GraphError, match="a comparison needs the FP32 model"):
        quantlab.compare(int8(), {}, image_batches())
    result = quantlab.compare(conv_net(), {"same": conv_net(), "again": conv_net()}, image_batches(1))
    found = [w for w in result.warnings if "no Q/DQ nodes" in w]
    assert found == ["'same', 'again': it has no Q/DQ nodes: it is compared, but it is not an INT8 model"]


def test_images_that_were_skipped_are_in_the_warnings() -> None:
    class Skipping(list):
        skipped = ("a", "b")

    batches = Skipping(image_batches(1))
    assert any(w.startswith("2 images") for w in quantlab.compare(conv_net(), {}, batches).warnings)
    assert any(w.startswith("2 images") for w in quantlab.calibrate(conv_net(), batches).warnings)


def test_class_numbers_among_the_outputs_have_no_error() -> None:
    net = conv_net()
    with_class = onnx.ModelProto.FromString(net.SerializeToString())
    with_class.graph.node.append(onnx.helper.make_node("ArgMax", ["logits"], ["class"], axis=1, keepdims=0))
    with_class.graph.output.append(onnx.helper.make_tensor_value_info("class", onnx.TensorProto.INT64, ["N"]))
    batches = image_batches()

    def turned(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        logits, found = run(with_class, dict(batch))
        return {"logits": logits, "class": found[::-1]}

    result = quantlab.compare(with_class, {"turned": turned}, batches).results[1]
    assert list(result.errors) == ["logits"] and result.worst_sqnr_db == math.inf
    bare = quantlab.compare(with_class, {"bare": lambda batch: {"logits": run(net, dict(batch))[0]}}, batches)
    assert "gives no output 'class'" in bare.results[1].failed
    only_class = onnx.ModelProto.FromString(with_class.SerializeToString())
    del only_class.graph.output[0]
    only = quantlab.compare(only_class, {"turned": turned}, batches)
    assert list(only.results[1].errors) == ["class"]


TWO = """m (float[N,4] x) => (float[N,4] y, int64[%s] k) {
    a = QuantizeLinear (x, s, z)
    y = DequantizeLinear (a, s, z)
    k = %s
}"""


@pytest.mark.parametrize(
    ("shape", "made", "share"),
    [
        ("N", "ArgMax <axis = 1, keepdims = 0> (x)", None),
        ("N", "ArgMax <axis = 1, keepdims = 0> (y)", "12.50%"),
        ("N,1", "ArgMax <axis = 1, keepdims = 1> (x)", "100.00%"),
    ],
)
def test_integers_that_are_not_fp32s_are_told(shape: str, made: str, share: str | None) -> None:
    fp32 = parse("""m (float[N,4] x) => (float[N,4] y, int64[N] k) {
        y = Identity (x)
        k = ArgMax <axis = 1, keepdims = 0> (x)
    }""")
    scale = {"s": np.asarray(np.float32(1)), "z": np.asarray(np.int8(0))}
    x = np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 4] * 3
    x[:2] = [[2.1, 2.2, 0, 0], [0, 2.1, 2.2, 0]]  # of which rounding leaves the first
    result = quantlab.compare(fp32, {"q": parse(TWO % (shape, made), scale)}, [{"x": x[:8]}, {"x": x[8:]}])
    assert list(result.results[1].errors) == ["y"]
    told = [line for line in result.warnings if "output 'k'" in line]
    wanted = f"'q': {share} of the values of output 'k' are not FP32's; the output has no SQNR, and is not judged"
    assert told == ([wanted] if share else [])
