"""The model closest to FP32: its steps are reported, kept where held-back samples show that they help, and it stays a
model for TensorRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from models import conv_net, floats, image_batches, initializers, parse, run, sqnr_db
from quantlab.api import quantize_closest
from quantlab.data import ArrayBatches
from quantlab.data.sample import sample_batches, sample_folder
from quantlab.errors import DataError, QuantlabError
from quantlab.onnx_model import GraphView
from quantlab.qdq import Selection, WeightStyle
from quantlab.qdq.lint import lint
from quantlab.tune import Closest, closest_steps
from quantlab.tune.closest_result import CODES, RANGES, ROUNDING

Cli = Callable[..., CliResult]
TEXT = """net (float[N,4,8,8] x) => (float[N,6,8,8] y) {
    a = Conv <pads = [1,1,1,1]> (x, w, b)
    r = Relu (a)
    c = Conv (r, u, d)
    s = Relu (c)
    y = Conv <pads = [1,1,1,1]> (s, v)
}"""


@cache
def network(batch: str = "N") -> onnx.ModelProto:
    """Channels of very different range, the second ReLU before zero padding."""
    spread = np.exp2(np.linspace(-4, 2, 16)).astype(np.float32)
    weights = {
        "w": floats(16, 4, 3, 3, seed=1) * spread[:, None, None, None],
        "b": floats(16, seed=2) * spread,
        "u": floats(16, 16, 1, 1, seed=3, scale=0.3) / spread[:, None, None],
        "d": floats(16, seed=4, scale=0.3),
        "v": floats(6, 16, 3, 3, seed=5, scale=0.2),
    }
    model = parse(TEXT.replace("[N,", f"[{batch},"), weights)
    for node in model.graph.node:
        node.name = node.output[0]
    return model


@cache
def samples(count: int = 48, seed: int = 0) -> np.ndarray:
    """Values that vary together, as those of images do."""
    x = np.einsum("cm,nmhw->nchw", floats(4, 2, seed=90), floats(count, 2, 8, 8, seed=seed + 91)) + 0.5
    return np.asarray(x + 0.05 * floats(count, 4, 8, 8, seed=seed + 92), np.float32)


def data(count: int = 48, size: int = 16) -> ArrayBatches:
    return ArrayBatches({"x": samples(count)}, batch_size=size)


@cache
def found() -> Closest:
    return quantize_closest(network(), data())


def zero_points(model: onnx.ModelProto) -> set[int]:
    view = GraphView(model)
    return {int(z) for node in view.qdq_nodes for z in np.unique(view.zero_point(node))}


def unseen_db(model: onnx.ModelProto) -> float:
    x = {"x": samples(64, seed=1000)}
    return sqnr_db(run(network(), x)[0], run(model, x)[0])


def test_every_step_says_what_it_brought_and_where() -> None:
    steps = {step.name: step for step in found().steps}
    assert list(steps) == [RANGES, CODES, ROUNDING]
    assert set(steps[RANGES].where) >= {"r"}
    assert set(steps[CODES].where) == {"r", "s"}
    assert "constant channels for the border" in steps[CODES].where["s"]
    assert set(steps[ROUNDING].where) == {"a", "c", "y"}
    for step in steps.values():
        assert step.kept
        assert step.gain_db >= 0.05
        assert all(step.where.values())


def test_model_is_closer_on_data_that_nobody_saw() -> None:
    plain = quantlab.quantize(network(), found().table).model
    assert found().sqnr_db > found().auto_db + 1
    assert found().held_back == 8
    assert unseen_db(found().quantized.model) > unseen_db(plain) + 1


def test_model_is_symmetric_int8_of_the_nodes_that_quantize_makes() -> None:
    model = found().quantized.model
    onnx.checker.check_model(model, full_check=True)
    assert zero_points(model) == {0}
    assert not lint(model)
    view = GraphView(model)
    codes = [x for x in initializers(model).values() if x.dtype == np.int8 and x.ndim > 1]
    assert len(codes) == 3
    assert all(np.abs(x.astype(int)).max() <= 127 for x in codes)
    assert all((view.scale(node) > 0).all() for node in view.qdq_nodes)
    assert {n.op_type for n in model.graph.node} <= {"Conv", "Relu", "QuantizeLinear", "DequantizeLinear"}
    assert [o.name for o in model.graph.output] == ["y"]


def test_steps_are_among_the_warnings_as_choices() -> None:
    told = [text for text in found().quantized.warnings if text.startswith("closest: ")]
    assert [text.split(": ")[1].split(",")[0] for text in told[:3]] == [RANGES, CODES, "weights rounded"]
    assert told[3] == (
        f"closest: {found().sqnr_db:.2f} dB on 8 held-back samples, auto alone {found().auto_db:.2f}"
    )  # fmt: skip
    assert len(told) == 4
    lines = found().describe()
    assert lines[0] == f"step {RANGES}: {found().steps[0].gain_db:+.2f} dB"
    assert len(lines) == sum(1 + len(step.where) for step in found().steps)


def test_same_data_give_the_same_bytes_and_stay_as_they_are() -> None:
    model, x = network(), samples().copy()
    before = model.SerializeToString()
    again = quantize_closest(model, ArrayBatches({"x": x}, batch_size=16))
    assert again.quantized.model.SerializeToString() == found().quantized.model.SerializeToString()
    assert again.steps == found().steps
    assert model.SerializeToString() == before
    np.testing.assert_array_equal(x, samples())


def test_where_no_step_helps_it_is_what_quantize_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closest_steps, "is_better", lambda *_: False)
    made = quantize_closest(network(), data())
    assert not any(step.kept for step in made.steps)
    assert made.sqnr_db == made.auto_db
    plain = quantlab.quantize(network(), made.table)
    assert made.quantized.model.SerializeToString() == plain.model.SerializeToString()
    assert any("nothing is better than auto alone" in text for text in made.quantized.warnings)
    assert sum("left out (" in text for text in made.quantized.warnings) == len(made.steps)


def test_steps_that_do_not_last_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step helps the samples that it is chosen by, and all of them do not help those of the last word."""
    real = closest_steps.Steps._errors

    def worse(self: closest_steps.Steps, qdq: onnx.ModelProto, by: object) -> np.ndarray:
        errors = real(self, qdq, by)
        return errors * 1e6 if by is self._proof and qdq is not self._quantized.model else errors

    monkeypatch.setattr(closest_steps.Steps, "_errors", worse)
    made = quantize_closest(network(), data())
    assert made.steps
    assert not any(step.kept for step in made.steps)
    plain = quantlab.quantize(network(), made.table).model
    assert made.quantized.model.SerializeToString() == plain.SerializeToString()


