"""The latency benchmark over the runtime without a GPU: engines and figures are kept, its table says what they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import quantlab
from engine_double import HostRuntime
from models import conv_net, floats, image_batches, parse, run
from quantlab.engines.bench import BenchOptions

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import bench_latency
import skeleton

WEIGHTS = {"w": floats(64, 16, 3, 3), "v": floats(64, 64, 1, 1, seed=1, scale=0.1), "b": floats(64, seed=2)}
NET = """m (float[2,16,8,8] x) => (float[2,64,6,6] y) {
    a = Conv (x, w, b)
    r = Relu (a)
    y = Conv (r, v)
}"""


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """One small network, its table, and a peer that failed."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    model = conv_net("2")
    onnx.save(skeleton.strip(model), folder / "small.onnx")
    quantlab.calibrate(model, image_batches(2, size=2), "minmax", tensors="all").save(folder / "small.json")
    (folder / "small.modelopt.txt").write_text("no kernel\nand more\n")
    return folder


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bench_latency.Bench:
    monkeypatch.setattr(bench_latency, "MEASURE", BenchOptions(1.0, 0.01, 4, rounds=2, transfers=False))
    return bench_latency.Bench(HostRuntime(), tmp_path, 3, bench_latency.CANDIDATES)


def results(bench: bench_latency.Bench) -> dict[str, object]:
    return json.loads((bench.results / "small.result.json").read_text())


def test_every_candidate_is_built_measured_and_kept(bench: bench_latency.Bench, zoo: Path) -> None:
    bench_latency.run_all(bench, [zoo / "small.onnx"], [])
    values = results(bench)
    assert list(values["engines"]) == ["fp16", "implicit", "quantlab"]
    assert values["failed"] == {"modelopt": "ModelOpt: no kernel"}
    assert [options.precision for options, _ in bench.runtime.builds] == ["fp16", "best", "best"]
    assert {options.optimization_level for options, _ in bench.runtime.builds} == {3}
    row = bench_latency.table_of(bench.results).splitlines()[-1].split(" | ")
    medians = [f"{bench_latency.median_ms(e):.4f}" for e in values["engines"].values()]
    assert row[:6] == ["| small", "2", *medians[:2], "fails", medians[2]]
    assert row[8].startswith("3 of 3")


def test_second_run_builds_and_measures_nothing(bench: bench_latency.Bench, zoo: Path) -> None:
    bench_latency.run_all(bench, [zoo / "small.onnx"], [])
    before, built = (bench.results / "small.result.json").stat().st_mtime_ns, len(bench.runtime.builds)
    bench_latency.run_all(bench, [zoo / "small.onnx"], [])
    assert len(bench.runtime.builds) == built
    assert (bench.results / "small.result.json").stat().st_mtime_ns == before


def test_run_that_was_cut_short_builds_only_what_is_missing(bench: bench_latency.Bench, zoo: Path) -> None:
    bench_latency.run_all(bench, [zoo / "small.onnx"], [])
    for file in (bench.results / "engines").glob("small.quantlab.*"):
        file.unlink()
    (bench.results / "small.result.json").unlink()
    built = len(bench.runtime.builds)
    bench_latency.run_all(bench, [zoo / "small.onnx"], [])
    assert len(bench.runtime.builds) == built + 1
    assert list(results(bench)["engines"]) == ["fp16", "implicit", "quantlab"]


def test_unknown_model_is_named(bench: bench_latency.Bench, zoo: Path) -> None:
    with pytest.raises(SystemExit, match="the zoo has no large; it has small"):
        bench_latency.run_all(bench, [zoo / "small.onnx"], ["large"])


def test_ratio_is_to_the_best_of_the_others() -> None:
    engines = {"fp16": [4.0, 4.0, 4.0], "implicit": [2.0, 2.0, 2.2], "quantlab": [1.0, 1.0, 1.0]}
    rows = {name: {"rounds_ms": rounds, "int8": "all"} for name, rounds in engines.items()}
    line = bench_latency.line_of({"model": "m", "batch": 8, "engines": rows})
    assert line == "| m | 8 | 4.0000 | 2.0000 | fails | 1.0000 | 0.500 | 10.0% | all |"


def test_skeleton_has_no_large_weights_and_fills_to_the_same_bytes() -> None:
    model = parse(NET, WEIGHTS)
    stripped = skeleton.strip(model)
    sizes = {t.name: len(t.raw_data) for t in stripped.graph.initializer}
    assert sizes["b"] == 4 * 64  # small, so it is kept
    assert sizes["w"] < 64 * 16 * 9
    filled = skeleton.fill(stripped)
    assert filled.SerializeToString() == skeleton.fill(stripped).SerializeToString()
    onnx.checker.check_model(filled, full_check=True)


def test_filled_weights_have_the_spread_of_every_channel() -> None:
    scaled = WEIGHTS["w"] * np.linspace(0.1, 2, 64, dtype=np.float32).reshape(64, 1, 1, 1)
    filled = skeleton.fill(skeleton.strip(parse(NET, WEIGHTS | {"w": scaled})))
    made = {t.name: numpy_helper.to_array(t) for t in filled.graph.initializer}
    wanted = np.sqrt((scaled.astype(np.float64) ** 2).mean(axis=(1, 2, 3)))
    got = np.sqrt((made["w"].astype(np.float64) ** 2).mean(axis=(1, 2, 3)))
    # 144 values: the root mean square of a channel strays by a factor of 1 +- 4 / sqrt(2 * 144)
    np.testing.assert_allclose(got, wanted, rtol=4 / np.sqrt(2 * 144))
    assert not np.array_equal(made["w"], scaled)


def test_made_up_batch_fits_the_model() -> None:
    model = parse(NET, WEIGHTS)
    batch = skeleton.made_up_batch(model, 0)
    assert {name: x.shape for name, x in batch.items()} == {"x": (2, 16, 8, 8)}
    assert all(np.isfinite(output).all() for output in run(model, batch))
    assert not np.array_equal(batch["x"], skeleton.made_up_batch(model, 1)["x"])
