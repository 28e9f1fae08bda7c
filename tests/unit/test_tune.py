"""Choices by measurement: what is chosen is better on held-back data, and reported."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.api import calibrate_all
from quantlab.errors import DataError
from quantlab.observers import OBSERVERS
from quantlab.tune import calibrate_auto


class Narrow(quantlab.MinMax):
    """Right for nothing: keeps a hundredth."""

    name = "narrow"

    def compute_amax(self) -> np.ndarray:
        return super().compute_amax() / np.float32(100)


class Third(quantlab.MinMax):
    """Worse than all, better than a hundredth."""

    name = "third"

    def compute_amax(self) -> np.ndarray:
        return super().compute_amax() / np.float32(3)


def test_auto_is_no_worse_than_any_single_algorithm_but_by_chance() -> None:
    result = calibrate_auto(conv_net(), image_batches(20))
    assert set(result.sqnr_db) == {*OBSERVERS, "auto"}
    assert result.sqnr_db["auto"] >= result.sqnr_db[result.base]
    assert result.sqnr_db["auto"] > max(result.sqnr_db.values()) - 1
    assert (result.table.provenance.algorithm, result.table.provenance.samples) == ("auto", 120)
    assert (result.judged, result.held_back) == (80, 40)
    assert 0 < result.forwards <= 8 * 120
    said = [w for w in result.table.warnings if w.kind == "choice"]
    assert said[0].startswith(f"auto: {result.base} for ")
    assert f"{result.sqnr_db[result.base]:.2f} dB on 80 of the samples" in said[0]
    assert said[-1] == f"auto: took 2 calibrations and {result.forwards} samples through the INT8 network"
    model = quantlab.quantize(conv_net(), result.table).model
    assert quantlab.compare(conv_net(), {"auto": model}, image_batches(2, seed=60)).results[1].worst_sqnr_db > 25


def test_auto_never_takes_what_is_worse_and_has_the_scales_of_all_samples() -> None:
    observers = {"narrow": Narrow(), "minmax": quantlab.MinMax()}
    result = calibrate_auto(conv_net(), image_batches(10), observers)
    assert (result.base, result.choices) == ("minmax", ())
    assert result.table.amax == calibrate_all(conv_net(), image_batches(10), observers).tables["minmax"].amax


class RightFor(quantlab.MinMax):
    """Keeps all of a tensor with small values, a fiftieth of others; or the other way round."""

    def __init__(self, small: bool) -> None:
        super().__init__()
        self.small = small

    def compute_amax(self) -> np.ndarray:
        amax = super().compute_amax()
        return amax if (amax < 100) == self.small else amax / np.float32(50)


def test_auto_mixes_algorithms_where_that_is_proven_to_help() -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { a = MatMul (x, w)  b = Relu (a)  y = MatMul (b, v) }"
    model = parse(text, {"w": 100 * floats(6, 8), "v": floats(8, 4, seed=1)})
    batches = [{"x": floats(16, 6, seed=k)} for k in range(8)]
    observers = {"small": RightFor(True), "large": RightFor(False)}
    result = calibrate_auto(model, batches, observers)
    both = quantlab.calibrate(model, batches, "minmax")
    assert result.table.amax == both.amax
    assert len(result.choices) == 1
    assert result.sqnr_db["auto"] > max(result.sqnr_db["small"], result.sqnr_db["large"]) + 3


class OfAllOrNothing(quantlab.MinMax):
    """Right once it has seen that many samples, else for nothing."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.wanted, self.seen = samples, 0

    def observe(self, x: np.ndarray) -> None:
        super().observe(x)
        self.seen += len(x)

    def compute_amax(self) -> np.ndarray:
        return super().compute_amax() / np.float32(1 if self.seen >= self.wanted else 100)


@pytest.mark.parametrize("count", [4, 20], ids=["all are judged by", "some are held back"])
def test_auto_judges_the_scales_that_it_gives_not_those_of_a_part_of_the_samples(count: int) -> None:
    observers = {"all": OfAllOrNothing(6 * count), "third": Third()}
    result = calibrate_auto(conv_net(), image_batches(count), observers)
    assert (result.base, result.choices) == ("all", ())
    assert result.sqnr_db["all"] > result.sqnr_db["third"]


def test_auto_with_few_samples_judges_by_all_of_them() -> None:
    result = calibrate_auto(conv_net(), image_batches(1))
    assert (result.judged, result.held_back, result.choices) == (6, 0, ())
    assert any("dB on 6 of the samples" in w for w in result.table.warnings)
    assert result.table.amax == quantlab.calibrate(conv_net(), image_batches(1), result.base).amax


def test_auto_tells_what_it_is_at() -> None:
    stages: list[tuple[str, int, list[int]]] = []

    def on_stage(label: str, total: int):  # type: ignore[no-untyped-def]
        stages.append((label, total, []))
        return stages[-1][2].append

    result = calibrate_auto(conv_net(), image_batches(20), on_stage=on_stage)
    assert [label for label, _, _ in stages] == ["calibrating without those held back", "comparing scales"]
    assert all(done and done == sorted(done) and done[-1] <= total for _, total, done in stages)
    assert stages[1][2][-1] == result.forwards


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


def test_auto_leaves_a_short_last_batch_of_a_fixed_batch_model_out() -> None:
    whole, short = image_batches(6, 6), image_batches(1, 4, seed=99)
    result = calibrate_auto(conv_net(batch="6"), [*whole, *short])
    assert result.table.amax == calibrate_auto(conv_net(batch="6"), whole).table.amax
    (notice,) = [w for w in result.table.warnings if w.kind == "short_batch"]
    assert notice == "the last 4 samples do not fill a batch of 6 and were left out"


def test_auto_without_a_floating_point_output_raises() -> None:
    text = "m (float[N,6] x) => (int64[N] y) { a = MatMul (x, w)  y = ArgMax <axis = 1, keepdims = 0> (a) }"
    with pytest.raises(DataError, match="no floating point output"):
        calibrate_auto(parse(text, {"w": floats(6, 4)}), [{"x": floats(2, 6, seed=k)} for k in range(3)])


@pytest.mark.parametrize("number", [0, 1, 2, 5, 6, 7, 9])
def test_batch_that_is_broken_is_named_by_its_number_in_the_stream(number: int) -> None:
    batches = image_batches(10)
    batches[number] = {"image": batches[number]["image"].astype(np.float64)}
    with pytest.raises(DataError, match=f"^batch {number}, input 'image': got float64"):
        calibrate_auto(conv_net(), batches)


@pytest.mark.parametrize("number", [1, 3, 7])
def test_short_batch_in_the_middle_is_named_by_its_number_in_the_stream(number: int) -> None:
    batches = image_batches(10)
    batches[number] = image_batches(1, 4)[0]
    with pytest.raises(DataError, match=f"^batch {number}, it has 4 samples, the network takes 6"):
        calibrate_auto(conv_net(batch="6"), batches)


def test_values_that_are_not_finite_are_named_by_their_batch() -> None:
    batches = image_batches(10)
    batches[8]["image"][0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="^batch 8, .*NaN"):
        calibrate_auto(conv_net(), batches)
