"""Cache to Q/DQ and back: the same scales, and a word about every tensor that could not keep its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import quantlab
from models import CONCAT, conv_net, floats, image_batches, parse
from quantlab.calibration import TrtCache, cache_from_table, load_table, table_from_cache
from quantlab.errors import DataError, GraphError
from quantlab.qdq import import_scales, tensorrt_cache
from quantlab.qdq.migrate import migrate_to_cache, migrate_to_qdq, scales_of

Array = NDArray[np.generic]


def cache() -> TrtCache:
    return tensorrt_cache(conv_net(), quantlab.calibrate(conv_net(), image_batches(), tensors="all"))


def test_cache_to_qdq_keeps_every_scale_bit_for_bit() -> None:
    given = cache()
    result = migrate_to_qdq(conv_net(), table_from_cache(given))
    assert result.largest_difference == 0
    back = import_scales(result.model)
    for tensor, amax in back.amax.items():
        assert amax / np.float32(127) == given.scales[tensor]
    assert set(back.amax) == {"image", "r", "t", "f"}
    assert {row.tensor: row.entry for row in result.parity} == {"image": "image", "r": "r", "t": "t", "f": "p"}
    assert set(result.unused) == set(given.scales) - {"image", "r", "t", "p"}


def test_view_whose_name_the_cache_lacks_takes_the_scale_of_what_it_shows() -> None:
    given = cache()  # as entropy v1 and legacy caches, which hold what survives fusion only
    partial = TrtCache(given.header, {t: s for t, s in given.scales.items() if t != "f"})
    result = migrate_to_qdq(conv_net(), table_from_cache(partial))
    assert import_scales(result.model).amax["f"] == np.float32(given.scales["p"] * np.float32(127))
    assert len(result.placement.weights) == 3


def test_every_layer_of_a_recorded_entropy_v1_cache_is_quantized(real_data: Path) -> None:
    table = load_table(real_data / "trt_caches" / "r20_b64_entropy1_bs64_n512_tf320.cache")
    result = migrate_to_qdq(real_data / "models" / "resnet20_cifar10_b64.onnx", table)
    assert len(result.placement.weights) == 20
    assert {row.tensor: row.entry for row in result.parity}["/Flatten_output_0"] == "/AveragePool_output_0"


def test_layer_for_which_int8_does_not_pay_is_migrated_all_the_same() -> None:
    model = conv_net("1")
    table = quantlab.calibrate(model, image_batches(4, 1), tensors="all")
    assert "Gemm" in [s.op for s in quantlab.quantize(model, table).placement.skipped]
    for selection in (None, quantlab.Selection(exclude=("first",))):
        skipped = [s.op for s in migrate_to_qdq(model, table, selection).placement.skipped]
        assert "Gemm" not in skipped
        assert ("Conv" in skipped) == (selection is not None)


def scales_used(text: str, weights: dict[str, Array], scales: dict[str, float]) -> dict[str, float]:
    given = TrtCache("TRT-8600-EntropyCalibration2", {t: np.float32(s) for t, s in scales.items()})
    result = migrate_to_qdq(parse(text, weights), table_from_cache(given))
    used = {t: float(s) for t, s in import_scales(result.model).amax.items()}
    return {tensor: round(amax / 127, 6) for tensor, amax in used.items()}


def test_a_view_behind_an_average_pooling_takes_the_copied_scale_as_in_the_implicit_engine() -> None:
    text = """m (float[2,3,4,4] x) => (float[2,5] y) {
      c = Conv (x, w)
      p = AveragePool <kernel_shape = [4, 4]> (c)
      f = Flatten (p)
      y = Gemm <transB = 1> (f, v)
    }"""
    weights = {"w": floats(32, 3, 1, 1), "v": floats(5, 32, seed=1)}
    used = scales_used(text, weights, {"x": 0.1, "c": 0.5, "p": 0.5, "f": 0.125, "y": 1})
    assert used == {"x": 0.1, "c": 0.5, "f": 0.5}


def test_a_view_takes_the_scale_that_what_it_shows_must_share() -> None:
    text = """m (float[2,4,4,4] x) => (float[2,4,4,4] y, float[2,4,5] z) {
      a = Conv (x, w)
      b = Conv (x, v)
      c = Concat <axis = 1> (a, b)
      y = Conv (c, u)
      r = Reshape (a, shape)
      z = MatMul (r, k)
    }"""
    weights = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1), "u": floats(4, 8, 1, 1, seed=2)}
    more = {"shape": np.array([2, 4, 16]), "k": floats(16, 5, seed=3)}
    used = scales_used(text, weights | more, {"x": 0.1, "a": 1, "b": 2, "c": 2, "r": 1, "y": 1, "z": 1})
    assert used == {"x": 0.1, "a": 2, "b": 2, "c": 2, "r": 2}


def test_an_operator_of_another_domain_is_no_view() -> None:
    text = """m (float[2,4,4,4] x) => (float[2,4,4,4] y) {
      a = Conv (x, w)
      r = mine.Identity (a)
      y = Conv (r, w)
    }"""
    header = '<ir_version: 8, opset_import: ["" : 13, "mine" : 1]>'
    given = {"x": np.float32(0.1), "a": np.float32(1), "r": np.float32(0.5)}
    table = table_from_cache(TrtCache("TRT-8600-EntropyCalibration2", given))
    result = migrate_to_qdq(parse(text, {"w": floats(4, 4, 1, 1)}, header), table)
    assert {row.tensor: row.entry for row in result.parity} == {"x": "x", "r": "r"}


def test_a_slice_keeps_the_scale_of_its_own_that_the_implicit_engine_gives_it() -> None:
    text = """m (float[2,3,4,4] x) => (float[2,4,2,4] y) {
      c = Conv (x, w)
      a = Conv (c, v)
      s = Slice (c, start, end, axis)
      t = Slice (a, start, end, axis)
      b = Conv (s, v)
      y = Add (b, t)
    }"""
    cut = {"start": np.array([0]), "end": np.array([2]), "axis": np.array([2])}
    weights = {"w": floats(4, 3, 1, 1), "v": floats(4, 4, 1, 1, seed=1)} | cut
    used = scales_used(text, weights, {"x": 0.1, "c": 0.5, "a": 0.25, "s": 0.375, "t": 0.125, "b": 1, "y": 1})
    assert used == {"x": 0.1, "c": 0.5, "s": 0.375, "t": 0.125}


def test_qdq_to_cache_to_qdq_gives_the_same_model() -> None:
    first = migrate_to_qdq(conv_net(), table_from_cache(cache())).model
    again = migrate_to_qdq(conv_net(), table_from_cache(migrate_to_cache(first))).model
    for model in (first, again):
        del model.metadata_props[:]  # the second comes from another table, of fewer tensors
    assert first.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)


def test_table_and_model_to_cache() -> None:
    table = quantlab.calibrate(conv_net(), image_batches(), tensors="all")
    assert migrate_to_cache(conv_net(), table).to_bytes() == cache().to_bytes()
    assert migrate_to_cache(conv_net(), table, "MinMaxCalibration").header == "TRT-8600-MinMaxCalibration"


def test_node_without_a_scale_in_the_cache_stays_float_with_the_reason() -> None:
    given = cache()
    partial = TrtCache(given.header, {t: s for t, s in given.scales.items() if t not in ("p", "f")})
    result = migrate_to_qdq(conv_net(), table_from_cache(partial))
    assert ("Gemm", "tensor 'f' has no scale") in [(s.op, s.reason) for s in result.placement.skipped]


def test_shared_scale_is_in_the_parity_table() -> None:
    weights = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1), "u": floats(4, 8, 1, 1, seed=2)}
    scales = {n: np.float32(s) for n, s in (("x", 1), ("a", 1), ("b", 2), ("c", 2), ("y", 1))}
    result = migrate_to_qdq(parse(CONCAT, weights), table_from_cache(TrtCache("TRT-8600-EntropyCalibration2", scales)))
    assert {row.tensor: round(row.relative, 6) for row in result.parity if row.relative} == {"a": 1.0}
    assert result.largest_difference == pytest.approx(1.0)


def test_foreign_cache_qdq_model_and_float_model_without_table_are_refused() -> None:
    foreign = table_from_cache(TrtCache("TRT-8600-EntropyCalibration2", {"elsewhere": np.float32(1)}))
    with pytest.raises(DataError, match="of another model"):
        migrate_to_qdq(conv_net(), foreign)
    qdq = migrate_to_qdq(conv_net(), table_from_cache(cache())).model
    with pytest.raises(GraphError, match="migration needs the FP32 model"):
        migrate_to_qdq(qdq, table_from_cache(cache()))
    with pytest.raises(DataError, match="no table was given"):
        migrate_to_cache(conv_net())
    nothing = table_from_cache(TrtCache("TRT-8600-EntropyCalibration2", {"a": np.float32(1)}))
    with pytest.raises(DataError, match="no scale for any layer"):
        migrate_to_qdq(conv_net(), nothing)


def test_migrate_command_in_both_directions(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    onnx.save(conv_net(), tmp_path / "m.onnx")
    cache().save(tmp_path / "c.cache")
    there = cli("migrate", tmp_path / "m.onnx", "--table", tmp_path / "c.cache", "-o", tmp_path / "q.onnx")
    assert there.code == 0, there.err
    assert "4 tensors, 4 with exactly the given scale, largest difference 0.00%" in there.out
    assert "'f' is a view of 'p' and takes its scale" in there.out
    assert f"{len(cache().scales) - 4} entries of the table are taken by no Q/DQ" in there.out
    np.save(tmp_path / "x.npy", image_batches(1)[0]["image"])
    compared = cli(
        "migrate", tmp_path / "m.onnx", "--table", tmp_path / "c.cache", "-o", tmp_path / "q.onnx",
        "--data", tmp_path / "x.npy",
    )  # fmt: skip
    assert "output 'logits' against FP32: SQNR" in compared.out
    refused = cli("migrate", tmp_path / "q.onnx", "-o", tmp_path / "b.cache", "--data", tmp_path / "x.npy")
    assert (refused.code, "--data is for Q/DQ models" in refused.err) == (2, True)
    back = cli("migrate", tmp_path / "q.onnx", "-o", tmp_path / "back.cache")
    assert back.code == 0, back.err
    got, want = TrtCache.load(tmp_path / "back.cache").scales, cache().scales
    assert got == {t: want[t] for t in got}
    for args, text in (
        (("-o", tmp_path / "x.bin"), "has suffix '.bin', which says nothing about what to write"),
        (("-o", tmp_path / "x.onnx"), "no scales were given"),
    ):
        refused = cli("migrate", tmp_path / "m.onnx", *args)
        assert refused.code == 2
        assert text in refused.err


def test_round_trip_of_table_through_cache_from_table_is_exact() -> None:
    table = quantlab.calibrate(conv_net(), image_batches(), tensors="all")
    assert table_from_cache(cache_from_table(table)).amax == table.amax


POOLED = """m (float[2,3,8,8] x) => (float[A,B,C,D] y, float[A,B,C,D] z) {
  c = Conv (x, w)
  a = AveragePool <kernel_shape = [2, 2]> (c)
  g = GlobalAveragePool (a)
  m = MaxPool <kernel_shape = [2, 2]> (c)
  y = Conv (m, v)
  z = Relu (g)
}"""


@pytest.mark.parametrize(
    ("calibrator", "copies"),
    [
        ("EntropyCalibration2", True),
        ("MinMaxCalibration", True),
        ("EntropyCalibration", False),
    ],
)
def test_scale_of_a_pooling_is_copied_for_the_calibrators_that_copy_it(calibrator: str, copies: bool) -> None:
    model = parse(POOLED, {"w": floats(4, 3, 1, 1), "v": floats(4, 4, 1, 1, seed=1)})
    amax = {t: np.float32(k) for k, t in enumerate("xcagmyz", start=1)}
    table = quantlab.CalibrationTable(amax)
    scales = tensorrt_cache(model, table, calibrator).scales
    wanted = amax | ({"a": amax["c"], "m": amax["c"]} if copies else {})
    assert scales == {t: np.float32(a / np.float32(127)) for t, a in wanted.items()}
    assert table.amax == amax


def test_copied_scale_needs_both_tensors_in_the_table() -> None:
    model = parse(POOLED, {"w": floats(4, 3, 1, 1), "v": floats(4, 4, 1, 1, seed=1)})
    for known in (("x", "c", "m"), ("x", "m"), ("x", "c")):
        table = quantlab.CalibrationTable({t: np.float32(1 + ord(t)) for t in known})
        assert list(tensorrt_cache(model, table).scales) == list(known)


def test_pooling_of_another_domain_copies_no_scale() -> None:
    text = "m (float[2,3,8,8] x) => (float[A,B,C,D] y) { y = mine.MaxPool (x) }"
    header = '<ir_version: 8, opset_import: ["" : 13, "mine" : 1]>'
    table = quantlab.CalibrationTable({"x": np.float32(127), "y": np.float32(254)})
    assert tensorrt_cache(parse(text, {}, header), table).scales == {"x": 1, "y": 2}


def test_cache_is_written_from_the_table_else_from_the_pairs_of_the_model() -> None:
    table = quantlab.calibrate(conv_net(), image_batches(), tensors="all")
    assert scales_of(conv_net(), table) is table
    qdq = migrate_to_qdq(conv_net(), table).model
    assert set(scales_of(qdq, None).amax) == {"image", "r", "t", "f"}
    with pytest.raises(DataError, match=r"no Q/DQ and no table was given Hint: --table FILE"):
        scales_of(conv_net(), None)
    foreign = quantlab.CalibrationTable({"elsewhere": np.float32(1)})
    with pytest.raises(DataError, match="of another model"):
        scales_of(conv_net(), foreign)
