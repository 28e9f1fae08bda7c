"""Where the error of a Q/DQ model comes from."""

from __future__ import annotations

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse, quantized
from quantlab.comparison import trace_error
from quantlab.ort import pieces


def test_error_grows_along_the_network_and_weights_are_found() -> None:
    result = quantized(conv_net(), image_batches())
    trace = trace_error(conv_net(), result.model, image_batches(2))
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
    again = trace_error(conv_net(), floats_kept.model, [batch])
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
    trace = trace_error(fp32, parse(text, codes), [{"x": floats(3, 6)}])
    assert (trace.unmatched, trace.weights) == (1, ())
    assert list(trace.tensors) == ["y"]


def test_tensors_of_models_with_other_placements_stay_in_network_order() -> None:
    from quantlab.report import Evidence, build_document

    table = quantlab.calibrate(conv_net(), image_batches())
    few = quantlab.quantize(conv_net(), table, selection=quantlab.Selection(exclude=("op:Conv",))).model
    full = quantlab.quantize(conv_net(), table).model
    for order in (("few", "full"), ("full", "few")):
        models = {name: {"few": few, "full": full}[name] for name in order}
        traces = {name: trace_error(conv_net(), m, image_batches(1)) for name, m in models.items()}
        result = quantlab.compare(conv_net(), models, image_batches(1))
        trace = build_document("t", result, Evidence(traces=traces))["error_trace"]
        assert [t["name"] for t in trace["tensors"]] == ["r", "t", "f", "logits"]
        assert trace["models"] == list(order)


def test_batch_in_pieces_gives_the_trace_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = image_batches(2)
    model = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), batches, "minmax")).model
    whole, counts = trace_error(conv_net(), model, batches), list[int]()
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    cut = trace_error(conv_net(), model, batches, counts.append)
    samples = sum(len(batch["image"]) for batch in batches)
    assert counts == list(range(1, samples + 1))
    assert cut.tensors == pytest.approx(whole.tensors, abs=1e-3)  # dB; kernels round by the size of a batch
