"""Comparisons of anything that computes outputs: failures, metrics of the user, the runtime's part, worst samples."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab
from models import coloured, conv_net, floats, image_batches, initializers, labelled, parse, plus, quantized, run
from quantlab.comparison import Backend, ort_backend
from quantlab.comparison.backend import OrtBackend
from quantlab.errors import DeviceError
from quantlab.ort import Session

Outputs = Mapping[str, np.ndarray]


def constant(outputs: Outputs, labels: Any) -> np.ndarray:
    """A metric that needs no labels."""
    return np.ones(len(outputs["logits"]))


def test_any_callable_is_a_backend() -> None:
    result = quantlab.compare(conv_net(), {"plus": plus(0.5)}, image_batches())
    row = result.results[1]
    assert row.errors["logits"].max_abs == pytest.approx(0.5, abs=1e-5)
    assert (row.size_bytes, row.failed) == (None, "")


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (lambda y: {"logits": np.where(y > 0, np.nan, y)}, "output 'bad/logits' has NaN or infinity"),
        (lambda y: {"logits": y[:, :3]}, r"output 'bad/logits' has shape \(6, 3\), FP32 has \(6, 5\)"),
        (lambda y: {"other": y}, r"backend 'bad' gives no output 'logits' \(it gives other\)"),
        (lambda y: {}, r"backend 'bad' gives no output 'logits' \(it gives none\)"),
    ],
)
def test_backend_that_fails_is_named_and_the_others_are_kept(outputs: Callable, reason: str) -> None:
    fine = plus(0)
    bad = lambda batch: outputs(fine(batch)["logits"])  # noqa: E731
    result = quantlab.compare(conv_net(), {"bad": bad, "fine": fine}, image_batches(3))
    failed, kept = result.results[1:]
    assert re.match(f"batch 0, {reason}", failed.failed)
    assert (failed.errors, failed.top1, failed.worst_sqnr_db) == ({}, None, -math.inf)
    assert kept.worst_sqnr_db > 100
    assert result.best is kept
    assert any("'bad' failed and is out of the comparison" in w for w in result.warnings)


def test_backend_that_fails_later_keeps_no_figure_and_the_number_of_its_batch() -> None:
    fine, calls = plus(0), []

    def fails(batch: Mapping[str, np.ndarray]) -> Outputs:
        calls.append(1)
        if len(calls) == 2:
            raise DeviceError("out of memory", hint="a smaller batch")
        return fine(batch)

    result = quantlab.compare(conv_net(), {"fails": fails, "fine": fine}, image_batches(4), metric=constant)
    row = result.results[1]
    assert len(calls) == 2
    assert row.failed == "batch 1, out of memory"
    assert (row.errors, row.agreement, row.metric, row.worst, row.classes) == ({}, None, None, (), {})
    assert (result.samples, result.results[2].failed) == (24, "")


def test_backend_that_raises_anything_is_kept_with_the_reason_and_so_are_the_others() -> None:
    def broken(batch: Mapping[str, np.ndarray]) -> Outputs:
        raise ZeroDivisionError("by nought")

    result = quantlab.compare(conv_net(), {"broken": broken, "same": conv_net()}, image_batches())
    assert result.results[1].failed == "batch 0, backend 'broken' raised ZeroDivisionError: by nought"
    assert (result.results[2].name, result.results[2].failed) == ("same", "")


def test_optimizer_that_changes_the_numbers_is_told_and_not_trusted() -> None:
    model = quantized(conv_net(), image_batches()).model
    backend = ort_backend("int8", model)
    assert isinstance(backend.run, OrtBackend)
    wrong = quantized(conv_net(), image_batches()).model
    for tensor in wrong.graph.initializer:
        if tensor.name == "t_scale":  # what an optimizer that loses a scale would run
            value = 8 * initializers(wrong)["t_scale"]
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    backend.run._optimised = Session(wrong)
    result = quantlab.compare(conv_net(), {"int8": backend}, image_batches())
    assert any("optimizer changes the outputs of 'int8'" in w for w in result.warnings)
    sound = quantlab.compare(conv_net(), {"int8": model}, image_batches())
    assert result.results[1].errors == sound.results[1].errors
    assert not any("optimizer" in w for w in sound.warnings)


def test_difference_to_the_same_model_on_onnx_runtime_is_the_runtimes() -> None:
    model = quantized(conv_net(), image_batches()).model
    session = Session(model, optimize=False)
    engine = Backend("engine", lambda batch: {"logits": session.run(batch)["logits"] + np.float32(1e-3)}, twin="int8")
    result = quantlab.compare(conv_net(), {"int8": model, "engine": engine}, image_batches())
    int8, found = result.results[1:]
    assert int8.runtime_sqnr_db is None
    x = np.concatenate([batch["image"] for batch in image_batches()])
    twin = run(model, {"image": x})[0].astype(np.float64)
    expected = 10 * np.log10((twin**2).sum() / (1e-3**2 * twin.size))
    assert found.runtime_sqnr_db == pytest.approx(expected, abs=0.05)  # adding 1e-3 rounds to float32
    assert found.runtime_sqnr_db > found.worst_sqnr_db + 10


def test_worst_samples_and_classes_are_those_of_numpy() -> None:
    model = quantized(conv_net(), [{"image": coloured(8, seed=1)}]).model
    data = labelled()
    result = quantlab.compare(conv_net(), {"int8": model}, data)
    x = coloured(40)
    ref, out = (run(m, {"image": x})[0].astype(np.float64) for m in (conv_net(), model))
    db = 10 * np.log10((ref**2).sum(1) / ((ref - out) ** 2).sum(1))
    worst = result.results[1].worst
    assert [w.index for w in worst] == list(np.argsort(db)[:10])  # over batches of 16, 16 and 8
    assert max(w.index for w in worst) >= 32
    np.testing.assert_allclose([w.sqnr_db for w in worst], np.sort(db)[:10], rtol=1e-4)
    first = worst[0]
    assert (first.fp32_class, first.quantized_class) == (ref.argmax(1)[first.index], out.argmax(1)[first.index])
    assert first.label == first.fp32_class  # the labels are FP32's own
    assert (result.fp32.classes, result.fp32.worst) == ({}, ())
    classes = result.results[1].classes
    assert sum(n for n, _ in classes.values()) == 40
    for c, (count, same) in classes.items():
        rows = ref.argmax(1) == c
        assert (count, same) == (rows.sum(), (out.argmax(1)[rows] == c).sum())


def test_rows_of_detections_are_not_class_scores() -> None:
    model = parse("m (float[N,10] x) => (float[M,5] y) { y = Reshape (x, s) }", {"s": np.array([-1, 5])})
    result = quantlab.compare(model, {"same": model}, [{"x": floats(8, 10)}])
    assert (result.scores, result.results[1].agreement) == (None, None)


def test_batch_number_of_bad_data_is_the_real_one() -> None:
    data = image_batches(3)
    data[2]["image"][0, 0, 0, 0] = np.nan
    with pytest.raises(quantlab.QuantlabError, match="^batch 2, input 'image' contains NaN"):
        quantlab.compare(conv_net(), {}, data)


def test_scores_whose_batch_has_another_name_than_the_inputs_are_still_scores() -> None:
    model = parse("m (float[batch,6] x) => (float[unk_0,4] y) { y = MatMul (x, w) }", {"w": floats(6, 4)})
    result = quantlab.compare(model, {"int8": quantized(model, [{"x": floats(9, 6)}]).model}, [{"x": floats(9, 6)}])
    assert result.scores == "y"
    assert result.results[1].agreement is not None
