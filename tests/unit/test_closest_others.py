"""The closest model of networks in which a step is not allowed, not sure, or has other places than usual."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import floats, parse, run, sqnr_db
from quantlab.api import quantize_closest
from quantlab.data import ArrayBatches
from quantlab.qdq import EVERYTHING
from quantlab.tune import Closest
from quantlab.tune.closest_result import CODES, LEFT, RANGES, ROUNDING, Step, outcome

SPREAD = np.exp2(np.linspace(-5, 1, 16)).astype(np.float32)
LAYERS = "a = Conv <pads = [1,1,1,1]> (x, w, b)  r = Relu (a)"
WEIGHTS = {
    "w": floats(16, 3, 3, 3, seed=1, scale=0.3) * SPREAD[:, None, None, None],
    "b": floats(16, seed=2, scale=0.5) * SPREAD,
    "v": floats(8, 16, 1, 1, seed=3, scale=0.3) / SPREAD[None, :, None, None],
    "d": floats(8, seed=4, scale=0.3),
}


def samples(count: int = 48, seed: int = 0) -> np.ndarray:
    """Values that vary together, as those of images do."""
    x = np.einsum("cm,nmhw->nchw", floats(3, 2, seed=90), floats(count, 2, 8, 8, seed=seed + 91)) + 0.3
    return np.asarray(x, np.float32)


def closest(model: onnx.ModelProto, count: int = 48, x: np.ndarray | None = None) -> Closest:
    for node in model.graph.node:
        node.name = node.output[0]
    data = ArrayBatches({"x": samples(count) if x is None else x}, batch_size=16)
    return quantize_closest(model, data, EVERYTHING)


def gain_db(model: onnx.ModelProto, made: Closest) -> float:
    """Over the FP32 weights' nearest codes and the scales of auto, on data that nobody saw."""
    x = {"x": samples(64, seed=1000)}
    plain = quantlab.quantize(model, quantlab.calibrate(model, [x], "mse"), selection=EVERYTHING).model
    wanted, before, after = (run(m, x)[0] for m in (model, plain, made.quantized.model))
    return sqnr_db(wanted, after) - sqnr_db(wanted, before)


@pytest.mark.parametrize(
    ("outputs", "end"),
    [
        ("float[N,8,8,8] y, float[4] k", "y = Conv (r, v, d)  k = Identity (anchors)"),
        ("float[M,8] y", "c = Conv (r, v, d)  t = Transpose <perm = [0,2,3,1]> (c)  y = Reshape (t, rows)"),
    ],
    ids=["a constant beside them", "positions as rows"],
)
def test_outputs_that_are_no_rows_of_samples_are_judged_all_the_same(outputs: str, end: str) -> None:
    more = {"anchors": floats(5)[:4], "rows": np.array([-1, 8])}
    kept = {name: x for name, x in more.items() if name in end}
    model = parse(f"m (float[N,3,8,8] x) => ({outputs}) {{ {LAYERS}  {end} }}", WEIGHTS | kept)
    made = closest(model)
    assert {step.name: step.kept for step in made.steps}[RANGES]
    assert gain_db(model, made) > 6


def test_a_weight_beyond_float32_leaves_the_ranges_alone() -> None:
    """An input channel that is always 0 may have any weight: no factor is found for it, and none fits."""
    weights = {**WEIGHTS, "w": WEIGHTS["w"].copy()}
    weights["w"][0, 2] = 2e37
    x = samples(24)
    x[:, 2] = 0
    text = f"m (float[N,3,8,8] x) => (float[N,8,8,8] y) {{ {LAYERS}  y = Conv (r, v, d) }}"
    made = closest(parse(text, weights), x=x)
    step = next(step for step in made.steps if step.name == RANGES)
    assert not step.kept
    (told,) = [text for text in made.quantized.warnings if text.startswith(f"closest: {RANGES}")]
    assert told.startswith(f"closest: {RANGES}: nowhere, ") and "infinity" in told
    assert made.sqnr_db >= made.auto_db


def test_ranges_are_left_where_no_sample_is_held_back() -> None:
    model = parse(f"m (float[N,3,8,8] x) => (float[N,8,8,8] y) {{ {LAYERS}  y = Conv (r, v, d) }}", WEIGHTS)
    assert RANGES in {step.name for step in closest(model).steps}
    few = closest(model, 7)
    assert few.held_back == 0
    assert {step.name for step in few.steps} <= {CODES, ROUNDING}


@pytest.mark.parametrize("bound", [0.5, 6.0])
def test_clip_that_shares_its_scale_with_what_reaches_farther_keeps_its_bound(bound: float) -> None:
    text = f"""m (float[N,3,8,8] x) => (float[N,4,8,8] y) {{ {LAYERS}  c = Conv (r, v, d)
        e = Conv (c, p, d)  k = Clip (e, zero, bound)  f = Conv (c, q, d)  l = Relu (f)
        j = Concat <axis = 1> (k, l)  y = Conv (j, z) }}"""
    weights = {
        "p": floats(8, 8, 1, 1, seed=5, scale=0.3),
        "q": floats(8, 8, 1, 1, seed=6, scale=6.0),
        "z": floats(4, 16, 1, 1, seed=7),
        "zero": np.float32(0),
        "bound": np.float32(bound),
    }
    model = parse(text, WEIGHTS | weights)
    made = closest(model)
    ranges = next(step for step in made.steps if step.name == RANGES)
    assert ranges.kept and ranges.gain_db > 1
    assert gain_db(model, made) > 1


@pytest.mark.parametrize(
    ("kept", "gain", "where", "text"),
    [
        (True, 1.5, {"a": "x", "b": f"{LEFT}why"}, ", 1 places: +1.50 dB"),
        (False, 1.5, {"a": "x"}, ", 1 places: left out (+1.50 dB, not sure to last)"),
        (False, -0.5, {"a": "x"}, ", 1 places: left out (-0.50 dB)"),
        (False, 0.0, {"a": f"{LEFT}one", "b": f"{LEFT}one", "c": f"{LEFT}two"}, ": nowhere, one; two"),
    ],
)
def test_outcome_of_a_step_is_what_became_of_it(kept: bool, gain: float, where: dict[str, str], text: str) -> None:
    assert outcome(Step(RANGES, kept, gain, where)) == text