@pytest.mark.parametrize(("count", "size"), [(1, 1), (7, 4)])
def test_too_few_samples_are_judged_by_themselves(count: int, size: int) -> None:
    made = quantize_closest(network(), data(count, size))
    assert made.held_back == 0
    assert made.sqnr_db >= made.auto_db
    assert "on the samples that it comes from" in " ".join(made.quantized.warnings)
    assert zero_points(made.quantized.model) == {0}
    assert not lint(made.quantized.model)


@pytest.mark.parametrize(("batch", "count", "held_back"), [(4, 8, 4), (4, 16, 4), (1, 8, 2)])
def test_batches_of_a_fixed_size(batch: int, count: int, held_back: int) -> None:
    made = quantize_closest(network(str(batch)), data(count, batch))
    assert made.held_back == held_back
    assert made.sqnr_db >= made.auto_db
    assert not lint(made.quantized.model)


def test_excluded_node_stays_in_float() -> None:
    selection = Selection(exclude=("y",))
    made = quantize_closest(network(), data(), selection)
    view = GraphView(made.quantized.model)
    node = next(n for n in made.quantized.model.graph.node if n.name == "y")
    assert view.maker(node.input[1], "DequantizeLinear") is None
    assert {n.name for n in made.quantized.model.graph.node if view.maker(n.input[0], "DequantizeLinear")} >= {"a", "c"}
    assert all("y" not in step.where for step in made.steps)
    assert made.sqnr_db >= made.auto_db


def test_one_scale_per_weight() -> None:
    made = quantize_closest(network(), data(), weights=WeightStyle(per_channel=False))
    view = GraphView(made.quantized.model)
    assert all(view.scale(node).size == 1 for node in view.qdq_nodes)
    assert made.sqnr_db > made.auto_db
    assert zero_points(made.quantized.model) == {0}
    assert not lint(made.quantized.model)


def test_float_weights_give_the_numbers_of_codes() -> None:
    as_float = quantize_closest(network(), data(), weights=WeightStyle(stored="float"))
    assert [step.kept for step in as_float.steps] == [step.kept for step in found().steps]
    x = {"x": samples(8, seed=5)}
    np.testing.assert_array_equal(run(as_float.quantized.model, x)[0], run(found().quantized.model, x)[0])


def test_nothing_to_quantize() -> None:
    made = quantize_closest(network(), data(), Selection(exclude=("*",)))
    assert made.steps == ()
    assert made.held_back == 0
    assert not GraphView(made.quantized.model).qdq_nodes
    assert any(text.startswith("nothing is quantized") for text in made.quantized.warnings)


