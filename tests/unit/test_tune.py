"""Choices by measurement: what is chosen is better on held-back data, and said."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import pytest

import quantlab
from models import CONCAT, conv_net, floats, image_batches, parse
from quantlab.api import calibrate_all
from quantlab.errors import DataError
from quantlab.observers import OBSERVERS
from quantlab.ort import Session
from quantlab.tune import calibrate_auto
from quantlab.tune.scaled_model import ScaledModel


class Narrow(quantlab.MinMax):
    """Right for nothing: keeps a hundredth."""

    name = "narrow"

    def compute_amax(self) -> np.ndarray:
        return super().compute_amax() / np.float32(100)


def test_scaled_model_measures_what_the_qdq_model_of_the_same_scales_does() -> None:
    batches = image_batches(2, seed=40)
    table = quantlab.calibrate(conv_net(), image_batches())
    other = quantlab.calibrate(conv_net(), image_batches(), quantlab.Percentile(95))
    made = quantlab.quantize(conv_net(), table)
    probe = ScaledModel(conv_net(), made.model, made.placement.tensors, batches)
    for one in (table, other):
        model = quantlab.quantize(conv_net(), one).model
        want = [Session(conv_net(), optimize=False).run(b)["logits"] for b in batches]
        got = [Session(model, optimize=False).run(b)["logits"] for b in batches]
        error = sum(((w - g).astype(float) ** 2).sum() for w, g in zip(want, got, strict=True))
        power = sum((w.astype(float) ** 2).sum() for w in want)
        assert math.isclose(probe.error(one.amax), error / power, rel_tol=1e-3)


def test_auto_is_at_least_as_good_as_every_single_algorithm_on_the_held_back_batches() -> None:
    result = calibrate_auto(conv_net(), image_batches(10))
    assert result.sqnr_db["auto"] >= max(v for k, v in result.sqnr_db.items() if k != "auto") - 1e-9
    assert result.base in OBSERVERS
    assert result.table.provenance.algorithm == "auto"
    assert result.table.provenance.samples == 8 * 6  # two of ten batches were held back
    assert any(w.startswith(f"auto: {result.base} for the other tensors") for w in result.table.warnings)
    assert len([w for w in result.table.warnings if " takes " in w]) == len(result.choices)
    model = quantlab.quantize(conv_net(), result.table).model
    assert quantlab.compare(conv_net(), {"auto": model}, image_batches(2, seed=60)).results[1].worst_sqnr_db > 25


def test_auto_never_takes_what_is_worse_and_mends_a_bad_tensor() -> None:
    observers = {"minmax": quantlab.MinMax(), "narrow": Narrow()}
    result = calibrate_auto(conv_net(), image_batches(10), observers)
    rest = [b for k, b in enumerate(image_batches(10)) if k % 5 != 1]
    minmax = calibrate_all(conv_net(), rest, observers)
    assert result.base == "minmax"
    assert result.choices == ()
    assert result.table.amax == minmax.tables["minmax"].amax


def test_auto_choices_say_what_they_gain() -> None:
    class OddImage(quantlab.MinMax):
        """Good but for one tensor, of which it keeps too much: values there are 3 wide."""

        name = "odd"

        def compute_amax(self) -> np.ndarray:
            amax = super().compute_amax()
            return amax * np.float32(40) if 3 < amax < 5 else amax

    x = {"image": np.clip(floats(64, 3, 8, 8), -4, 4)}
    batches = [{"image": x["image"][i : i + 8]} for i in range(0, 64, 8)]
    result = calibrate_auto(conv_net(), batches, {"odd": OddImage(), "narrow": Narrow(), "minmax": quantlab.MinMax()})
    assert result.base == "minmax"
    again = calibrate_auto(conv_net(), batches, {"odd": OddImage(), "p": quantlab.Percentile(99.99)})
    assert all(c.gain_db >= 0.05 for c in again.choices)


def test_auto_with_one_batch_raises() -> None:
    with pytest.raises(DataError, match="no batch to hold back"):
        calibrate_auto(conv_net(), image_batches(1))


def test_auto_from_the_command_line(cli, tmp_path) -> None:  # type: ignore[no-untyped-def]
    onnx.save(conv_net(), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", floats(40, 3, 8, 8))
    args = ("--data", tmp_path / "x.npy", "--batch-size", 8, "--algorithm", "auto")
    result = cli("calibrate", tmp_path / "m.onnx", *args, "-o", tmp_path / "t.json")
    assert result.code == 0, result.err
    assert quantlab.CalibrationTable.load(tmp_path / "t.json").provenance.algorithm == "auto"
    refused = cli("calibrate", tmp_path / "m.onnx", *args, "-o", tmp_path / "t.cache")
    assert refused.code == 2
    assert "auto chooses for the tensors of a Q/DQ model only" in refused.err


def test_auto_reads_a_shuffling_stream_once_and_keeps_what_it_held_back() -> None:
    passes = []
    batches = image_batches(10)
    buffer = np.empty_like(batches[0]["image"])

    def shuffled():
        order = np.random.default_rng(len(passes)).permutation(10)
        passes.append(order)
        for k in order:
            buffer[...] = batches[k]["image"]
            yield {"image": buffer}

    result = calibrate_auto(conv_net(), quantlab.IterableBatches(shuffled))
    assert len(passes) == 1
    in_order = calibrate_auto(conv_net(), [batches[k] for k in passes[0]])
    assert result.table.amax == in_order.table.amax


def test_auto_leaves_a_short_last_batch_of_a_fixed_batch_model_out() -> None:
    whole, short = image_batches(6, 6), image_batches(1, 4, seed=99)
    result = calibrate_auto(conv_net(batch="6"), [*whole, *short])
    assert result.table.amax == calibrate_auto(conv_net(batch="6"), whole).table.amax
    (notice,) = [w for w in result.table.warnings if w.kind == "short_batch"]
    assert notice == "the last 4 samples do not fill a batch of 6 and were left out"
    # the seventh batch would be held back, and never reach the network that has to refuse it
    held = calibrate_auto(conv_net(batch="6"), [*image_batches(6, 6), *image_batches(1, 4, seed=99)])
    assert held.sqnr_db == result.sqnr_db


def test_auto_refuses_a_short_batch_in_the_middle() -> None:
    with pytest.raises(DataError, match="^batch 1, it has 4 samples, the network takes 6"):
        calibrate_auto(conv_net(batch="6"), [*image_batches(1, 6), *image_batches(1, 4), *image_batches(2, 6)])


def test_auto_without_a_floating_point_output_raises() -> None:
    text = "m (float[N,6] x) => (int64[N] y) { a = MatMul (x, w)  y = ArgMax <axis = 1, keepdims = 0> (a) }"
    with pytest.raises(DataError, match="no floating point output"):
        calibrate_auto(parse(text, {"w": floats(6, 4)}), [{"x": floats(2, 6, seed=k)} for k in range(3)])


# --- the search, with an error that is made up: what is tried, what is kept


class Halved(quantlab.MinMax):
    """Keeps half of the range."""

    name = "halved"

    def compute_amax(self) -> np.ndarray:
        return super().compute_amax() / np.float32(2)


class Near(quantlab.MinMax):
    """Keeps half a percent less: no other choice."""

    name = "near"

    def compute_amax(self) -> np.ndarray:
        return super().compute_amax() * np.float32(0.995)


Amax = Mapping[str, np.float32]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Amax], float]], list[Amax]]:
    """Replaces the measurement by a function of the ranges; gives the list of what was measured."""

    def replace(error: Callable[[Amax], float]) -> list[Amax]:
        tried: list[Amax] = []

        class Measured:
            def __init__(self, fp32: object, qdq: object, tensors: Sequence[str], batches: Sequence[object]) -> None:
                self.held = list(batches)

            def error(self, amax: Amax) -> float:
                tried.append(dict(amax))
                return error(amax)

        monkeypatch.setattr("quantlab.tune.auto.ScaledModel", Measured)
        return tried

    return replace


OBSERVED = {"minmax": quantlab.MinMax(), "halved": Halved()}


def largest(batches: list[dict[str, np.ndarray]]) -> Amax:
    """What min-max makes of the batches that are not held back."""
    rest = [b for k, b in enumerate(batches) if k % 5 != 1]
    return quantlab.calibrate(conv_net(), rest, quantlab.MinMax()).amax


def test_each_gain_is_measured_with_the_choices_before_it(probe) -> None:  # type: ignore[no-untyped-def]
    batches = image_batches(10)
    full = largest(batches)
    # halving r or t halves the error, halving image or f doubles it
    factor = {"image": 2.0, "r": 0.5, "t": 0.5, "f": 2.0}
    probe(lambda amax: 0.01 * math.prod(f if amax[t] < full[t] else 1 for t, f in factor.items()))
    result = calibrate_auto(conv_net(), batches, OBSERVED)
    assert result.base == "minmax"
    assert [(c.tensor, c.algorithm) for c in result.choices] == [("r", "halved"), ("t", "halved")]
    three = 10 * math.log10(2)
    assert [c.gain_db for c in result.choices] == pytest.approx([three, three])
    assert result.sqnr_db == pytest.approx({"minmax": 20, "halved": 20, "auto": 20 + 2 * three})
    halved = {"r", "t"}
    assert result.table.amax == {t: a / np.float32(2) if t in halved else a for t, a in full.items()}
    assert [w for w in result.table.warnings if w.kind == "choice"] == [
        "auto: minmax for the other tensors; 26.02 dB on held-back batches, minmax alone 20.00",
        "auto: 'r' takes halved (+3.01 dB)",
        "auto: 't' takes halved (+3.01 dB)",
    ]


@pytest.mark.parametrize(("gain_db", "chosen"), [(0.049, False), (0.051, True)])
def test_gain_below_what_other_images_would_change_is_not_taken(probe, gain_db: float, chosen: bool) -> None:  # type: ignore[no-untyped-def]
    batches = image_batches(10)
    full = largest(batches)
    factor = 10 ** (-gain_db / 10)
    probe(lambda amax: 0.01 * (factor if amax["r"] < full["r"] else 1) * (4 if amax["f"] < full["f"] else 1))
    result = calibrate_auto(conv_net(), batches, OBSERVED)
    assert [c.tensor for c in result.choices] == (["r"] if chosen else [])


def test_values_within_one_percent_are_one_candidate(probe) -> None:  # type: ignore[no-untyped-def]
    tried = probe(lambda amax: 0.01)
    calibrate_auto(conv_net(), image_batches(10), {"minmax": quantlab.MinMax(), "near": Near()})
    assert len(tried) == 2  # each algorithm as a whole, and no tensor alone
    tried.clear()
    calibrate_auto(conv_net(), image_batches(10), OBSERVED)
    assert len(tried) == 2 + 4


def test_tensors_that_share_a_scale_move_together(probe) -> None:  # type: ignore[no-untyped-def]
    weights = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1), "u": floats(4, 8, 1, 1, seed=2)}
    batches = [{"x": floats(4, 4, 8, 8, seed=k)} for k in range(10)]
    model = parse(CONCAT, weights)
    tried = probe(lambda amax: 0.01 * float(amax["b"]) ** 2 / float(amax["x"]))
    result = calibrate_auto(model, batches, OBSERVED)
    for amax in (*tried, result.table.amax):
        assert amax["a"] == amax["b"] == amax["c"]
    assert {c.tensor for c in result.choices} <= {"x", "a"}  # the first of a group speaks for it
    assert result.base == "halved"
    assert [(c.tensor, c.algorithm) for c in result.choices] == [("x", "minmax")]


def test_every_fifth_batch_is_held_back_up_to_four_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[list[float]] = []

    class Measured:
        def __init__(self, fp32: object, qdq: object, tensors: object, batches: Sequence[Mapping[str, np.ndarray]]):
            held.append([float(b["image"][0, 0, 0, 0]) for b in batches])

        def error(self, amax: Amax) -> float:
            return 0.01

    monkeypatch.setattr("quantlab.tune.auto.ScaledModel", Measured)
    batches = [{"image": np.full((1, 3, 8, 8), k, np.float32)} for k in range(30)]
    result = calibrate_auto(conv_net(), batches, OBSERVED)
    assert held == [[1, 6, 11, 16]]
    assert result.table.provenance.samples == 26
    assert result.table.amax["image"] == 29


def test_what_one_algorithm_saturates_is_no_notice_of_the_choice() -> None:
    batches = image_batches(10)
    observers = {"cut": quantlab.Percentile(90)}
    alone = calibrate_all(conv_net(), batches, observers).tables["cut"]
    assert any(w.kind == "saturated" for w in alone.warnings)
    result = calibrate_auto(conv_net(), batches, observers)
    assert not any(w.kind == "saturated" for w in result.table.warnings)


# --- the measurement


def scaled(model: onnx.ModelProto, batches: list[dict[str, np.ndarray]]) -> tuple[ScaledModel, dict[str, np.float32]]:
    made = quantlab.quantize(model, table := quantlab.calibrate(model, batches, quantlab.MinMax()))
    return ScaledModel(model, made.model, made.placement.tensors, batches), dict(table.amax)


def test_error_is_the_mean_over_the_outputs() -> None:
    text = "m (float[N,6] x) => (float[N,4] y, float[N,4] z) { y = MatMul (x, w)  z = MatMul (x, v) }"
    weights = {"w": floats(6, 4), "v": 100 * floats(6, 4, seed=1)}
    batch = {"x": floats(8, 6)}
    probe, amax = scaled(parse(text, weights), [batch])
    alone = []
    for name, w in (("y", "w"), ("z", "v")):
        one = parse(f"m (float[N,6] x) => (float[N,4] {name}) {{ {name} = MatMul (x, {w}) }}", {w: weights[w]})
        alone.append(scaled(one, [batch])[0].error(amax))
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)
    assert probe.error(amax) == pytest.approx(np.mean(alone), rel=1e-6)


def test_output_that_is_zero_in_fp32_is_right_or_wrong_as_a_whole() -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }"
    zero, other = (parse(text, {"w": w}) for w in (np.zeros((6, 4), np.float32), floats(6, 4)))
    batch = {"x": floats(8, 6)}
    amax = {"x": np.float32(4)}
    for model, error in ((zero, 0.0), (other, 1.0)):
        made = quantlab.quantize(model, quantlab.CalibrationTable(amax)).model
        assert ScaledModel(zero, made, ("x",), [batch]).error(amax) == error


def test_output_that_is_not_finite_is_an_error() -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { a = MatMul (x, w)  b = Relu (a)  c = Log (b)  y = Neg (c) }"
    probe, amax = scaled(parse(text, {"w": np.abs(floats(6, 4))}), [{"x": np.abs(floats(8, 6)) + np.float32(0.1)}])
    with pytest.raises(DataError, match="an output has NaN or infinity on the held-back batches"):
        probe.error({t: a * np.float32(1e6) for t, a in amax.items()})
