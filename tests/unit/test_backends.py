"""Comparisons of anything that computes outputs: failures, interruptions, metrics of the user's own, the judge."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches, initializers, parse, quantized, run
from quantlab.comparison import Backend, ort_backend
from quantlab.comparison.backend import OrtBackend
from quantlab.comparison.statistics import mean_difference
from quantlab.data import ArrayBatches
from quantlab.ort import Session

Outputs = Mapping[str, np.ndarray]


def plus(amount: float) -> Callable[[Mapping[str, np.ndarray]], Outputs]:
    """FP32 with a constant added to the logits."""
    session = Session(conv_net())
    return lambda batch: {"logits": session.run(batch)["logits"] + np.float32(amount)}


def labelled() -> ArrayBatches:
    x = floats(40, 3, 8, 8, seed=50)
    labels = run(conv_net(), {"image": x})[0].argmax(1).astype(np.int64)
    return ArrayBatches({"image": x}, batch_size=16, labels=labels)


def test_any_callable_is_a_backend() -> None:
    result = quantlab.compare(conv_net(), {"plus": plus(0.5)}, image_batches())
    row = result.results[1]
    assert row.errors["logits"].max_abs == pytest.approx(0.5, abs=1e-5)
    assert (row.size_bytes, row.failed) == (None, "")


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (lambda y: {"logits": np.where(y > 0, np.nan, y)}, "output 'bad/logits' has NaN or infinity"),
        (lambda y: {"logits": y[:, :3]}, "has shape"),
        (lambda y: {"other": y}, "gives no output 'logits' .it gives other."),
    ],
)
def test_backend_that_fails_is_named_and_the_others_are_kept(outputs: Callable, reason: str) -> None:
    fine = plus(0)
    bad = lambda batch: outputs(fine(batch)["logits"])  # noqa: E731
    result = quantlab.compare(conv_net(), {"bad": bad, "fine": fine}, image_batches(3))
    failed, kept = result.results[1:]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(failed.failed)
    assert failed.failed.startswith("batch 0: ")
    assert (failed.errors, failed.top1, failed.worst_sqnr_db) == ({}, None, -math.inf)
    assert kept.worst_sqnr_db > 100
    assert result.best is kept
    assert any("'bad' failed and is out of the comparison" in w for w in result.warnings)


def test_bug_in_a_backend_is_not_taken_for_bad_data() -> None:
    def broken(batch: Mapping[str, np.ndarray]) -> Outputs:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        quantlab.compare(conv_net(), {"broken": broken}, image_batches())


def test_interrupted_comparison_keeps_what_was_measured() -> None:
    class Stream:
        def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
            yield from image_batches(2)
            raise KeyboardInterrupt

    result = quantlab.compare(conv_net(), {"plus": plus(0.5)}, Stream())
    assert (result.partial, result.samples) == (True, 12)
    assert result.results[1].errors["logits"].mean_abs == pytest.approx(0.5, abs=1e-5)
    assert any("interrupted after 12 samples" in w for w in result.warnings)

    class Empty(Stream):
        def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
            raise KeyboardInterrupt
            yield {}

    with pytest.raises(KeyboardInterrupt):
        quantlab.compare(conv_net(), {}, Empty())


def margin(outputs: Outputs, labels: Any) -> np.ndarray:
    """How far the right class is ahead of the best other one."""
    logits = outputs["logits"]
    right = logits[np.arange(len(logits)), labels]
    others = np.where(np.arange(logits.shape[1]) == labels[:, None], -np.inf, logits)
    return right - others.max(axis=1)


def test_metric_per_sample_has_a_mean_and_a_paired_interval() -> None:
    model = quantized(conv_net(), image_batches()).model
    result = quantlab.compare(conv_net(), {"int8": model, "plus": plus(1)}, labelled(), metric=margin)
    fp32, int8, moved = result.results
    x, labels = floats(40, 3, 8, 8, seed=50), np.concatenate([r for _, r in labelled().labeled()])
    assert fp32.metric == pytest.approx(margin({"logits": run(conv_net(), {"image": x})[0]}, labels).mean(), rel=1e-5)
    assert int8.metric_difference is not None
    assert int8.metric_difference.low <= int8.metric - fp32.metric <= int8.metric_difference.high
    assert moved.metric == pytest.approx(fp32.metric, rel=1e-5)  # a constant on all logits changes no margin
    assert int8.retained(fp32) == pytest.approx(int8.metric / fp32.metric)


def test_metric_of_the_whole_set_is_an_object_per_backend() -> None:
    class Largest:
        def __init__(self) -> None:
            self.value = -np.inf

        def update(self, outputs: Outputs, labels: Any) -> None:
            self.value = max(self.value, float(outputs["logits"].max()))

        def compute(self) -> float:
            return self.value

    fp32, moved = quantlab.compare(conv_net(), {"plus": plus(2)}, image_batches(), metric=Largest).results
    assert moved.metric == pytest.approx(fp32.metric + 2, rel=1e-5)
    assert moved.metric_difference is None


def test_metric_that_raises_is_reported_with_its_traceback_and_the_rest_is_kept() -> None:
    def broken(outputs: Outputs, labels: Any) -> np.ndarray:
        raise KeyError("boxes")

    result = quantlab.compare(conv_net(), {"plus": plus(0.5)}, image_batches(), metric=broken)
    row = result.results[1]
    assert "in broken" in row.metric_failed
    assert "KeyError: 'boxes'" in row.metric_failed
    assert row.metric is None
    assert row.errors["logits"].mean_abs == pytest.approx(0.5, abs=1e-5)
    assert any("the metric failed on 'plus': KeyError" in w for w in result.warnings)


def test_metric_of_a_wrong_shape_or_kind_is_told() -> None:
    result = quantlab.compare(conv_net(), {}, image_batches(), metric=lambda outputs, labels: np.zeros(3))
    assert "the metric gave shape (3,) for 6 samples" in result.fp32.metric_failed
    with pytest.raises(quantlab.QuantlabError, match="class without update and compute"):
        quantlab.compare(conv_net(), {}, image_batches(), metric=dict)


def test_interval_of_a_mean_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    change = floats(200, seed=4).astype(np.float64) + 0.1
    ours = mean_difference(np.zeros(200), change)
    theirs = stats.bootstrap((change,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    # both intervals are random: their ends differ by about 2 % of the standard error with so many draws
    error = change.std() / math.sqrt(200)
    assert ours.value == pytest.approx(change.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.2 * error)
    assert ours.high == pytest.approx(theirs.high, abs=0.2 * error)


def test_optimizer_that_changes_the_numbers_is_told_and_not_trusted() -> None:
    model = quantized(conv_net(), image_batches()).model
    backend = ort_backend("int8", model)
    assert isinstance(backend.run, OrtBackend)
    wrong = quantized(conv_net(), image_batches()).model
    for tensor in wrong.graph.initializer:
        if tensor.name == "t_scale":  # what an optimizer that loses a scale would run
            value = 8 * initializers(wrong)["t_scale"]
            tensor.CopyFrom(quantlab.model.numpy_helper.from_array(value, tensor.name))
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
    int8, own = result.results[1:]
    assert int8.runtime_sqnr_db is None
    assert own.runtime_sqnr_db > own.worst_sqnr_db + 10


def test_worst_samples_and_classes_are_those_of_numpy() -> None:
    model = quantized(conv_net(), image_batches()).model
    data = labelled()
    result = quantlab.compare(conv_net(), {"int8": model}, data)
    x = floats(40, 3, 8, 8, seed=50)
    ref, own = (run(m, {"image": x})[0].astype(np.float64) for m in (conv_net(), model))
    db = 10 * np.log10((ref**2).sum(1) / ((ref - own) ** 2).sum(1))
    worst = result.results[1].worst
    assert [w.index for w in worst] == list(np.argsort(db)[:10])
    np.testing.assert_allclose([w.sqnr_db for w in worst], np.sort(db)[:10], rtol=1e-4)
    first = worst[0]
    assert (first.fp32_class, first.own_class) == (ref.argmax(1)[first.index], own.argmax(1)[first.index])
    assert first.label == first.fp32_class  # the labels are FP32's own
    classes = result.results[1].classes
    assert sum(n for n, _ in classes.values()) == 40
    for c, (count, same) in classes.items():
        rows = ref.argmax(1) == c
        assert (count, same) == (rows.sum(), (own.argmax(1)[rows] == c).sum())


def test_error_grows_along_the_network_and_weights_are_found() -> None:
    result = quantized(conv_net(), image_batches())
    trace = quantlab.trace_error(conv_net(), result.model, image_batches(2))
    assert list(trace.tensors) == ["r", "t", "f", "logits"]
    batch = image_batches(1)[0]
    comparison = quantlab.compare(conv_net(), {"q": result.model}, image_batches(2))
    assert trace.tensors["logits"] == pytest.approx(comparison.results[1].worst_sqnr_db, abs=1e-3)
    assert trace.unmatched == 0
    assert [e.node for e in trace.weights] == [e.node for e in result.weight_errors]
    for found, known in zip(trace.weights, result.weight_errors, strict=True):
        np.testing.assert_allclose(found.sqnr_db, known.sqnr_db)
        np.testing.assert_array_equal(found.scale, known.scale)
    floats_kept = quantlab.quantize(
        conv_net(), quantlab.calibrate(conv_net(), [batch]), weights=quantlab.WeightStyle(stored="float")
    )
    again = quantlab.trace_error(conv_net(), floats_kept.model, [batch])
    np.testing.assert_allclose(again.weights[0].sqnr_db, result.weight_errors[0].sqnr_db)


def test_trace_of_a_graph_with_other_names_says_what_it_could_not_match() -> None:
    text = """m (float[N,6] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        w = DequantizeLinear (wq, s, z)
        other = MatMul (d, w)
        y = Identity (other)
    }"""
    codes = {"s": np.asarray(np.float32(0.02)), "z": np.asarray(np.int8(0)), "wq": np.ones((6, 4), np.int8)}
    fp32 = parse("m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": floats(6, 4)})
    trace = quantlab.trace_error(fp32, parse(text, codes), [{"x": floats(3, 6)}])
    assert (trace.unmatched, trace.weights) == (1, ())
    assert list(trace.tensors) == ["y"]


def engine(name: str, ms: float, change: Callable[[np.ndarray], np.ndarray], int8: bool) -> Backend:
    session = Session(conv_net())
    facts = {"latency_p50_ms": ms}
    return Backend(name, lambda b: {"logits": change(session.run(b)["logits"])}, int8=int8, facts=facts)


def verdict(candidates: dict[str, Any], data: Any = None, **more: Any) -> str:
    from quantlab.report import build_document, render_csv, render_html, render_markdown

    document = build_document("t", quantlab.compare(conv_net(), candidates, data or labelled(), **more))
    for render in (render_html, render_markdown, render_csv):
        assert render(document)
    return document["verdict"]


def test_engine_that_keeps_nothing_is_never_shipped() -> None:
    same = lambda y: y  # noqa: E731
    half = engine("fp16", 2.0, same, int8=False)
    lost = engine("lost", 0.5, lambda y: -y, int8=True)
    kept = engine("kept", 1.0, same, int8=True)
    assert verdict({"fp16": half, "lost": lost, "kept": kept}).startswith("Ship kept: 1.000 ms per batch, 2.00 times")
    assert "Ship" not in verdict({"fp16": half, "lost": lost})
    assert verdict({"fp16": half, "kept": kept}, image_batches()).startswith("Fastest is kept")
    slow = engine("slow", 2.0, same, int8=True)
    assert verdict({"fp16": half, "slow": slow}).startswith("INT8 is not faster here")
    assert verdict({"fp16": half}) == "There is no quantized model in this comparison."


def test_share_of_a_metric_that_is_not_positive_is_unknown() -> None:
    metric = lambda outputs, labels: -np.abs(outputs["logits"]).mean(axis=1)  # noqa: E731
    result = quantlab.compare(conv_net(), {"plus": plus(9)}, image_batches(), metric=metric)
    assert result.results[1].retained(result.fp32) is None


def test_metric_that_is_no_number_is_a_failure() -> None:
    nan = lambda outputs, labels: np.full(len(outputs["logits"]), np.nan)  # noqa: E731
    result = quantlab.compare(conv_net(), {"plus": plus(0)}, image_batches(), metric=nan)
    assert all("the metric is nan" in row.metric_failed for row in result.results)
    assert any("the metric failed on 'plus'" in w for w in result.warnings)
    assert verdict({"plus": plus(0)}, image_batches(), metric=nan)


def test_interruption_inside_a_batch_leaves_whole_batches_only() -> None:
    fine, calls = plus(0.5), []

    def stops(batch: Mapping[str, np.ndarray]) -> Outputs:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fine(batch)

    result = quantlab.compare(conv_net(), {"before": fine, "stops": stops, "after": fine}, labelled(), metric=margin)
    assert (result.partial, result.samples) == (True, 16)
    assert len({row.errors["logits"].mean_abs for row in result.results[1:]}) == 1
    assert all(row.difference is not None for row in result.results[1:])


def test_interruption_while_results_are_summed_up_leaves_whole_batches_only() -> None:
    before, calls = signal.getsignal(signal.SIGINT), []

    def pressed(outputs: Outputs, labels: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) == 4:  # two models: the second one, in the second batch
            signal.raise_signal(signal.SIGINT)
        return margin(outputs, labels)

    result = quantlab.compare(conv_net(), {"plus": plus(0.5)}, labelled(), metric=pressed)
    assert (result.partial, result.samples, len(calls)) == (True, 32, 4)
    assert result.results[1].difference is not None
    assert signal.getsignal(signal.SIGINT) is before


def test_rows_of_detections_are_not_class_scores() -> None:
    model = parse("m (float[N,10] x) => (float[M,5] y) { y = Reshape (x, s) }", {"s": np.array([-1, 5])})
    result = quantlab.compare(model, {"same": model}, [{"x": floats(8, 10)}])
    assert (result.scores, result.results[1].agreement) == (None, None)


def test_batch_number_of_bad_data_is_the_real_one() -> None:
    data = image_batches(3)
    data[2]["image"][0, 0, 0, 0] = np.nan
    with pytest.raises(quantlab.QuantlabError, match="^batch 2, input 'image' contains NaN"):
        quantlab.compare(conv_net(), {}, data)


def test_metric_cannot_write_into_the_reference() -> None:
    def spoils(outputs: Outputs, labels: Any) -> np.ndarray:
        outputs["logits"][:] = 0
        return np.zeros(len(outputs["logits"]))

    result = quantlab.compare(conv_net(), {"plus": plus(0.5)}, image_batches(), metric=spoils)
    assert "read-only" in result.fp32.metric_failed
    assert result.results[1].errors["logits"].mean_abs == pytest.approx(0.5, abs=1e-5)


def test_tensors_of_models_with_other_placements_stay_in_network_order() -> None:
    from quantlab.report import Evidence, build_document

    table = quantlab.calibrate(conv_net(), image_batches())
    few = quantlab.quantize(conv_net(), table, selection=quantlab.Selection(exclude=("op:Conv",))).model
    full = quantlab.quantize(conv_net(), table).model
    for order in (("few", "full"), ("full", "few")):
        models = {name: {"few": few, "full": full}[name] for name in order}
        traces = {name: quantlab.trace_error(conv_net(), m, image_batches(1)) for name, m in models.items()}
        result = quantlab.compare(conv_net(), models, image_batches(1))
        origin = build_document("t", result, Evidence(traces=traces))["origin"]
        assert [t["name"] for t in origin["tensors"]] == ["r", "t", "f", "logits"]
        assert origin["models"] == list(order)


def test_scores_whose_batch_has_another_name_than_the_inputs_are_still_scores() -> None:
    model = parse("m (float[batch,6] x) => (float[unk_0,4] y) { y = MatMul (x, w) }", {"w": floats(6, 4)})
    result = quantlab.compare(model, {"int8": quantized(model, [{"x": floats(9, 6)}]).model}, [{"x": floats(9, 6)}])
    assert result.scores == "y"
    assert result.results[1].agreement is not None