def test_progress_is_told() -> None:
    seen: list[int] = []
    stages: dict[str, list[int]] = {}

    def on_stage(name: str, total: int) -> Callable[[int], None]:
        assert total > 0
        return stages.setdefault(name, []).append

    quantize_closest(network(), data(), on_batch=seen.append, on_stage=on_stage)
    assert seen[-1] == 48
    assert stages["rounding weights by layer"][:3] == [1, 2, 3]
    assert stages["measuring channel ranges"]


@pytest.mark.long
def test_embedded_sample() -> None:
    images = sample_batches("calibration", 8)
    few = [batch for batch, _ in zip(images, range(2), strict=False)]
    made = quantize_closest(sample_folder() / "model.onnx", few)
    assert [step.name for step in made.steps] == [RANGES, CODES, ROUNDING]
    assert made.sqnr_db >= made.auto_db
    assert zero_points(made.quantized.model) == {0}
    assert not lint(made.quantized.model)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batches": []}, "no calibration batches"),
        ({"batches": [{"image": floats(2, 4, 8, 8)}]}, "the model has x"),
        ({"batches": [{"x": np.full((9, 4, 8, 8), np.nan, np.float32)}]}, "NaN"),
        ({"model": "none.onnx"}, "none.onnx does not exist"),
        ({"selection": Selection(exclude=("nothing*",))}, "nothing"),
    ],
)
def test_what_cannot_work_is_one_error(values: dict[str, object], message: str) -> None:
    with pytest.raises(QuantlabError, match=message):
        quantize_closest(**{"model": network(), "batches": data(), **values})


def test_output_that_is_not_finite_is_refused() -> None:
    text = "m (float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Gemm (x, w)  l = Log (x)  z = Sqrt (l) }"
    with pytest.raises(DataError, match="NaN or infinity"):
        quantize_closest(parse(text, {"w": floats(4, 4)}), [{"x": np.abs(floats(12, 4))}], Selection(include=("*",)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("closest")
    onnx.save(network(), work / "m.onnx")
    np.save(work / "x.npy", samples())
    onnx.save(conv_net(), work / "c.onnx")
    quantlab.calibrate(conv_net(), image_batches(2), tensors="all").save(work / "t.json")
    onnx.save(found().quantized.model, work / "q.onnx")
    return work


CLOSEST = ("quantize", "m.onnx", "--closest", "-o", "out.onnx")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((*CLOSEST, "--data", "x.npy", "--table", "t.json"), "--closest makes its own scales"),
        ((*CLOSEST, "--data", "x.npy", "--correct-bias"), "--closest makes its own scales"),
        ((*CLOSEST, "--data", "x.npy", "--requantize"), "--closest makes its own scales"),
        (CLOSEST, "--data"),
        (("quantize", "q.onnx", "--closest", "--data", "x.npy", "-o", "out.onnx"), "the model already has"),
    ],
)
def test_options_that_do_not_go_together(cli: Cli, work: Path, arguments: tuple[str, ...], expected: str) -> None:
    before = sorted(work.iterdir())
    done = cli(*arguments)
    assert done.code == 2
    assert done.err.count("error: ") == done.err.count("hint: ") == 1
    assert expected in next(line for line in done.err.splitlines() if line.startswith("error: "))
    assert sorted(work.iterdir()) == before


def test_command_writes_the_model_and_tells_of_every_step(cli: Cli, work: Path) -> None:
    done = cli(*CLOSEST, "--data", "x.npy", "--placement", "p.txt", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    told = facts["closest"]
    assert [step["name"] for step in told["steps"]] == [RANGES, CODES, ROUNDING]
    assert all(set(step) == {"name", "kept", "gain_db", "where"} for step in told["steps"])
    assert told["held_back"] == 8
    assert told["sqnr_db"] > told["auto_db"]
    assert facts["int8_weights"] == 3
    model = onnx.load(work / "out.onnx")
    assert not lint(model)
    assert RANGES in (work / "p.txt").read_text()
    assert unseen_db(model) > unseen_db(quantlab.quantize(network(), found().table).model) + 1


def test_command_prints_what_was_chosen(cli: Cli, work: Path) -> None:
    done = cli(*CLOSEST, "--data", "x.npy")
    assert done.code == 0, done.err
    assert f"closest: {RANGES}, " in done.err + done.out
    assert (work / "out.onnx").is_file()


def test_command_with_nothing_to_quantize_is_strict_json(cli: Cli, work: Path) -> None:
    done = cli(*CLOSEST, "--data", "x.npy", "--exclude", "*", "--json")
    assert done.code == 0, done.err

    def refuse(text: str) -> None:
        raise AssertionError(text)

    facts = json.loads(done.out, parse_constant=refuse)
    assert facts["closest"]["steps"] == []
    assert (work / "out.onnx").is_file()
