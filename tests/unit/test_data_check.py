"""Is the data enough: data made so that the answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, parse
from quantlab.api import check_data
from quantlab.calibration import DataCheck, TensorCheck
from quantlab.calibration.sufficiency import _settled

LINEAR = "m (float[N,4] x) => (float[N,4] y) { y = MatMul (x, w) }"
MODEL = parse(LINEAR, {"w": floats(4, 4)})


def batches(*amax: float, size: int = 50) -> list[dict[str, np.ndarray]]:
    """Uniform values up to `amax`, which is reached, a batch each."""
    generator = np.random.default_rng(0)
    found = []
    for value in amax:
        x = generator.uniform(-value, value, (size, 4)).astype(np.float32)
        x[0, 0] = value
        found.append({"x": x})
    return found


def only(check: DataCheck) -> TensorCheck:
    (tensor,) = check.tensors
    return tensor


def test_scale_that_settles_at_once_needs_one_batch() -> None:
    check = check_data(MODEL, batches(*[1.0] * 10), quantlab.MinMax())
    assert (check.samples, check.held_back, check.enough) == (400, 100, 50)
    tensor = only(check)
    assert (tensor.settled, tensor.saturated, tensor.order, tensor.alone) == (50, 0.0, 0.0, None)
    assert check.findings == ["50 of the 400 samples would have done: from there on every scale stays within 5%"]


def test_scale_that_grows_to_the_end_needs_more_data() -> None:
    # batches 4 and 9 are held back; the looks are after 1, 2, 4 and 8 of the others
    check = check_data(MODEL, batches(1, 2, 3, 4, 1, 5, 6, 7, 8, 1), quantlab.MinMax())
    assert check.enough is None
    assert "1 of 1 scales still moved by more than 5%" in check.findings[0]


def test_batch_that_alone_decides_is_named() -> None:
    data = batches(*[1.0] * 7)
    data[5]["x"][0, 0] = 9
    alone = only(check_data(MODEL, data, quantlab.MinMax()))
    assert alone.alone == 5
    # an algorithm that cuts the outlier off is not decided by it
    assert only(check_data(MODEL, data, quantlab.Percentile(99))).alone is None


def test_held_back_images_beyond_the_range_are_counted() -> None:
    check = check_data(MODEL, batches(1, 1, 1, 1, 4, 1), quantlab.MinMax())
    tensor = only(check)
    assert tensor.saturated == pytest.approx(0.75, abs=0.06)  # uniform to 4, kept to 1
    assert tensor.saturated_before == 0
    assert check.findings[-1] == (
        f"1 scales are too small for held-back images (worst: 'x', {tensor.saturated:.2%} of its values saturate "
        "against 0.00% in calibration)"
    )
    roomy = only(check_data(MODEL, batches(4, 1, 1, 1, 1, 1), quantlab.MinMax()))
    assert roomy.unused == pytest.approx(0.75)


def test_values_that_saturate_in_calibration_too_are_no_surprise() -> None:
    check = check_data(MODEL, batches(1, size=500) * 10, quantlab.Percentile(90))
    tensor = only(check)
    assert tensor.saturated == tensor.saturated_before == pytest.approx(0.1, abs=0.002)
    assert not any("held-back" in finding for finding in check.findings)


def test_order_matters_to_tensorrts_histogram_where_its_range_doubles_late() -> None:
    x = floats(4000, 4, seed=3, scale=0.05)
    x[1000:2000] *= 7  # each beginning has another range
    x[3999] = 40
    data = [{"x": x[k : k + 1000]} for k in range(0, 4000, 1000)]
    tensor = only(check_data(MODEL, data, quantlab.Percentile(99.9)))
    first = quantlab.calibrate(MODEL, data, quantlab.Percentile(99.9))
    turned = quantlab.calibrate(MODEL, [*data[2:], *data[:2]], quantlab.Percentile(99.9))
    other = quantlab.calibrate(MODEL, [*data[1:], *data[:1]], quantlab.Percentile(99.9))
    assert first.amax["x"] != turned.amax["x"] != other.amax["x"]
    assert tensor.order == pytest.approx(float(turned.amax["x"]) / float(first.amax["x"]) - 1)


def test_order_cannot_matter_to_one_batch_or_equal_ones() -> None:
    one = {"x": floats(200, 4, seed=3)}
    for data in ([one], [one, one]):
        check = check_data(MODEL, data)
        assert only(check).order == 0
        assert not any("the order of the batches" in f for f in check.findings)
    assert "there is one batch" in check_data(MODEL, [one]).findings[0]


def test_short_batch_of_a_fixed_batch_model_is_not_held_back() -> None:
    model = parse("m (float[8,4] x) => (float[8,4] y) { y = MatMul (x, w) }", {"w": floats(4, 4)})
    data = [{"x": floats(8, 4, seed=k)} for k in range(4)] + [{"x": floats(6, 4)}]
    assert check_data(model, data).held_back == 0


def test_short_last_batch_of_a_fixed_batch_model_is_left_out_wherever_the_stream_begins() -> None:
    model = parse("m (float[8,4] x) => (float[8,4] y) { y = MatMul (x, w) }", {"w": floats(4, 4)})
    data = [{"x": floats(8, 4, seed=k)} for k in range(6)]
    short = {"x": floats(3, 4)}
    check = check_data(model, [*data, short])
    assert replace(check, notices=()) == check_data(model, data)
    assert [(n, n.kind) for n in check.notices] == [
        ("the last 3 samples do not fill a batch of 8 and were left out", "short_batch")
    ]


def test_fewer_batches_than_can_be_held_back_is_a_finding() -> None:
    check = check_data(MODEL, batches(1, 1, 1), quantlab.MinMax())
    assert check.held_back == 0
    assert check.findings[-1] == "fewer than 5 batches: none were held back to judge the scales"


def test_shuffled_batches_are_refused() -> None:
    generator = np.random.default_rng(0)
    stream = quantlab.IterableBatches(lambda: [{"x": generator.standard_normal((8, 4)).astype(np.float32)}])
    with pytest.raises(quantlab.QuantlabError, match="not the same in the second pass"):
        check_data(MODEL, stream)


@pytest.mark.parametrize(
    ("amax", "expected"),
    [
        ({1: 1.0, 2: 1.0, 4: 1.0}, 1),
        ({1: 2.0, 2: 1.0, 4: 1.0}, 2),
        ({1: 1.0, 2: 2.0, 4: 1.0}, 4),
        ({3: 0.0}, 3),
        ({1: 95.0, 2: 105.0, 4: 100.0}, 1),  # 5 % is within the tolerance, in both directions
        ({1: 94.9, 2: 100.0, 4: 100.0}, 2),
        ({1: 105.1, 2: 100.0, 4: 100.0}, 2),
        ({4: 100.0, 1: 94.0, 2: 96.0}, 2),  # in order of the samples
    ],
)
def test_settled_is_the_first_look_after_which_nothing_moves(amax: dict[int, float], expected: int) -> None:
    assert _settled(amax) == expected


def test_cli_prints_findings_and_json(cli: Callable, tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", floats(40, 3, 8, 8))
    run = ["check-data", tmp_path / "m.onnx", "--data", tmp_path / "x.npy", "--batch-size", 4, "--algorithm", "mse"]
    shown = cli(*run)
    assert shown.code == 0
    assert "scales from 32 samples, judged by 8 held back" in shown.out
    content = json.loads(cli(*run, "--json").out)
    assert content["samples"] == 32
    assert content["findings"]
