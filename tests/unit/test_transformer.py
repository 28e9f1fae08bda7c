"""A transformer encoder: every MatMul in INT8, LayerNorm, Softmax and GELU in float, fused or not."""

from __future__ import annotations

import numpy as np
import pytest

import quantlab
from models import encoder, floats, quantized
from quantlab.qdq import lint

LAYERS = 2


def batches(count: int = 3, seed: int = 0) -> list[dict[str, np.ndarray]]:
    return [{"x": floats(2, 7, 32, seed=seed + k)} for k in range(count)]


@pytest.mark.parametrize("fused", [False, True])
def test_every_matmul_reads_int8_and_nothing_else_does(fused: bool) -> None:
    result = quantized(encoder(LAYERS, fused=fused), batches())
    maker = {name: node for node in result.model.graph.node for name in node.output}
    for node in result.model.graph.node:
        if node.op_type == "MatMul":
            assert [maker[name].op_type for name in node.input] == ["DequantizeLinear"] * 2
    readers = {name: n.op_type for n in result.model.graph.node for name in n.input}
    assert {readers[p.output[0]] for p in maker.values() if p.op_type == "DequantizeLinear"} == {"MatMul"}
    # per layer: LayerNorm (one pair for q, k and v), q, k, p, v, the joined heads, LayerNorm, GELU
    assert len(result.placement.tensors) == 8 * LAYERS
    assert len(result.placement.weights) == 6 * LAYERS
    assert all(site.axis == 1 for site in result.placement.weights)
    assert lint(result.model) == []


@pytest.mark.parametrize("fused", [False, True])
def test_encoder_in_int8_stays_close_to_fp32(fused: bool) -> None:
    model = encoder(LAYERS, fused=fused)
    comparison = quantlab.compare(model, {"int8": quantized(model, batches(8)).model}, batches(2, seed=50))
    # each MatMul adds noise of about 40 dB below its signal; six in a row per layer of two leave more than 25 dB
    assert comparison.results[1].worst_sqnr_db > 25


def test_float_nodes_of_the_encoder_all_have_a_reason_of_their_own() -> None:
    reasons = {s.op: s.reason for s in quantized(encoder(1), batches()).placement.skipped}
    assert not [op for op, reason in reasons.items() if reason.startswith("no rule")]
    assert {"Softmax", "Erf", "Sqrt", "ReduceMean", "Pow"} <= set(reasons)


@pytest.mark.parametrize("rows", ["1,1", "2,7"])
def test_attention_of_known_small_sizes_stays_float(rows: str) -> None:
    placement = quantlab.qdq.plan(quantlab.qdq.prepare(encoder(1, rows=rows)))
    assert placement.tensors == ()
    assert {s.reason for s in placement.skipped if s.op == "MatMul"} == {
        "INT8 does not pay: no product of this attention network has 2^32 multiplications "
        "(a dynamic batch counts as 64)"
    }
