"""Repair and requantize: other tools' graphs, our own, and those that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.ort import Session
from quantlab.qdq import import_scales, lint, repair, requantize

INT8 = {"s": np.float32(0.1), "z": np.int8(0)}


def ort_static(tmp_path: Path, **options: object) -> onnx.ModelProto:
    """What ONNX Runtime's quantize_static makes of conv_net."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(image_batches())

        def get_next(self) -> object:
            return next(self.batches, None)

    onnx.save(conv_net(), tmp_path / "m.onnx")
    quantize_static(tmp_path / "m.onnx", tmp_path / "q.onnx", Reader(), quant_format=QuantFormat.QDQ, **options)
    return onnx.load(tmp_path / "q.onnx")


@pytest.mark.parametrize("flavour", ["default", "unsigned", "symmetric per channel"])
@pytest.mark.filterwarnings("ignore")
def test_repair_of_onnx_runtimes_graphs_lints_clean_and_keeps_the_network(tmp_path: Path, flavour: str) -> None:
    from onnxruntime.quantization import QuantType

    options = {
        "default": {},
        "unsigned": {"activation_type": QuantType.QUInt8},
        "symmetric per channel": {"extra_options": {"ActivationSymmetric": True}, "per_channel": True},
    }[flavour]
    theirs = ort_static(tmp_path, **options)
    assert any(f.severity == "error" for f in lint(theirs))
    result = repair(theirs, image_batches(2))
    assert result.after == ()
    assert result.moved["logits"].sqnr_db > 20
    ops = [n.op_type for n in result.model.graph.node]
    # ONNX Runtime had taken the Relus out where the zero point did their work: Clips to the same range stand there now
    assert ops.count("Relu") + ops.count("Clip") == 2
    ours = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches()))
    assert sorted(ops) == sorted(
        "Clip" if n.op_type == "Relu" and "Clip" in ops else n.op_type for n in ours.model.graph.node
    )
    float_net = quantlab.compare(conv_net(), {"repaired": result.model}, image_batches(2, seed=30))
    assert float_net.results[1].worst_sqnr_db > 20


def test_scales_of_our_own_model_come_back_bit_for_bit() -> None:
    table = quantlab.calibrate(conv_net(), image_batches())
    back = import_scales(quantlab.quantize(conv_net(), table).model)
    assert back.amax == table.amax


def test_requantize_of_our_own_model_changes_no_number() -> None:
    first = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches())).model
    again = requantize(first).model
    batch = image_batches(1)[0]
    a, b = (Session(m, optimize=False).run(batch)["logits"] for m in (first, again))
    np.testing.assert_array_equal(a, b)


def test_requantize_with_another_table_and_selection() -> None:
    first = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches())).model
    table = quantlab.calibrate(conv_net(), image_batches(), quantlab.MinMax())
    again = requantize(first, table, quantlab.Selection(exclude=("op:Gemm",)))
    assert "excluded by 'op:Gemm'" in [s.reason for s in again.placement.skipped]
    assert import_scales(again.model).amax["image"] == table.amax["image"]


def test_node_without_a_scale_stays_float_with_the_reason() -> None:
    text = """m (float[N,T,4] x) => (float[N,T,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        a = MatMul (d, w)
        y = MatMul (a, w)
    }"""
    model = parse(text, {"s": np.asarray(np.float32(0.1)), "z": np.asarray(np.int8(0)), "w": floats(4, 4)})
    result = requantize(model, selection=quantlab.Selection(include=("*",)))
    assert [s.reason for s in result.placement.skipped] == ["tensor 'a' has no scale"]
    assert [s.reason for s in requantize(model).placement.skipped] == ["it was float in the given model"]


