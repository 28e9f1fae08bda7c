"""Calibration in parts: a batch whose activations are large is run a few samples at a time, with the same table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.api import calibrate_all
from quantlab.calibration import offline
from quantlab.calibration.offline import CalibrationTarget, RunOptions
from quantlab.observers import OBSERVERS, Entropy, MinMax
from quantlab.ort import pieces

SAMPLE_BYTES = 4 * (3 * 64 + 5 * 8 * 64 + 8 + 8 + 5)
"""What all tensors of `conv_net` take for one sample: the image, a, r, c, s, t; the pooled and flat one; the logits."""


@pytest.fixture
def read_sizes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Parts of so many samples of `conv_net`, and the sizes of those that are read from then on."""

    def in_parts_of(samples: int) -> list[int]:
        sizes: list[int] = []
        read_part = offline.ActivationReader.read_part

        def spy(reader: offline.ActivationReader, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            sizes.append(len(batch["image"]))
            return read_part(reader, batch)

        monkeypatch.setattr(pieces, "PIECE_BYTES", samples * SAMPLE_BYTES)
        monkeypatch.setattr(offline.ActivationReader, "read_part", spy)
        return sizes

    return in_parts_of


def test_bytes_of_a_sample_are_those_of_all_tensors() -> None:
    reader = offline.ActivationReader(conv_net())
    assert reader.bytes_per_sample(image_batches(1)[0]) == SAMPLE_BYTES


@pytest.mark.parametrize(
    ("part", "first", "second"),
    [
        (1, [1] * 7, [1] * 5),
        (2, [2, 2, 2, 1], [2, 2, 1]),
        (3, [3, 3, 1], [3, 2]),
        (5, [5, 2], [5]),
        (6, [6, 1], [5]),
    ],
)
def test_batch_in_parts_gives_the_table_of_the_whole_batch(
    read_sizes: Callable[[int], list[int]], part: int, first: list[int], second: list[int]
) -> None:
    batches = [{"image": np.zeros((7, 3, 8, 8), np.float32)}, *image_batches(3, 7), {"image": 9 * floats(5, 3, 8, 8)}]
    whole = calibrate_all(conv_net(), batches, OBSERVERS, tensors="all")
    sizes = read_sizes(part)
    cut = calibrate_all(conv_net(), batches, OBSERVERS, tensors="all")
    # the image is all zero in the first batch, so its range is looked for in it and in the second: they are run twice
    assert sizes == [*first * 2, *first * 2, *first * 2, *second]
    for name, table in whole.tables.items():
        assert cut.tables[name].provenance == table.provenance
        np.testing.assert_allclose(list(cut.tables[name].amax.values()), list(table.amax.values()), rtol=1e-6)
    for name, histogram in whole.histograms.items():
        assert cut.histograms[name].total == histogram.total, name


def test_two_samples_are_cut_and_one_is_not(read_sizes: Callable[[int], list[int]]) -> None:
    wanted = calibrate_all(conv_net(), image_batches(2, 2), OBSERVERS).tables["entropy"].amax
    sizes = read_sizes(1)
    found = calibrate_all(conv_net(), image_batches(2, 2), OBSERVERS, tensors="all").tables["entropy"].amax
    assert sizes == [1] * (2 * 2 + 2)  # the first batch twice, for its range
    np.testing.assert_allclose([found[t] for t in wanted], list(wanted.values()), rtol=1e-6)
    sizes.clear()
    calibrate_all(conv_net(), image_batches(2, 1), OBSERVERS)
    assert sizes == []  # whether samples are independent cannot be seen from one: they are run as they come


def test_batch_of_a_fixed_size_is_never_cut(read_sizes: Callable[[int], list[int]]) -> None:
    wanted = quantlab.calibrate(conv_net(batch="6"), image_batches(2, 6)).amax
    sizes = read_sizes(1)
    assert quantlab.calibrate(conv_net(batch="6"), image_batches(2, 6)).amax == wanted
    assert sizes == []


def test_batch_that_is_one_part_is_run_once(read_sizes: Callable[[int], list[int]]) -> None:
    sizes = read_sizes(6)
    calibrate_all(conv_net(), image_batches(2, 6), OBSERVERS, tensors="all")
    assert sizes == [6, 6]


@pytest.mark.parametrize("sample", range(7))
@pytest.mark.parametrize("part", [2, 3, 4])
def test_every_sample_of_a_batch_in_parts_is_seen(
    read_sizes: Callable[[int], list[int]], part: int, sample: int
) -> None:
    x = floats(7, 3, 8, 8)
    x[sample, 0, 0, 0] = -50  # the largest of all, in one sample alone
    sizes = read_sizes(part)
    run = calibrate_all(conv_net(), [{"image": x}], {"minmax": MinMax(), "entropy": Entropy()}, tensors="all")
    assert max(sizes) == part
    assert run.tables["minmax"].amax["image"] == 50
    histogram = run.histograms["image"]
    assert (histogram.range, histogram.total, histogram.counts[-1]) == (50, x.size, 1)
    assert (histogram.amax, histogram.last_amax, histogram.batches) == (50, 50, 1)


def test_observer_that_a_user_wrote_gets_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Written(MinMax):
        pass

    sizes: list[int] = []
    Written.observe = lambda self, x: sizes.append(len(x)) or MinMax.observe(self, x)  # type: ignore[method-assign]
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    quantlab.calibrate(conv_net(), image_batches(2, 6), Written(), tensors=["r"])
    assert sizes == [6, 6]


def test_inputs_without_the_batch_dimension_are_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    for shape in ("4,3", "M,3"):
        model = parse(f"m (float[N,4] x, float[{shape}] w) => (float[N,3] y) {{ y = MatMul (x, w) }}")
        batch = {"x": floats(6, 4), "w": floats(4, 3)}
        table = quantlab.calibrate(model, [batch], MinMax(), tensors="all")
        assert table.amax["y"] == pytest.approx(np.abs(batch["x"] @ batch["w"]).max(), rel=1e-6)


@pytest.mark.parametrize(
    "mix",
    ["m = ReduceMean <axes = [0], keepdims = 1> (x)  y = Sub (x, m)", "y = CumSum (x, zero)"],
    ids=["mean", "sum"],
)
def test_samples_that_depend_on_each_other_are_never_cut(monkeypatch: pytest.MonkeyPatch, mix: str) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    model = parse(f"m (float[N,4] x) => (float[N,4] y) {{ {mix} }}", {"zero": np.array(0, np.int64)})
    x = floats(6, 4) + 3
    table = quantlab.calibrate(model, [{"x": x}], MinMax(), tensors=["y"])
    expected = x - x.mean(0) if "Mean" in mix else x.cumsum(0)
    assert table.amax["y"] == pytest.approx(np.abs(expected).max(), rel=1e-5)


def test_part_read_into_buffers_equals_the_same_samples_read_anew() -> None:
    reader = offline.ActivationReader(conv_net())
    batch = image_batches(1, 6)[0]
    assert reader.bytes_per_sample(batch)
    for rows in (slice(0, 4), slice(4, 6), slice(1, 6)):  # shorter, then longer than the buffers
        piece = {"image": batch["image"][rows]}
        wanted = reader.read_one(piece)
        got = reader.read_part(piece)
        assert list(got) == list(wanted)
        for name in wanted:
            np.testing.assert_array_equal(got[name], wanted[name])


def test_minmax_alone_fills_no_histogram() -> None:
    target = CalibrationTarget(conv_net())
    run = offline.run_calibration(target, image_batches(), {"minmax": MinMax()}, RunOptions(keep_histograms=False))
    kept = offline.run_calibration(target, image_batches(), {"minmax": MinMax()})
    assert run.histograms == {}
    assert list(kept.histograms) == list(kept.tables["minmax"].amax)
    assert run.tables["minmax"].amax == kept.tables["minmax"].amax
    zero = [{"image": np.zeros((4, 3, 8, 8), np.float32)}]
    table = quantlab.calibrate(conv_net(), zero, MinMax(), tensors=["image"])
    assert [(w.kind, w.tensor) for w in table.warnings] == [("all_zero", "image")]


@pytest.mark.parametrize("sizes", [((8, 8), (8, 12)), ((8, 12), (8, 8)), ((8, 8), (16, 8), (8, 8))])
def test_batches_of_other_height_or_width_are_counted(sizes: tuple[tuple[int, int], ...]) -> None:
    text = "m (float[N,4,H,W] x) => (float[N,8,H,W] y) { a = Conv (x, w)  r = Relu (a)  y = Conv (r, v) }"
    model = parse(text, {"w": floats(8, 4, 1, 1), "v": floats(8, 8, 1, 1)})
    batches = [{"x": floats(4, 4, *size, seed=k)} for k, size in enumerate(sizes)]
    table = quantlab.calibrate(model, batches, MinMax(), tensors="all")
    for k, batch in enumerate(batches):
        alone = quantlab.calibrate(model, [batch], MinMax(), tensors="all")
        assert all(alone.amax[t] <= table.amax[t] for t in table.amax), k
    assert table.amax["x"] == max(np.abs(b["x"]).max() for b in batches)
