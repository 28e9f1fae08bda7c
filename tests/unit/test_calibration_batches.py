"""Batches that calibration takes, in their order, and those that it refuses by name."""

from __future__ import annotations

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.errors import ConfigError, DataError
from quantlab.observers import MinMax


def test_fixed_batch_leaves_out_a_short_end_and_says_so() -> None:
    batches = [*image_batches(2, 6), *image_batches(1, 4, seed=8)]
    table = quantlab.calibrate(conv_net(batch="6"), batches)
    assert table.provenance.samples == 12
    assert table.warnings == ("the last 4 samples do not fill a batch of 6 and were left out",)
    assert [w.kind for w in table.warnings] == ["short_batch"]
    whole = quantlab.calibrate(conv_net(batch="6"), batches[:2])
    assert (table.amax, table.provenance) == (whole.amax, whole.provenance)


def test_fixed_batch_with_a_short_first_batch_raises_what_the_network_takes() -> None:
    for batches in (image_batches(1, 4), [*image_batches(1, 4), *image_batches(1, 6)]):
        with pytest.raises(DataError, match="batch 0, it has 4 samples, the network takes 6 Hint: give at least 6"):
            quantlab.calibrate(conv_net(batch="6"), batches)


def test_fixed_batch_with_a_larger_batch_raises_what_the_network_takes() -> None:
    with pytest.raises(DataError, match=r"batch 1, input 'image': got float32 \(8, 3, 8, 8\), expected float32 \(6, 3"):
        quantlab.calibrate(conv_net(batch="6"), [*image_batches(1, 6), *image_batches(1, 8)])


def test_fixed_batch_with_a_short_middle_raises() -> None:
    batches = [*image_batches(1, 6), *image_batches(1, 4), *image_batches(1, 6)]
    with pytest.raises(DataError, match="batch 1, it has 4 samples, the network takes 6"):
        quantlab.calibrate(conv_net(batch="6"), batches)


def test_dynamic_batch_takes_a_short_end() -> None:
    table = quantlab.calibrate(conv_net(), [*image_batches(1, 6), *image_batches(1, 2)])
    assert table.provenance.samples == 8
    assert not table.warnings


def test_several_inputs_are_fed_by_name() -> None:
    model = parse("two (float[N,4] x, float[N,4] y) => (float[N,4] z) { z = Add (x, y) }")
    batches = [{"y": floats(3, 4, seed=2), "x": floats(3, 4, seed=1)}]
    table = quantlab.calibrate(model, batches, MinMax(), tensors="all")
    assert table.amax["z"] == np.abs(batches[0]["x"] + batches[0]["y"]).max()


@pytest.mark.parametrize(
    ("batch", "match"),
    [
        ({"picture": floats(2, 3, 8, 8)}, r"batch 1, it has input\(s\) picture, the model has image"),
        (
            {"image": floats(2, 8, 8, 3)},
            r"batch 1, input 'image': got float32 \(2, 8, 8, 3\), expected float32 \(N, 3, 8",
        ),
        ({"image": floats(3, 8, 8)}, r"batch 1, input 'image': got float32 \(3, 8, 8\)"),
        ({"image": floats(2, 3, 8, 8).astype(np.float64)}, "batch 1, input 'image': got float64"),
        ({"image": [1, 2]}, "batch 1, input 'image': got list"),
        ({"image": [[1, 2], [3]]}, "batch 1, input 'image': got a ragged list, expected a numpy array"),
        ({"image": floats(0, 3, 8, 8)}, "batch 1, it is empty"),
        ({"image": np.full((2, 3, 8, 8), np.nan, np.float32)}, "batch 1, input 'image' contains NaN"),
        ({"image": np.full((2, 3, 8, 8), np.inf, np.float32)}, "batch 1, input 'image' contains infinity"),
    ],
)
def test_batch_that_does_not_fit_names_batch_and_input(batch: dict, match: str) -> None:
    with pytest.raises(DataError, match=match):
        quantlab.calibrate(conv_net(), [image_batches(1)[0], batch])


def test_ragged_list_for_any_input_raises_with_the_remedy() -> None:
    model = parse("two (float[N,4] x, float[N,4] y) => (float[N,4] z) { z = Add (x, y) }")
    for ragged, match in (("x", "batch 0, input 'x': got a ragged list"), ("y", "batch 0, input 'y': got list")):
        batch = {"x": floats(2, 4), "y": floats(2, 4)} | {ragged: [[1, 2], [3]]}
        with pytest.raises(DataError, match=f"{match}, expected a numpy array") as caught:
            quantlab.calibrate(model, [batch], tensors="all")  # type: ignore[list-item]
        assert "numpy" in str(caught.value.hint)


def test_progress_is_the_samples_so_far() -> None:
    seen: list[int] = []
    quantlab.calibrate(conv_net(), [*image_batches(2, 6), *image_batches(1, 2)], on_batch=seen.append)
    assert seen == [6, 12, 14]


def test_no_batches_raise() -> None:
    with pytest.raises(DataError, match="no calibration batches"):
        quantlab.calibrate(conv_net(), [])


def test_loader_error_comes_out_unchanged() -> None:
    def broken():
        yield image_batches(1)[0]
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        quantlab.calibrate(conv_net(), quantlab.IterableBatches(broken))


def test_memory_of_activations_does_not_grow_with_batches() -> None:
    import tracemalloc

    def peak(count: int) -> int:
        def stream():
            for k in range(count):
                yield {"image": floats(8, 3, 8, 8, seed=k)}

        tracemalloc.start()
        quantlab.calibrate(conv_net(), quantlab.IterableBatches(stream), tensors="all")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(2)  # what is cached on first use does not count
    assert peak(40) < 1.2 * peak(4)


def test_a_loader_that_is_a_generator_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match="Hint: pass the function that makes it"):
        quantlab.IterableBatches(b for b in image_batches())


def test_batches_that_are_no_mappings_raise_with_a_remedy() -> None:
    with pytest.raises(DataError, match="batch 0, it is a list.*LoaderBatches"):
        quantlab.calibrate(conv_net(), [[floats(2, 3, 8, 8)]])


def test_size_of_a_batch_is_that_of_the_models_first_input() -> None:
    model = parse("m (float[6,4] x, float[4,4] w) => (float[6,4] y) { y = MatMul (x, w) }")
    batches = [{"w": floats(4, 4), "x": floats(6, 4)}] * 2
    table = quantlab.calibrate(model, batches)
    assert (table.provenance.samples, table.warnings) == (12, ())


def test_stream_that_fills_one_buffer_again_and_again_is_counted_right() -> None:
    batches = image_batches(6)
    buffer = np.empty_like(batches[0]["image"])

    def stream():
        for batch in batches:
            buffer[...] = batch["image"]
            yield {"image": buffer}

    for observer in (MinMax(), quantlab.Entropy()):
        reused = quantlab.calibrate(conv_net(), quantlab.IterableBatches(stream), observer, tensors="all")
        assert reused.amax == quantlab.calibrate(conv_net(), batches, observer, tensors="all").amax


def test_error_of_an_earlier_batch_comes_before_that_of_a_later_one() -> None:
    model = parse("m (float[N,4] x) => (float[N,4] z) { y = Sqrt (x)  z = Relu (y) }")
    batches = [
        {"x": np.ones((1, 4), np.float32)},
        {"x": -np.ones((1, 4), np.float32)},
        {"x": np.ones((1, 5), np.float32)},
    ]
    with pytest.raises(DataError, match="batch 1, tensor 'y': values contain NaN"):
        quantlab.calibrate(model, batches, tensors="all")
