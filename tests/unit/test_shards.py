"""Order-independent histograms, parts of the data, and their merging."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

import quantlab
from models import conv_net, floats, image_batches
from quantlab.api import calibrate_all, calibrate_shard, calibrate_shards
from quantlab.calibration import CalibrationShard, merge_files, merge_minmax, merge_shards
from quantlab.errors import ConfigError, DataError, MissingDependencyError
from quantlab.observers import OBSERVERS, Entropy, Histogram, MinMax

batches_of_values = st.lists(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 7.9, 8.0, 1e-3, 1e-36]), min_size=1, max_size=9),
    min_size=1,
    max_size=6,
)


def counted(batches: list[list[float]]) -> Histogram:
    histogram = Histogram(order_independent=True)
    for batch in batches:
        histogram.observe(np.array(batch, np.float32))
    return histogram


def state(h: Histogram) -> tuple[list[int], float, float, int]:
    return h.counts.tolist(), float(h.range), float(h.amax), h.zeros_before


@given(batches_of_values, st.randoms(use_true_random=False))
def test_counts_depend_on_the_values_alone(batches: list[list[float]], random: object) -> None:
    """any order and any batches of the same values give the same counts"""
    values = [value for batch in batches for value in batch]
    random.shuffle(values)  # type: ignore[attr-defined]
    first, second = counted(batches), counted([[v] for v in values])
    assert state(first) == state(second)
    x = np.array(values, np.float32)
    if first.range:
        expected = np.bincount((np.abs(x).astype(np.float64) * 2048 / float(first.range)).astype(int), minlength=2048)
        np.testing.assert_array_equal(first.counts, expected)
        assert first.range / 2 <= np.abs(x).max() < first.range


@given(batches_of_values, st.integers(0, 6))
def test_merged_parts_equal_the_whole(batches: list[list[float]], cut: int) -> None:
    """merge(a, b) = one pass over both, in either order"""
    whole = counted(batches)
    for parts in ((batches[:cut], batches[cut:]), (batches[cut:], batches[:cut])):
        merged = counted(parts[0])
        merged.merge(counted(parts[1]))
        assert state(merged) == state(whole)
        assert merged.batches == len(batches)


def test_histograms_in_tensorrts_order_refuse_to_merge() -> None:
    with pytest.raises(quantlab.QuantlabError, match="depends on the order of the batches"):
        Histogram().merge(Histogram(order_independent=True))


def test_order_independent_scales_do_not_depend_on_the_batches() -> None:
    images = np.concatenate([b["image"] * (1 + k) for k, b in enumerate(image_batches(4))])
    tables = []
    for order, size in ((np.arange(24), 6), (np.arange(24)[::-1], 4), (np.random.default_rng(0).permutation(24), 24)):
        data = [{"image": images[order[i : i + size]]} for i in range(0, 24, size)]
        tables.append(quantlab.calibrate(conv_net(), data, quantlab.Entropy(), order_independent=True))
    for table in tables[1:]:
        # the network itself rounds differently in batches of another size
        np.testing.assert_allclose(list(table.amax.values()), list(tables[0].amax.values()), rtol=1e-6)
    assert tables[0].provenance.source.endswith("order-independent")


@pytest.fixture
def shards() -> list[CalibrationShard]:
    return [calibrate_shard(conv_net(), image_batches(2, seed=seed)) for seed in (0, 10, 20)]


def test_merged_shards_give_every_algorithms_table_of_one_pass(shards: list[CalibrationShard]) -> None:
    everything = [batch for seed in (0, 10, 20) for batch in image_batches(2, seed=seed)]
    whole = calibrate_all(conv_net(), everything, OBSERVERS, order_independent=True)
    merged = merge_shards(shards[::-1])
    for name, observer in OBSERVERS.items():
        table = merged.table(observer)
        assert table.amax == whole.tables[name].amax
        assert table.warnings == whole.tables[name].warnings
        assert (table.provenance.samples, table.provenance.batches) == (36, 6)
        quantlab.quantize(conv_net(), table)


def test_shard_comes_back_from_its_file(shards: list[CalibrationShard], tmp_path: Path) -> None:
    shards[0].save(tmp_path / "a.npz")
    back = CalibrationShard.load(tmp_path / "a.npz")
    assert back.provenance == shards[0].provenance
    assert {n: state(h) for n, h in back.histograms.items()} == {n: state(h) for n, h in shards[0].histograms.items()}
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (b"", b"PK no archive", whole[:300], b"\xc0" + whole):
        (tmp_path / "b.npz").write_bytes(content)
        with pytest.raises(quantlab.QuantlabError, match="is not a calibration shard"):
            CalibrationShard.load(tmp_path / "b.npz")


def test_shard_keeps_the_kinds_of_its_warnings(tmp_path: Path) -> None:
    part = [{"image": floats(4, 3, 8, 8)}, {"image": floats(2, 3, 8, 8)}]
    calibrate_shard(conv_net(batch="4"), part).save(tmp_path / "a.npz")
    back = CalibrationShard.load(tmp_path / "a.npz")
    assert [(w.kind, w.tensor) for w in back.warnings] == [("short_batch", "")]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "other"}, r"a.npz is not a calibration shard \(version 1\): format 'other' version 1"),
        ({"version": 2}, "format 'quantlab.calibration_shard' version 2"),
        ({"tensors": ["image"]}, r"counts are int64 of shape \(4, 2048\), expected"),
        ({"provenance": {"surprise": 1}}, r"unknown keys \['surprise'\]"),
    ],
)
def test_shard_file_with_wrong_content_raises(
    shards: list[CalibrationShard], tmp_path: Path, change: dict[str, object], match: str
) -> None:
    shards[0].save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as stored:
        arrays = dict(stored)
    arrays["head"] = np.array(json.dumps(json.loads(str(arrays["head"])) | change))
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=f"{match}.* Hint: make one with quantlab calibrate --order-independent"):
        CalibrationShard.load(tmp_path / "a.npz")


def test_missing_shard_file_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="calibration shard .* cannot be read: No such file"):
        CalibrationShard.load(tmp_path / "none.npz")


def test_files_of_parts_merge_to_one_table(shards: list[CalibrationShard], tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.npz" for k in range(3)]
    for path, shard in zip(paths, shards, strict=True):
        shard.save(path)
    assert merge_files(paths, "entropy") == merge_files(paths, Entropy()) == merge_shards(shards).table(Entropy())
    tables = [tmp_path / f"{k}.json" for k in range(2)]
    for path, shard in zip(tables, shards, strict=False):
        shard.table(MinMax()).save(path)
    assert merge_files(tables, MinMax()).amax == merge_shards(shards[:2]).table(MinMax()).amax
    with pytest.raises(ConfigError, match="parts are .npz files and tables mixed Hint: merge .npz files, or min-max"):
        merge_files([paths[0], tables[0]], MinMax())


def test_shards_that_do_not_belong_together_are_refused(shards: list[CalibrationShard]) -> None:
    with pytest.raises(quantlab.QuantlabError, match="two shards are of the same data"):
        merge_shards([shards[0], shards[0]])
    with pytest.raises(quantlab.QuantlabError, match="there are no calibration shards"):
        merge_shards([])
    other = calibrate_shard(conv_net(), image_batches(2, seed=30), tensors=["image"])
    with pytest.raises(quantlab.QuantlabError, match="different tensors"):
        merge_shards([shards[0], other])
    model = conv_net()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(floats(8, 3, 3, 3, seed=9), "w1"))
    with pytest.raises(quantlab.QuantlabError, match="differ in model_hash"):
        merge_shards([shards[0], calibrate_shard(model, image_batches(2, seed=30))])


def test_algorithm_that_needs_the_values_is_refused(shards: list[CalibrationShard]) -> None:
    class Bare:
        def observe(self, x: np.ndarray) -> None:
            raise AssertionError

        def compute_amax(self) -> np.ndarray:
            raise AssertionError

    class Halved(Entropy):
        name = "halved"

        def observe(self, x: np.ndarray) -> None:
            super().observe(x / np.float32(2))

    class Tenth(MinMax):
        name = "tenth"

        def compute_amax(self) -> np.ndarray:
            return super().compute_amax() / np.float32(10)

    for observer, name in ((Bare(), "bare"), (Halved(), "halved"), (Tenth(), "tenth")):
        with pytest.raises(quantlab.QuantlabError, match=f"'{name}' cannot work from a histogram"):
            shards[0].table(observer)


def test_one_shard_merged_is_itself(shards: list[CalibrationShard]) -> None:
    merged = merge_shards(shards[:1])
    assert (merged.provenance, merged.warnings) == (shards[0].provenance, shards[0].warnings)
    assert {n: state(h) for n, h in merged.histograms.items()} == {n: state(h) for n, h in shards[0].histograms.items()}
    assert merge_shards(shards).provenance.data_hash == merge_shards(shards[::-1]).provenance.data_hash


def test_shard_takes_an_algorithm_by_name_and_as_a_class(shards: list[CalibrationShard]) -> None:
    wanted = shards[0].table(Entropy())
    assert shards[0].table("entropy") == shards[0].table(Entropy) == wanted
    with pytest.raises(quantlab.QuantlabError, match="there is no algorithm 'entropie'"):
        shards[0].table("entropie")


def test_minmax_tables_merge_and_others_say_why_not() -> None:
    parts = [image_batches(2, seed=seed) for seed in (0, 10)]
    tables = [quantlab.calibrate(conv_net(), part, quantlab.MinMax()) for part in parts]
    merged = merge_minmax(tables)
    assert merged.amax == quantlab.calibrate(conv_net(), [*parts[0], *parts[1]], quantlab.MinMax()).amax
    assert merged.provenance.samples == 24
    with pytest.raises(quantlab.QuantlabError, match="a table of algorithm 'entropy' cannot be merged"):
        merge_minmax([tables[0], quantlab.calibrate(conv_net(), parts[0])])


def test_joblib_runs_the_parts(shards: list[CalibrationShard]) -> None:
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend="threading"):
        parts = [image_batches(2, seed=seed) for seed in (0, 10, 20)]
        merged = calibrate_shards(conv_net(), parts, n_jobs=2)
    wanted = merge_shards(shards)
    assert {n: state(h) for n, h in merged.histograms.items()} == {n: state(h) for n, h in wanted.histograms.items()}
    with pytest.raises(quantlab.QuantlabError, match="there are no parts"):
        calibrate_shards(conv_net(), [])


def test_parts_without_joblib_raise_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(
        MissingDependencyError, match=r"joblib is not installed Hint: pip install 'quantlab-trt\[cluster\]'"
    ):
        calibrate_shards(conv_net(), [image_batches(1)])


def test_cli_calibrates_parts_and_merges_them(cli: Callable, tmp_path: Path) -> None:
    import onnx

    onnx.save(conv_net(), tmp_path / "m.onnx")
    for part in (0, 1):
        np.save(tmp_path / f"{part}.npy", image_batches(1, 8, seed=part)[0]["image"])
        run = ["calibrate", tmp_path / "m.onnx", "--data", tmp_path / f"{part}.npy", "-o", tmp_path / f"{part}.npz"]
        assert cli(*run).code == 2
        assert cli(*run, "--order-independent").code == 0
    merge = ["merge", tmp_path / "0.npz", tmp_path / "1.npz", "-o", tmp_path / "t.json"]
    done = cli(*merge, "--algorithm", "mse")
    assert (done.code, "16 samples in 2 parts" in done.out) == (0, True)
    table = quantlab.CalibrationTable.load(tmp_path / "t.json")
    quantlab.quantize(tmp_path / "m.onnx", table)
    mixed = cli("merge", tmp_path / "0.npz", tmp_path / "t.json", "-o", tmp_path / "u.json")
    assert (mixed.code, "mixed" in mixed.err) == (2, True)


def test_samples_left_out_of_a_shard_are_noted() -> None:
    model = conv_net(batch="4")
    part = [{"image": floats(4, 3, 8, 8)}, {"image": floats(2, 3, 8, 8)}]
    shard = calibrate_shard(model, part)
    wanted = ("the last 2 samples do not fill a batch of 4 and were left out",)
    assert shard.warnings == shard.table(quantlab.MinMax()).warnings == wanted
    assert [w.kind for w in shard.table(quantlab.MinMax()).warnings] == ["short_batch"]


def test_tensor_that_is_zero_in_one_part_only_is_not_all_zero() -> None:
    parts = [[{"image": np.zeros((4, 3, 8, 8), np.float32)}], image_batches(1)]
    merged = merge_minmax([quantlab.calibrate(conv_net(), p, quantlab.MinMax(), tensors=["image"]) for p in parts])
    assert merged.amax["image"] > 0
    assert merged.warnings == ()