def test_repair_that_would_move_the_outputs_too_far_is_refused() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        y = MatMul (d, w)
    }"""
    constants = {"s": np.asarray(np.float32(0.05)), "z": np.asarray(np.int8(127)), "w": floats(4, 4)}
    with pytest.raises(quantlab.QuantlabError, match="the repair would move output 'y'"):
        repair(parse(text, constants), min_sqnr_db=60.0)


def test_float_model_and_integer_entries_are_refused() -> None:
    with pytest.raises(quantlab.QuantlabError, match="has no Q/DQ nodes"):
        repair(conv_net())
    entry = "m (int8[N,4] x) => (float[N,4] y) { d = DequantizeLinear (x, s, z)  y = Relu (d) }"
    with pytest.raises(quantlab.QuantlabError, match="has no counterpart"):
        requantize(parse(entry, {n: np.asarray(v) for n, v in INT8.items()}))
    computed = """m (float[N,4] x, float s) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        y = Relu (d)
    }"""
    with pytest.raises(quantlab.QuantlabError, match=r"scale of .* is computed"):
        requantize(parse(computed, {"z": np.asarray(np.int8(0))}))


def test_repair_and_requantize_commands(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made = quantlab.quantize(conv_net("2"), quantlab.calibrate(conv_net("2"), image_batches(2, 2)))
    onnx.save(made.model, tmp_path / "q.onnx")
    result = cli("repair", tmp_path / "q.onnx", "-o", tmp_path / "r.onnx")
    assert result.code == 0, result.err
    assert "seeded random samples" in result.out
    assert "0 findings before, 0 after" in result.out
    assert cli("quantize", tmp_path / "q.onnx", "--requantize", "-o", tmp_path / "again.onnx").code == 0
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "r.onnx").read_bytes()
    refused = cli("quantize", tmp_path / "q.onnx", "-o", tmp_path / "none.onnx")
    assert refused.code == 2
    assert "no scales were given" in refused.err


WEIGHT_CODES = """m (float[N,6] x) => (float[N,4] y) {
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    w_dequantized = DequantizeLinear (w_quantized, ws, z)
    y = MatMul (d, w_dequantized)
}"""


@pytest.mark.parametrize("largest", [90, 128])
def test_repair_keeps_codes_that_do_not_fill_their_range(largest: int) -> None:
    codes = np.random.default_rng(0).integers(-largest, min(largest, 127), (6, 4)).astype(np.int8)
    model = parse(WEIGHT_CODES, INT8 | {"w_quantized": codes, "ws": np.asarray(np.float32(0.02))})
    result = repair(model)
    assert result.moved["y"].sqnr_db == np.inf
    again = repair(result.model)
    assert again.model.SerializeToString(deterministic=True) == result.model.SerializeToString(deterministic=True)


def test_layer_that_was_float_stays_float_unless_it_is_included() -> None:
    text = WEIGHT_CODES.replace("(float[N,4] y)", "(float[N,4] y, float[N,4] t)").replace("}", " t = MatMul (x, v)\n}")
    weights = {"w_quantized": np.ones((6, 4), np.int8), "ws": np.asarray(np.float32(0.02)), "v": floats(6, 4)}
    model = parse(text, INT8 | weights)
    for node in model.graph.node:
        node.name = node.output[0]
    for again in (repair(model), requantize(model)):
        assert [(s.node, s.reason) for s in again.placement.skipped] == [("t", "it was float in the given model")]
    assert requantize(model, selection=quantlab.Selection(include=("*",))).placement.skipped == ()


def test_clip_on_activation_codes_of_the_symmetric_range_is_no_obstacle() -> None:
    text = WEIGHT_CODES.replace("d = DequantizeLinear (q", "k = Clip (q, low, high)\n d = DequantizeLinear (k")
    weights = {"w_quantized": np.ones((6, 4), np.int8), "ws": np.asarray(np.float32(0.02))}
    bounds = {"low": np.asarray(np.int8(-127)), "high": np.asarray(np.int8(127))}
    result = requantize(parse(text, INT8 | weights | bounds))
    assert [n.op_type for n in result.model.graph.node].count("Clip") == 0
    narrow = bounds | {"low": np.asarray(np.int8(0))}  # a Relu in integers: not ours to drop
    with pytest.raises(quantlab.QuantlabError, match="has no counterpart"):
        requantize(parse(text, INT8 | weights | narrow))


def test_repair_leaves_an_unnamed_float_layer_in_float() -> None:
    text = WEIGHT_CODES.replace("(float[N,4] y)", "(float[N,4] y, float[N,4] t)").replace("}", " t = MatMul (x, v)\n}")
    weights = {"w_quantized": np.ones((6, 4), np.int8), "ws": np.asarray(np.float32(0.02)), "v": floats(6, 4)}
    result = repair(parse(text, INT8 | weights))
    assert [s.reason for s in result.placement.skipped] == ["it was float in the given model"]
    assert result.moved["t"].sqnr_db == np.inf


def test_weight_behind_a_transpose_keeps_its_codes() -> None:
    text = """m (float[N,6] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        k = DequantizeLinear <axis = 0> (codes, ws, wz)
        w = Transpose (k)
        y = MatMul (d, w)
    }"""
    codes = np.random.default_rng(0).integers(-90, 90, (4, 6)).astype(np.int8)
    scales = {"ws": np.full(4, 0.02, np.float32), "wz": np.zeros(4, np.int8)}
    assert repair(parse(text, INT8 | scales | {"codes": codes})).moved["y"].sqnr_db == np.inf


def test_clip_of_codes_with_bounds_of_one_element_is_taken_apart() -> None:
    text = WEIGHT_CODES.replace("d = DequantizeLinear (q", "k = Clip (q, low, high)\n d = DequantizeLinear (k")
    weights = {"w_quantized": np.ones((6, 4), np.int8), "ws": np.asarray(np.float32(0.02))}
    bounds = {"low": np.full(1, -127, np.int8), "high": np.full(1, 127, np.int8)}
    assert "Clip" not in [n.op_type for n in requantize(parse(text, INT8 | weights | bounds)).model.graph.node]
