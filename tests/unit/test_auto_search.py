"""The search of `auto`, with an error that is made up: what is tried, what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

import quantlab
from models import CONCAT, conv_net, floats, image_batches, parse
from quantlab.api import calibrate_all
from quantlab.tune import calibrate_auto

Amax = Mapping[str, np.float32]


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
