"""A pipeline of the real NVIDIA DALI, on the CPU, as a source of batches; its page runs as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nvidia.dali", reason="the extra 'dali' is not installed")

import nvidia.dali.fn as fn
import nvidia.dali.types as types
from nvidia.dali import Pipeline

import quantlab
from conftest import CliResult
from dali_pipelines import COUNT, MARKS, expected, images, made, source, whole
from models import conv_net, floats
from quantlab.dali import PipelineBatches
from quantlab.data import stream_facts
from quantlab.errors import ConfigError, DataError

pytestmark = MARKS
PAGE = Path(__file__).parents[2] / ".docs/pages/how-to/dali.md"
Cli = Callable[..., CliResult]


def test_every_sample_comes_once_in_every_pass_with_its_label(folder: Path) -> None:
    for pad in (False, True):
        batches = PipelineBatches(images(folder, pad=pad), ["image", "class"], labels="class")
        next(iter(batches))  # a pass that is left early changes nothing
        for _ in range(3):
            pairs = list(batches.labeled())
            assert [len(x["image"]) for x, _ in pairs] == [4, 4, 2]
            np.testing.assert_array_equal(np.concatenate([x["image"] for x, _ in pairs]), expected(folder))
            assert np.concatenate([y for _, y in pairs if y is not None]).tolist() == [0] * 5 + [1] * 5


def test_pipeline_that_was_built_and_has_run_is_read_from_its_first_sample(folder: Path) -> None:
    pipeline = images(folder)
    pipeline.build()
    pipeline.run()
    np.testing.assert_array_equal(whole(PipelineBatches(pipeline, ["image", None])), expected(folder))
    pipeline.run()  # the user's own goes on


def test_batches_stay_as_they_were_when_the_pipeline_runs_on(folder: Path) -> None:
    kept = list(PipelineBatches(images(folder), ["image", None]))
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in kept]), expected(folder))


@pytest.mark.parametrize("stick", [False, True])
def test_shards_are_the_same_in_every_pass_and_have_each_sample_once_together(folder: Path, stick: bool) -> None:
    shards = [PipelineBatches(images(folder, shards=3, shard=k, stick=stick), ["image", None]) for k in range(3)]
    parts = [whole(shard) for shard in shards]
    np.testing.assert_array_equal(np.concatenate(parts), expected(folder))
    np.testing.assert_array_equal(whole(shards[1]), parts[1])


def test_numbers_are_those_of_the_same_arrays(folder: Path) -> None:
    batches = PipelineBatches(lambda: images(folder), ["image", None])
    x = expected(folder)
    arrays = [{"image": x[:4]}, {"image": x[4:8]}, {"image": x[8:]}]
    table, wanted = quantlab.calibrate(conv_net(), batches), quantlab.calibrate(conv_net(), arrays)
    assert table.amax == wanted.amax
    assert table.provenance.data_hash == wanted.provenance.data_hash
    assert table.provenance.preprocess == stream_facts(batches).preprocess
    model = quantlab.quantize(conv_net(), table)
    labeled = PipelineBatches(images(folder), ["image", "class"], labels="class")
    mine, theirs = (quantlab.compare(conv_net(), {"int8": model}, b) for b in (labeled, arrays))
    assert mine.results[1].errors == theirs.results[1].errors
    assert mine.data_hash == theirs.data_hash
    assert mine.samples == COUNT


def test_fixed_batch_leaves_the_short_last_one_out(folder: Path) -> None:
    table = quantlab.calibrate(conv_net("4"), PipelineBatches(images(folder), ["image", None]), quantlab.MinMax())
    assert "the last 2 samples do not fill a batch of 4 and were left out" in table.warnings
    assert table.provenance.samples == 8


def test_another_preprocess_is_told_and_other_files_or_speed_are_not(folder: Path, tmp_path: Path) -> None:
    table = quantlab.calibrate(conv_net(), PipelineBatches(images(folder), ["image", None]))
    model = quantlab.quantize(conv_net(), table)

    def told(**changed: Any) -> list[str]:
        batches = PipelineBatches(images(folder, **changed), ["image", "class"], labels="class")
        return [str(w) for w in quantlab.compare(conv_net(), {"int8": model}, batches).warnings]

    assert not any("another preprocess" in w for w in told(batch_size=5, num_threads=2, pad=True, seed=3))
    (other,) = [w for w in told(divisor=255.0) if "another preprocess" in w]
    assert re.search(r"pipeline is \w{64}, there \w{64}", other)


def test_hash_is_the_same_in_another_process(folder: Path) -> None:
    code = f"""
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {str(Path(__file__).parent)!r}); sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import dali_pipelines
from quantlab.dali import PipelineBatches
dali_pipelines.images("/nowhere")  # moves DALI's counters
print(PipelineBatches(dali_pipelines.images("/elsewhere"), ["image", None]).preprocess.pipeline)
"""
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = PipelineBatches(images(folder), ["image", None]).preprocess
    assert here is not None
    assert there.split()[-1] == here.pipeline


def test_random_pipeline_needs_a_seed(folder: Path) -> None:
    def flipped() -> Any:
        files, _ = fn.readers.file(file_root=str(folder))
        return fn.flip(fn.decoders.image(files, device="cpu"), horizontal=fn.random.coin_flip())

    for pipeline, outputs in ((made(flipped), ["image"]), (images(folder, shuffle=True), ["image", None])):
        with pytest.raises(ConfigError, match="the pipeline is random .* and has no seed.*seed=0"):
            PipelineBatches(pipeline, outputs)
    seeded = PipelineBatches(images(folder, shuffle=True, seed=5), ["image", None])
    np.testing.assert_array_equal(whole(seeded), whole(seeded))
    assert sorted(whole(seeded).sum((1, 2, 3))) == sorted(expected(folder).sum((1, 2, 3)))
    assert "the pipeline is random (readers__File), by its seed" in stream_facts(seeded).notices()


def test_reader_that_does_not_say_how_many_samples_it_has_needs_a_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = {"files": {"epoch_size": -1, "number_of_shards": 1, "shard_id": 0}}
    monkeypatch.setattr(Pipeline, "reader_meta", lambda self: unknown)
    with pytest.raises(ConfigError, match="does not say how many samples it has, and it never ends Hint: samples=1000"):
        list(PipelineBatches(images(folder), ["image", None]))
    np.testing.assert_array_equal(
        whole(PipelineBatches(images(folder), ["image", None], samples=COUNT)), expected(folder)
    )


# --- pipelines that Python feeds


def test_source_that_ends_ends_the_pass_whatever_its_batches(folder: Path) -> None:
    arrays = [floats(n, 3, 8, 8, seed=n) for n in (4, 2, 3)]
    batches = PipelineBatches(source(arrays), ["image"])
    for _ in range(2):
        assert [len(b["image"]) for b in batches] == [4, 2, 3]
    assert quantlab.calibrate(conv_net(), batches, quantlab.MinMax()).provenance.samples == 9
    with pytest.raises(DataError, match="batch 1, it has 2 samples, the network takes 4"):
        quantlab.calibrate(conv_net("4"), PipelineBatches(source(arrays), ["image"]))


def test_source_without_end_needs_a_number_of_samples(folder: Path) -> None:
    arrays = [floats(4, 3, 8, 8, seed=n) for n in range(3)]
    batches = PipelineBatches(source(arrays, cycle=True), ["image"], samples=14)
    np.testing.assert_array_equal(whole(batches), np.concatenate([*arrays, arrays[0][:2]]))


def test_source_that_runs_dry_is_an_error() -> None:
    batches = PipelineBatches(source([floats(4, 3, 8, 8)]), ["image"], samples=12)
    with pytest.raises(DataError, match="batch 1, the pipeline has ended after 4 of 12 samples"):
        list(batches)


def test_source_that_does_not_begin_anew_is_an_error() -> None:
    once = iter([floats(4, 3, 8, 8, seed=n) for n in range(3)])
    batches = PipelineBatches(lambda: made(lambda: fn.external_source(once)), ["image"])
    assert len(list(batches)) == 3
    with pytest.raises(DataError, match="gave 0 batches, others than in its first pass"):
        list(batches)
    count = iter(range(100))
    other = PipelineBatches(
        lambda: made(lambda: fn.external_source([np.full((4, 3, 8, 8), next(count), np.float32)])), ["image"]
    )
    assert len(list(other)) == 1
    with pytest.raises(DataError, match="batch 0, the pipeline gave other values than in its first pass"):
        list(other)


def test_python_function_works_and_its_record_says_that_it_is_not_known(folder: Path) -> None:
    def graph() -> Any:
        files, _ = fn.readers.file(file_root=str(folder))
        return fn.python_function(fn.decoders.image(files, device="cpu"), function=lambda x: x.astype(np.float32))

    def make() -> Pipeline:
        return made(graph, exec_async=False, exec_pipelined=False)

    batches = PipelineBatches(make, ["image"])
    facts = stream_facts(batches)
    assert facts.preprocess is None
    assert re.match(
        "the preprocess is not recorded, DALI cannot serialize the pipeline: .*[fF]unction", facts.notices()[0]
    )
    np.testing.assert_array_equal(whole(batches).transpose(0, 3, 1, 2) / 256, expected(folder))


def test_several_inputs_and_outputs_in_any_order() -> None:
    def graph() -> Any:
        a = fn.external_source([floats(4, 3, seed=1)])
        return a, a * 2.0, fn.cast(a, dtype=types.INT32)

    (batch,) = PipelineBatches(lambda: made(graph), ["x", "y", None])
    assert list(batch) == ["x", "y"]
    np.testing.assert_array_equal(batch["y"], 2 * batch["x"])


# --- bad input


# --- the page
