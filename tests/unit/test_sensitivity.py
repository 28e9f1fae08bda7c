"""What INT8 does in one place alone: exact laws of the measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, labelled, parse, run
from placement_parts import named
from quantlab.api import sensitivity
from quantlab.data import ArrayBatches
from quantlab.errors import ConfigError, DataError
from quantlab.onnx_model import model_hash
from quantlab.qdq import EVERYTHING
from quantlab.tune import SensitivityOptions, SensitivityTable, measure_sensitivity, merge_sensitivity
from quantlab.tune.sensitivity import NOISE_SAMPLES, open_layers
from quantlab.tune.sensitivity_feed import Judged
from quantlab.tune.sensitivity_table import noise_db

CHAIN = """m (float[N,4] x) => (float[N,4] y) {
    h = MatMul (x, w)
    r = Relu (h)
    y = MatMul (r, v)
}"""
WEIGHTS = {"w": floats(4, 4, seed=1), "v": floats(4, 4, seed=2)}


def table_of(model: object) -> quantlab.CalibrationTable:
    return quantlab.calibrate(model, image_batches(2), quantlab.MinMax())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found() -> SensitivityTable:
    return sensitivity(conv_net(), table_of(conv_net()), labelled())


def rounded(x: np.ndarray, scale: np.ndarray | np.float32) -> np.ndarray:
    return (np.clip(np.rint(x / scale), -128, 127) * scale).astype(np.float32)


def test_noise_is_that_of_the_formula_for_every_layer_and_tensor() -> None:
    """squared error of the output over its power, with one tensor or layer rounded"""
    model = named(CHAIN, WEIGHTS)
    x = floats(32, 4)
    table = quantlab.calibrate(model, [{"x": x}], quantlab.Percentile(90))
    w, v = WEIGHTS["w"], WEIGHTS["v"]
    scale = {name: amax / np.float32(127) for name, amax in table.amax.items()}
    w8, v8 = (rounded(m, np.abs(m).max(0) / np.float32(127)) for m in (w, v))
    x8 = rounded(x, scale["x"])

    def output(x: np.ndarray, w: np.ndarray, v: np.ndarray, rounds: bool = False) -> np.ndarray:
        r = np.maximum(x @ w, 0)
        return (rounded(r, scale["r"]) if rounds else r) @ v

    wanted = output(x, w, v).astype(np.float64)
    by_hand = {
        ("tensor", "x"): output(x8, w, v),
        ("tensor", "r"): output(x, w, v, True),
        ("layer", "h"): output(x8, w8, v),
        ("layer", "y"): output(x, w, v8, True),
        ("all", "everything"): output(x8, w8, v8, True),
    }
    measured = sensitivity(model, table, [{"x": x[:20]}, {"x": x[20:]}])
    rows = {(row.kind, row.name): row for row in measured.rows}
    for unit, got in by_hand.items():
        noise = np.square(got - wanted).sum() / np.square(wanted).sum()
        effect = rows[unit].alone
        assert effect is not None
        assert effect.noise == pytest.approx(noise, rel=1e-4)
        assert effect.sqnr_db == pytest.approx(-10 * np.log10(noise), abs=1e-3)
        assert effect.changed == np.mean(got.argmax(1) != wanted.argmax(1))
        assert effect.metric is None
    assert rows["class", "MatMul"].without.noise == 0  # type: ignore[union-attr]


def test_everything_is_what_comparing_the_quantized_model_finds(found: SensitivityTable) -> None:
    int8 = quantlab.quantize(conv_net(), table_of(conv_net()), selection=EVERYTHING)
    other = quantlab.compare(conv_net(), {"int8": int8}, labelled()).results
    (everything,) = found.of_kind("all")
    assert everything.alone is not None
    assert everything.alone.sqnr_db == pytest.approx(other[1].worst_sqnr_db, abs=1e-9)
    assert other[1].agreement is not None
    assert everything.alone.changed == pytest.approx(1 - other[1].agreement)
    assert everything.alone.metric == other[1].top1
    assert found.provenance.fp32_metric == other[0].top1 == 1.0
    assert (found.provenance.metric, found.provenance.samples, found.provenance.batches) == ("top-1", 40, 3)


def test_units_are_layers_tensors_and_classes_in_network_order(found: SensitivityTable) -> None:
    assert found.units == (
        ("all", "everything"),
        ("layer", "Conv_0"), ("layer", "Conv_1"), ("layer", "Gemm_0"),
        ("tensor", "image"), ("tensor", "r"), ("tensor", "t"), ("tensor", "f"),
        ("class", "first layer"), ("class", "last layer"), ("class", "other convolution"), ("class", "residual sum"),
        ("class", "pooling"), ("class", "Gemm"),
    )  # fmt: skip
    assert tuple((row.kind, row.name) for row in found.rows) == found.units
    sites = {(row.kind, row.name): row.sites for row in found.rows}
    assert sites["all", "everything"] == sites["class", "other convolution"] + 4
    assert (sites["layer", "Conv_1"], sites["tensor", "r"]) == (2, 2)
    assert all((row.without is not None) == (row.kind == "class") for row in found.rows)


def test_class_alone_and_all_but_it_are_complements(found: SensitivityTable) -> None:
    """INT8 everywhere but in the last layer = INT8 in all others; a class of one layer is that layer"""
    rows = {(row.kind, row.name): row for row in found.rows}
    assert rows["class", "first layer"].alone == rows["layer", "Conv_0"].alone
    assert rows["class", "first layer"].nodes == rows["layer", "Conv_0"].nodes == ("Conv_0",)
    assert rows["all", "everything"].nodes == ()
    assert rows["class", "last layer"].alone == rows["class", "Gemm"].alone == rows["layer", "Gemm_0"].alone
    assert rows["class", "last layer"].without == rows["class", "Gemm"].without
    estimates = {key: row.estimate for key, row in rows.items()}
    parts = [estimates["class", name] for name in ("other convolution", "residual sum", "pooling", "Gemm")]
    assert estimates["all", "everything"] == pytest.approx(sum(part for part in parts if part is not None))


def test_order_of_the_batches_changes_no_effect() -> None:
    batches = image_batches(5)
    table = table_of(conv_net())
    first, second = (sensitivity(conv_net(), table, given) for given in (batches, batches[::-1]))
    assert [(r.alone, r.without) for r in first.rows] == [(r.alone, r.without) for r in second.rows]
    assert first.provenance.data_hash != second.provenance.data_hash


def test_same_call_gives_the_same_table(found: SensitivityTable) -> None:
    again = sensitivity(conv_net(), table_of(conv_net()), labelled())
    assert again == found


def test_parts_merge_to_the_whole(found: SensitivityTable) -> None:
    parts = [
        sensitivity(conv_net(), table_of(conv_net()), labelled(), options=SensitivityOptions(part=(k, 3)))
        for k in (1, 2, 3)
    ]
    assert [len(part.rows) for part in parts] == [5, 5, 4]
    assert merge_sensitivity(parts[::-1]) == found


def test_estimate_alone_equals_the_estimates_of_the_whole(found: SensitivityTable) -> None:
    table = table_of(conv_net())
    quick = sensitivity(conv_net(), table, labelled(), options=SensitivityOptions(method="estimate"))
    bare = tuple(replace(row, alone=None, without=None) for row in found.rows)
    assert quick.rows == bare
    assert quick.rank_correlation("layer") is None
    other = sensitivity(conv_net(), table, labelled(), options=SensitivityOptions(method="estimate", seed=1))
    assert [row.estimate for row in other.rows] != [row.estimate for row in quick.rows]


def share_above(outputs: Mapping[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
    return (outputs["logits"][:, 0] > 0).astype(float)


def needs_labels(outputs: Mapping[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
    return outputs["logits"].argmax(1) == labels[:]  # type: ignore[index]


class Everyone:
    """The share of class 2 over the whole set."""

    def __init__(self) -> None:
        self.best: list[int] = []

    def update(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray | None) -> None:
        self.best += list(outputs["logits"].argmax(1))

    def compute(self) -> float:
        return self.best.count(2) / len(self.best)


def test_metric_of_the_user_is_measured_for_every_unit() -> None:
    table, batches = table_of(conv_net()), image_batches(3)
    logits = np.concatenate([run(conv_net(), batch)[0] for batch in batches])
    for metric, value in ((share_above, (logits[:, 0] > 0).mean()), (Everyone, (logits.argmax(1) == 2).mean())):
        found = sensitivity(conv_net(), table, batches, options=SensitivityOptions(metric=metric))
        assert found.provenance.metric == metric.__name__
        assert found.provenance.fp32_metric == pytest.approx(value)
        assert all(row.alone is not None and row.alone.metric is not None for row in found.rows)


def test_metric_without_labels_is_an_error_that_says_so() -> None:
    table = table_of(conv_net())
    with pytest.raises(ConfigError, match="top-1 was asked for, but there are no labels .* Hint: give labels"):
        sensitivity(conv_net(), table, image_batches(), options=SensitivityOptions(metric="top-1"))
    with pytest.raises(DataError, match="batch 0, the metric failed: TypeError: .* Hint: without --labels"):
        sensitivity(conv_net(), table, image_batches(), options=SensitivityOptions(metric=needs_labels))


def test_metric_that_is_no_number_is_refused() -> None:
    options = SensitivityOptions(metric=lambda outputs, labels: np.full(len(outputs["logits"]), np.nan))
    with pytest.raises(DataError, match="the metric is nan for sample 0 of a batch Hint: it has to be a number"):
        sensitivity(conv_net(), table_of(conv_net()), image_batches(), options=options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"part": (3, 2)}, "there is no part 3 of 2 Hint: parts of 2 are 1 to 2"),
        ({"part": (0, 2)}, "there is no part 0 of 2"),
        ({"method": "guess"}, "there is no method 'guess' Hint: all or estimate"),
        ({"metric": "top-5"}, "there is no metric 'top-5'"),
        ({"n_jobs": 0}, "0 jobs measure nothing"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        SensitivityOptions(**options)  # type: ignore[arg-type]


def test_more_parts_than_units_are_refused() -> None:
    with pytest.raises(ConfigError, match="99 parts of 14 units: some would be empty Hint: at most 14 parts"):
        sensitivity(conv_net(), table_of(conv_net()), image_batches(), options=SensitivityOptions(part=(1, 99)))


def test_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    table = table_of(conv_net())
    with pytest.raises(DataError, match="batch 1, input 'image': got float32"):
        sensitivity(conv_net(), table, [*image_batches(1), {"image": floats(2, 3, 9, 8)}])
    with pytest.raises(DataError, match="there are no batches"):
        sensitivity(conv_net(), table, [])
    with pytest.raises(DataError, match="there are 3 labels for 24 samples|labels end at sample 3"):
        sensitivity(conv_net(), table, image_batches(), np.zeros(3, np.int64))
    with pytest.raises(DataError, match="there are 30 labels for 24 samples"):
        sensitivity(conv_net(), table, image_batches(), np.zeros(30, np.int64))
    with pytest.raises(DataError, match="it has label 7, the model has classes 0 to 4"):
        sensitivity(conv_net(), table, image_batches(), np.full(24, 7))
    with pytest.raises(DataError, match="was made for another model"):
        sensitivity(named(CHAIN, WEIGHTS), table, image_batches())
    with pytest.raises(ConfigError, match="options is a dict"):
        sensitivity(conv_net(), table, image_batches(), options={})  # type: ignore[arg-type]


def test_batches_that_are_others_in_every_pass_are_refused() -> None:
    seeds = iter(range(100))
    stream = quantlab.IterableBatches(lambda: image_batches(2, seed=next(seeds)))
    with pytest.raises(DataError, match="the batches are others in every pass"):
        sensitivity(conv_net(), table_of(conv_net()), stream)


def test_outputs_without_floats_and_with_nan_are_refused() -> None:
    text = "m (float[N,4] x) => (int64[N] y) { h = MatMul (x, w)  y = ArgMax <axis = 1, keepdims = 0> (h) }"
    model = named(text, {"w": floats(4, 4)})
    x = [{"x": floats(8, 4)}]
    with pytest.raises(DataError, match="the model has no floating point output to measure an error at"):
        sensitivity(model, quantlab.calibrate(model, x), x)
    root = parse("m (float[N,4] x) => (float[N,4] y) { h = MatMul (x, w)  y = Sqrt (h) }", {"w": floats(4, 4)})
    with pytest.raises(DataError, match="output 'y' of FP32 has NaN or infinity"):
        sensitivity(root, quantlab.calibrate(root, x), x)


def test_int8_that_makes_an_output_infinite_is_refused() -> None:
    """x0 - x1 > 0 in FP32, but both become the same code"""
    model = parse(
        "m (float[N,2] x) => (float[N,1] y) { h = MatMul (x, w)  y = Log (h) }",
        {"w": np.array([[1], [-1]], np.float32)},
    )
    table = quantlab.CalibrationTable({"x": np.float32(127)})
    with pytest.raises(DataError, match="an output has NaN or infinity Hint: look for a scale that is far too small"):
        sensitivity(model, table, [{"x": np.array([[5.4, 5.3]], np.float32)}])


def test_fixed_batch_measures_every_sample_of_a_short_last_batch() -> None:
    x = floats(10, 3, 8, 8)
    short = ArrayBatches({"image": x}, batch_size=4)
    table = table_of(conv_net())
    fixed = quantlab.calibrate(conv_net(batch="4"), [{"image": x[:4]}, {"image": x[4:8]}])
    fixed = replace(fixed, amax=table.amax)
    first, second = sensitivity(conv_net(), table, short), sensitivity(conv_net(batch="4"), fixed, short)
    assert first.provenance.samples == second.provenance.samples == 10
    for a, b in zip(first.rows, second.rows, strict=True):
        assert a.alone is not None
        assert b.alone is not None
        assert a.alone.noise == pytest.approx(b.alone.noise, rel=1e-3)
        assert a.estimate == pytest.approx(b.estimate, rel=0.5)


def test_labels_that_cannot_be_used_are_a_warning_and_those_that_are_wrong_an_error() -> None:
    model = named("m (float[N,4,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w) }", {"w": floats(4, 4, 1, 1)})
    x = [{"x": floats(4, 4, 8, 8)}]
    found = sensitivity(model, quantlab.calibrate(model, x), x, np.zeros(4, np.int64))
    assert found.warnings == ("there are labels, but no output of shape (N, classes): they were not used",)
    assert found.provenance.fp32_metric is None
    assert {row.alone.changed for row in found.rows if row.alone} == {None}
    right = np.concatenate([run(conv_net(), batch)[0].argmax(1) for batch in image_batches(20)])
    with pytest.raises(DataError, match="FP32 itself is right on 0.0% of 120 samples, no better than guessing"):
        sensitivity(conv_net(), table_of(conv_net()), image_batches(20), (right + 1) % 5)


@pytest.mark.parametrize("batch", ["N", "6"])
def test_layers_for_a_search_are_measured_on_some_of_the_samples(tmp_path: Path, batch: str) -> None:
    model, data = conv_net(batch), ArrayBatches({"image": floats(600, 3, 8, 8, seed=8)}, batch_size=6)
    table = quantlab.calibrate(model, data, "minmax", tensors="all")
    found = open_layers(model, table, Judged(data))
    assert found.reference.samples == 600
    assert NOISE_SAMPLES / 2 <= found.job.reference.samples <= NOISE_SAMPLES
    noise = found.measure(tmp_path)
    whole = {row.name: row.noise for row in measure_sensitivity(model, table, data).of_kind("layer")}
    assert noise.keys() == whole.keys()
    assert all(abs(noise_db(noise[name]) - noise_db(whole[name])) < 1.5 for name in whole)
    assert len({batch["image"].shape for batch in found.job.judged.batches}) <= 2


def test_outputs_behind_a_plugin_are_judged_by_what_enters_it() -> None:
    proto, table = conv_net(), quantlab.calibrate(conv_net(), image_batches(), "minmax")
    wanted = measure_sensitivity(proto, table, labelled(), options=SensitivityOptions(part=(1, 9)))
    proto.graph.node.append(onnx.helper.make_node("EndNMS", ["logits"], ["scores"], name="nms"))
    proto.graph.output[0].name = "scores"
    behind = replace(table, provenance=replace(table.provenance, model_hash=model_hash(proto)))
    found = measure_sensitivity(proto, behind, labelled(), options=SensitivityOptions(part=(1, 9)))
    assert [(row.name, row.alone) for row in found.rows] == [(row.name, row.alone) for row in wanted.rows]
    assert any("'nms' (EndNMS)" in str(warning) for warning in found.warnings)
