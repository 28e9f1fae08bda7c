"""What is done with a model of quantize --closest: it is compared, and not taken apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from closest_parts import EXACT_MODELS, Exact, exact_model
from quantlab.calibration.made_from import write_steps
from quantlab.comparison.error_trace import trace_error
from quantlab.data import IterableBatches
from quantlab.errors import GraphError
from quantlab.numerics import scale_from_amax
from quantlab.qdq import EVERYTHING, Quantized, prepare, requantize
from quantlab.qdq.insert import insert
from quantlab.qdq.placement import Placement
from quantlab.qdq.repair import repair
from quantlab.qdq.rewritten import Rewritten, mark_rewritten, read_rewritten
from quantlab.transforms.equalize import equalize
from quantlab.transforms.shifted import shifted
from quantlab.transforms.wide_sites import wide_sites
from quantlab.transforms.widen import widen


def closest(made: Exact) -> onnx.ModelProto:
    return shifted(widen(made.qdq, wide_sites(made.qdq)[0], made.amax))


@pytest.mark.parametrize("name", EXACT_MODELS)
def test_error_trace_compares_what_both_networks_have(name: str) -> None:
    made = exact_model(name)
    trace = trace_error(made.fp32, closest(made), IterableBatches([made.batch]))
    assert "y" in trace.tensors
    assert not [tensor for tensor in trace.tensors if tensor in wide_sites(made.qdq)[0]]
    assert len(trace.weights) + trace.unmatched == sum(n.op_type in {"Conv", "Gemm"} for n in made.fp32.graph.node)


def test_what_is_scaled_is_not_compared_with_fp32() -> None:
    made = exact_model("one by one")
    fp32, batches = made.fp32, IterableBatches([made.batch])
    factors = 2.0 ** -(np.arange(16) % 6)  # channels of very different ranges, which weigh the same behind them
    for tensor in fp32.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        scaled = values * factors.reshape(-1, *[1] * (values.ndim - 1)) if len(values) == 16 else values
        scaled = values / factors.reshape(1, -1, 1, 1) if values.shape[:2] == (8, 16) else scaled
        tensor.CopyFrom(onnx.numpy_helper.from_array(scaled.astype(np.float32), tensor.name))
    table = quantlab.calibrate(fp32, batches)
    placement = quantlab.quantize(fp32, table, selection=EVERYTHING).placement
    found = equalize(prepare(fp32), placement, batches)
    assert found.groups
    assert "y" not in found.tensors  # outputs stay
    amax = quantlab.calibrate(found.fp32, batches, tensors=list(placement.tensors)).amax
    model = insert(found.network, placement, lambda name: scale_from_amax(amax[name])).model
    lying = trace_error(fp32, model, batches)
    mark_rewritten(model, found.tensors, found.nodes)
    trace = trace_error(fp32, model, batches)
    assert trace.tensors.keys() == lying.tensors.keys() - found.tensors
    assert not found.nodes & {error.node for error in trace.weights}
    assert len(trace.weights) + trace.unmatched == len(lying.weights) + lying.unmatched


@pytest.mark.parametrize("text", ["", "[", "3", '{"tensors": 3, "nodes": null}', '{"nodes": {"a": 1}}'])
def test_what_anyone_may_have_written_is_nothing(text: str) -> None:
    model = exact_model("gemm").qdq
    model.metadata_props.add(key="quantlab.rewritten", value=text)
    assert read_rewritten(model) == Rewritten()
    mark_rewritten(model, ["b", "a"], [])
    mark_rewritten(model, ["c"], ["n"])
    assert read_rewritten(model) == Rewritten(frozenset("abc"), frozenset("n"))


def test_report_says_what_each_step_did_where(tmp_path: Path) -> None:
    made = exact_model("residual")
    model = closest(made)
    write_steps(model, ["step all codes behind ReLU: +1.20 dB", "all codes behind ReLU, <t>: 0 to 3"])
    result = quantlab.compare(made.fp32, {"closest": model}, IterableBatches([made.batch]))
    text = quantlab.write_report(result, tmp_path).html.read_text()
    assert "<li>step all codes behind ReLU: +1.20 dB</li><li>all codes behind ReLU, &lt;t&gt;: 0 to 3</li>" in text


def test_model_is_not_taken_apart() -> None:
    made = exact_model("one by one")
    model = closest(made)
    with pytest.raises(GraphError, match="saturation of INT8 stands for activations"):
        requantize(model)
    quantized = Quantized(model, Placement((), (), ()), ())
    with pytest.raises(GraphError, match="bias correction cannot start from a model of quantize --closest"):
        quantlab.correct_bias(made.fp32, quantized, IterableBatches([made.batch]))


def test_repair_does_not_take_it_apart_either() -> None:
    with pytest.raises(GraphError, match="start from the FP32 model"):
        repair(closest(exact_model("clip")))
