"""Offline calibration, tables and caches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.api import calibrate_all
from quantlab.calibration import offline
from quantlab.data import ArrayBatches, Batches
from quantlab.errors import DataError, GraphError
from quantlab.observers import OBSERVERS, MinMax


def every_activation(model, batches) -> dict[str, list[np.ndarray]]:
    """All node outputs through ONNX Runtime, by an independent path."""
    import onnx

    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    names = [o for n in model.graph.node for o in n.output]
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    values: dict[str, list[np.ndarray]] = {n: [] for n in [*names, "image"]}
    for batch in batches:
        for name, value in zip(names, session.run(names, batch), strict=True):
            values[name].append(value)
        values["image"].append(batch["image"])
    return values


def test_minmax_of_all_tensors_equals_onnx_runtimes_values() -> None:
    model, batches = conv_net(), image_batches()
    table = quantlab.calibrate(model, batches, MinMax(), tensors="all")
    expected = every_activation(model, batches)
    assert list(table.amax) == ["image", "a", "r", "c", "s", "t", "p", "f", "logits"]
    for name, amax in table.amax.items():
        np.testing.assert_allclose(amax, max(np.abs(v).max() for v in expected[name]), rtol=1e-6)


def test_default_tensors_are_those_that_quantize_needs() -> None:
    every = quantlab.calibrate(conv_net(), image_batches(), tensors="all").amax
    for tensors, wanted in (("qdq", ["image", "r", "t", "f"]), (["s"], ["s"]), (("t", "image"), ["t", "image"])):
        amax = quantlab.calibrate(conv_net(), image_batches(), tensors=tensors).amax
        assert list(amax) == wanted
        np.testing.assert_allclose([amax[t] for t in wanted], [every[t] for t in wanted], rtol=1e-6)
    assert quantlab.calibrate(conv_net(), image_batches()) == quantlab.calibrate(
        conv_net(), image_batches(), tensors="qdq"
    )


def test_every_batch_reaches_the_observer_once_in_order_with_its_own_content() -> None:
    """every batch reaches the observer once, in order, with its own content"""
    seen: list[np.ndarray] = []

    class Spy:
        def observe(self, x: np.ndarray) -> None:
            seen.append(x.copy())

        def compute_amax(self) -> np.ndarray:
            return np.asarray(1, np.float32)

    batches = image_batches(5)
    Spy.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]  # one observer, to look into
    quantlab.calibrate(conv_net(), batches, Spy(), tensors=["image"])
    assert len(seen) == 5
    for got, batch in zip(seen, batches, strict=True):
        np.testing.assert_array_equal(got, batch["image"])


def test_several_algorithms_in_one_pass_equal_one_at_a_time() -> None:
    batches = image_batches()
    run = calibrate_all(conv_net(), batches, OBSERVERS)
    for name, observer in OBSERVERS.items():
        assert run.tables[name].amax == quantlab.calibrate(conv_net(), batches, observer).amax
        assert run.tables[name].provenance.algorithm == name


def test_provenance_counts_and_hashes() -> None:
    table = quantlab.calibrate(conv_net(), image_batches(3, 4))
    p = table.provenance
    assert (p.batches, p.samples, p.batch_size, p.algorithm) == (3, 12, 4, "entropy")
    again = quantlab.calibrate(conv_net(), image_batches(3, 4)).provenance
    other = quantlab.calibrate(conv_net(), image_batches(3, 4, seed=9)).provenance
    assert p.data_hash == again.data_hash != other.data_hash
    assert p.model_hash == again.model_hash


def test_model_hash_ignores_storage_and_names_of_tools(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    from quantlab.onnx_model import load_model, model_hash

    model = conv_net()
    onnx.save(model, tmp_path / "m.onnx")
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    typed.producer_name = "another"
    for tensor in typed.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values.ravel().tolist())
    assert model_hash(model) == model_hash(typed) == model_hash(load_model(tmp_path / "m.onnx"))
    changed = conv_net()
    changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(floats(8, 3, 3, 3, seed=99), "w1"))
    assert model_hash(changed) != model_hash(model)


def test_all_zero_tensor_is_a_warning_not_a_crash() -> None:
    batches = [{"image": -np.abs(floats(2, 3, 8, 8)) * 0}]
    table = quantlab.calibrate(conv_net(), batches)
    assert table.amax["image"] == 0
    assert ("tensor 'image' is all zero in the calibration data", "all_zero", "image") in [
        (w, w.kind, w.tensor) for w in table.warnings
    ]
    quantized = quantlab.quantize(conv_net(), table)
    assert any("'image' was all zero" in w for w in quantized.warnings)


@pytest.mark.parametrize(
    ("batches", "samples"),
    [
        (image_batches(3, 6), 18),  # a list: the first batch, times its length
        (ArrayBatches({"image": floats(14, 3, 8, 8)}, batch_size=6), 14),
        (quantlab.IterableBatches(lambda: image_batches(3, 6)), None),  # nobody knows beforehand
    ],
    ids=["list", "arrays", "iterable"],
)
def test_values_that_will_be_counted_are_announced_before_the_first_is(
    batches: Batches, samples: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[int] = []
    monkeypatch.setattr(offline, "expect", announced.append)
    quantlab.calibrate(conv_net(), batches, tensors=["image", "r"])
    assert announced == ([] if samples is None else [samples * (3 * 64 + 8 * 64)])
    announced.clear()
    quantlab.calibrate(conv_net(), batches, MinMax(), tensors=["image", "r"])
    assert sum(announced) == 0  # without a histogram nothing is counted


def test_nan_inside_the_network_names_batch_and_tensor() -> None:
    model = parse("m (float[N,4] x) => (float[N,4] z) { y = Sqrt (x)  z = Relu (y) }")
    good, bad = {"x": np.ones((1, 4), np.float32)}, {"x": -np.ones((1, 4), np.float32)}
    with pytest.raises(DataError, match="batch 1, tensor 'y': values contain NaN"):
        quantlab.calibrate(model, [good, bad], tensors="all")


def test_unknown_tensor_raises() -> None:
    with pytest.raises(GraphError, match="no tensor 'nope'"):
        quantlab.calibrate(conv_net(), image_batches(1), tensors=["nope"])


def test_table_warns_where_an_algorithm_cuts_off_much() -> None:
    class Tenth(MinMax):
        name = "tenth"

        def compute_amax(self) -> np.ndarray:
            return super().compute_amax() / np.float32(10)

    run = calibrate_all(conv_net(), image_batches(), {"minmax": MinMax(), "tenth": Tenth()})
    assert not run.tables["minmax"].warnings
    image = next(w for w in run.tables["tenth"].warnings if w.tensor == "image")
    kept, full = run.tables["tenth"].amax["image"], run.histograms["image"].range
    share = (np.abs(np.concatenate([b["image"] for b in image_batches()])) > kept).mean()
    assert image.kind == "saturated"
    assert image.startswith(
        f"tenth saturates {share:.1%} of the values of tensor 'image' (keeps {kept:.4g} of {full:.4g}"
    )


def test_share_above_is_the_share_of_values_above() -> None:
    from quantlab.observers import Histogram

    x = floats(50_000)
    histogram = Histogram()
    histogram.observe(x)
    for amax in (0.5, 1.0, 2.0, 10.0):
        assert abs(histogram.share_above(amax) - (np.abs(x) > amax).mean()) < 2e-3
    assert Histogram().share_above(1.0) == 0


def test_model_with_nothing_to_quantize_raises_with_the_reasons() -> None:
    with pytest.raises(GraphError, match="nothing in the model can be INT8: Relu: TensorRT fuses it"):
        quantlab.calibrate(parse("m (float[N,4] x) => (float[N,4] y) { y = Relu (x) }"), [{"x": floats(2, 4)}])


def test_tensor_that_is_not_floating_point_raises() -> None:
    model = parse("m (float[N,4] x) => (int64[N] y) { y = ArgMax <axis = 1, keepdims = 0> (x) }")
    with pytest.raises(GraphError, match="tensor 'y' is not floating point"):
        quantlab.calibrate(model, [{"x": floats(2, 4)}], tensors=["y"])


def test_percentile_is_recorded_with_all_its_digits() -> None:
    from quantlab.observers import Percentile

    assert Percentile(99.99999).name == "percentile-99.99999"


def test_values_beyond_the_largest_range_raise() -> None:
    from quantlab.observers import Entropy

    observer = Entropy()
    observer.observe(np.array([5e37], np.float32))
    with pytest.raises(DataError, match="too large for a histogram"):
        observer.observe(np.array([2e38], np.float32))


def test_local_functions_are_part_of_the_hash_and_are_quantized() -> None:
    import onnx
    from onnx import helper

    from quantlab.onnx_model import load_model, model_hash

    def model(op: str) -> onnx.ModelProto:
        proto = parse(
            "m (float[N,4] x) => (float[N,4] y) { y = my.ops.F (x, w) }",
            {"w": floats(4, 4)},
            '<ir_version: 8, opset_import: ["" : 13, "my.ops" : 1]>',
        )
        nodes = [helper.make_node("MatMul", ["a", "b"], ["c"]), helper.make_node(op, ["c"], ["d"])]
        opsets = [helper.make_opsetid("", 13)]
        proto.functions.append(helper.make_function("my.ops", "F", ["a", "b"], ["d"], nodes, opsets))
        return proto

    assert model_hash(load_model(model("Relu"))) != model_hash(load_model(model("Sigmoid")))
    table = quantlab.calibrate(model("Relu"), [{"x": floats(2, 4)}])
    assert len(quantlab.quantize(model("Relu"), table).placement.weights) == 1


def test_observer_that_writes_into_its_input_is_stopped() -> None:
    class Careless(MinMax):
        def observe(self, x: np.ndarray) -> None:
            np.abs(x, out=x)

    with pytest.raises(quantlab.QuantlabError, match="observer Careless raised ValueError: .*read-only"):
        quantlab.calibrate(conv_net(), image_batches(1), Careless())


def test_range_that_grows_a_million_times_at_once_is_noted() -> None:
    model = parse("m (float[N,4] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": floats(4, 4)})
    small = {"x": np.full((2, 4), 1e-6, np.float32)}
    for largest, jumps in ((2.0, True), (0.5, False)):
        data = [small, {"x": np.full((2, 4), largest, np.float32)}]
        table = quantlab.calibrate(model, data, quantlab.Entropy())
        assert ([(w.kind, w.tensor) for w in table.warnings] == [("jumped", "x")]) == jumps
        free = quantlab.calibrate(model, data, quantlab.Entropy(), order_independent=True)
        assert "jumped" not in {w.kind for w in free.warnings}
