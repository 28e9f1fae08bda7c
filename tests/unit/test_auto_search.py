"""What is held back, what a part of the network takes instead, and when it is kept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from quantlab.onnx_model import TensorSpec
from quantlab.tune.held_back import ENOUGH, Split, how_many
from quantlab.tune.refine import error_db, is_better, refine

FREE = [TensorSpec("x", np.dtype(np.float32), ("N", 2))]
FIXED = [TensorSpec("x", np.dtype(np.float32), (4, 2))]


def stream(samples: int, size: int) -> list[dict[str, np.ndarray]]:
    x = np.arange(samples, dtype=np.float32)[:, None].repeat(2, axis=1)
    return [{"x": x[k : k + size]} for k in range(0, samples, size)]


def values(batches: object) -> list[float]:
    return [float(v) for batch in batches for v in batch["x"][:, 0]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("samples", "held"), [(0, 0), (7, 0), (8, 4), (32, 16), (48, 16), (128, 42), (512, ENOUGH), (9999, ENOUGH)]
)
def test_a_third_is_held_back_half_of_few_and_never_more_than_is_enough(samples: int, held: int) -> None:
    assert how_many(samples) == held


@pytest.mark.parametrize(("inputs", "size"), [(FREE, 1), (FREE, 5), (FREE, 64), (FIXED, 4)])
def test_every_sample_is_in_one_part_and_the_parts_are_the_same_every_time(inputs, size) -> None:  # type: ignore[no-untyped-def]
    split = Split(stream(64, size), inputs, 64, -(-64 // size))
    rest = values(split)
    search, proof = values(split.search), values(split.proof)
    assert sorted([*rest, *search, *proof]) == list(range(64))
    assert len(search) > 0
    assert len(proof) >= len(search)
    again = Split(stream(64, size), inputs, 64, -(-64 // size))
    assert values(again) == rest
    assert values(again.search) == search
    classes = [v % 2 for v in (*search, *proof)]
    assert set(classes) == {0, 1}  # classes that come in turn are in both


def test_a_stream_of_one_buffer_keeps_what_was_held_back() -> None:
    buffer = np.empty((4, 2), np.float32)

    def filled():  # type: ignore[no-untyped-def]
        for batch in stream(64, 4):
            buffer[...] = batch["x"]
            yield {"x": buffer}

    split = Split(list(stream(64, 4)), FREE, 64, 16)
    rest = values(split)
    split.source = filled()
    assert [v for batch in split for v in batch["x"][:, 0]] == rest
    assert not set(values(split.search)) & set(rest)


def test_one_fixed_batch_cannot_be_split() -> None:
    assert not Split(stream(4, 4), FIXED, 64, 1).holds_back


def test_better_is_more_than_other_samples_would_change() -> None:
    noise = np.random.default_rng(0).uniform(0.5, 1.5, 40)
    assert is_better(0.9 * noise, noise, 2)
    assert not is_better(0.995 * noise, noise, 2)  # 0.02 dB
    assert not is_better(np.roll(0.97 * noise, 1), noise, 2)  # 0.13 dB, and samples that differ by more
    assert not is_better(np.array([0.1]), np.array([1.0]), 1)  # one sample proves nothing
    assert is_better(noise, np.full(40, np.inf), 2)
    assert not is_better(np.full(40, np.inf), noise, 2)


def scene(factor: Mapping[str, float]):  # type: ignore[no-untyped-def]
    """Errors that are a product: unit `u` with option 'other' multiplies them by `factor[u]`."""
    tried: list[dict[str, str]] = []

    def measure(options: Mapping[str, str]) -> np.ndarray:
        tried.append(dict(options))
        product = np.prod([factor[u] if o == "other" else 1.0 for u, o in options.items()])
        return np.full(20, float(product))

    return measure, tried


def test_each_gain_is_measured_with_the_choices_before_it() -> None:
    measure, tried = scene({"a": 2.0, "b": 0.5, "c": 0.5, "d": 2.0})
    chosen, steps = refine("abcd", "base", ["other"], measure, 4)
    assert chosen == {"a": "base", "b": "other", "c": "other", "d": "base"}
    assert [(s.units, s.option) for s in steps] == [(("b",), "other"), (("c",), "other")]
    assert [s.gain_db for s in steps] == pytest.approx([error_db(np.array([0.5]))] * 2)
    assert len(tried) == 1 + 4


def test_few_trials_go_to_runs_of_neighbours_and_too_few_to_none() -> None:
    measure, tried = scene({"a": 0.9, "b": 0.5, "c": 2.0, "d": 0.9})
    chosen, steps = refine("abcd", "base", ["other"], measure, 2)
    assert chosen == {"a": "other", "b": "other", "c": "base", "d": "base"}
    assert len(steps) == 1
    assert len(tried) == 3
    tried.clear()
    assert refine("abcd", "base", ["other"], measure, 1) == (dict.fromkeys("abcd", "base"), [])
    assert not tried
