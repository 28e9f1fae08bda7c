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


def test_auto_without_a_floating_point_output_raises() -> None:
    text = "m (float[N,6] x) => (int64[N] y) { a = MatMul (x, w)  y = ArgMax <axis = 1, keepdims = 0> (a) }"
    with pytest.raises(DataError, match="no floating point output"):
        calibrate_auto(parse(text, {"w": floats(6, 4)}), [{"x": floats(2, 6, seed=k)} for k in range(3)])


@pytest.mark.parametrize("number", [0, 1, 2, 5, 6, 7, 9])
def test_batch_that_is_broken_is_named_by_its_number_in_the_stream(number: int) -> None:
    """1 and 6 are held back, so that the calibration counts others."""
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
