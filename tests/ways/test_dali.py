"""A pipeline of the real NVIDIA DALI, on the CPU, as a source of batches; its page runs as it is written."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("nvidia.dali", reason="the extra 'dali' is not installed")

import nvidia.dali.fn as fn
import nvidia.dali.types as types
from nvidia.dali import Pipeline, pipeline_def

import quantlab
from conftest import CliResult
from models import conv_net, floats
from quantlab.dali import PipelineBatches
from quantlab.data import stream_facts
from quantlab.data.sample import PARTS, read_sample, sample_folder
from quantlab.errors import ConfigError, DataError, DeviceError

pytestmark = pytest.mark.filterwarnings("ignore:.*:Warning:nvidia", "ignore:DALI support:Warning")
COUNT, SIZE, PAGE = 10, 4, Path(__file__).parents[2] / ".docs/pages/how-to/dali.md"
Cli = Callable[..., CliResult]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of 8x8 in two classes."""
    root = tmp_path_factory.mktemp("images")
    for k in range(COUNT):
        (root / "ab"[k % 2]).mkdir(exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(root / "ab"[k % 2] / f"{k}.png")
    return root


def expected(folder: Path) -> np.ndarray:
    """What `images` makes, computed by Pillow and NumPy: the pixels as they are, divided by a power of two."""
    files = sorted(folder.rglob("*.png"))
    return np.stack([np.asarray(Image.open(f)).transpose(2, 0, 1).astype(np.float32) / 256 for f in files])


@pipeline_def(batch_size=SIZE, num_threads=1, device_id=None)
def images(  # type: ignore[no-untyped-def]
    folder, pad=False, shuffle=False, divisor=256.0, layout="CHW", dtype=types.FLOAT, shards=1, shard=0, stick=False
):
    files, classes = fn.readers.file(
        file_root=str(folder), name="files", pad_last_batch=pad, random_shuffle=shuffle,
        num_shards=shards, shard_id=shard, stick_to_shard=stick,
    )  # fmt: skip
    pixels = fn.decoders.image(files, device="cpu")
    return fn.crop_mirror_normalize(pixels, dtype=dtype, output_layout=layout, mean=[0.0], std=[divisor]), classes


def made(graph: Callable[[], Any], size: int = SIZE, **more: Any) -> Pipeline:
    return pipeline_def(graph)(batch_size=size, num_threads=1, device_id=None, **more)


def whole(batches: PipelineBatches, name: str = "image") -> np.ndarray:
    return np.concatenate([batch[name] for batch in batches])


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
import test_dali
from quantlab.dali import PipelineBatches
test_dali.images("/nowhere")  # moves DALI's counters
print(PipelineBatches(test_dali.images("/elsewhere"), ["image", None]).preprocess.pipeline)
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


def source(arrays: list[np.ndarray], **more: Any) -> Callable[[], Pipeline]:
    return lambda: made(lambda: fn.external_source(arrays, **more))


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


def build_error() -> Pipeline:
    return made(lambda: tuple(fn.readers.file(file_root="/nowhere/at/all")))


@pytest.mark.parametrize(
    ("given", "outputs", "more", "match"),
    [
        (7, ["image"], {}, "pipeline is a int, expected a pipeline of DALI"),
        (lambda: 7, ["image"], {}, "returned a int, expected a pipeline"),
        (lambda: 1 / 0, ["image"], {}, "the function that makes the pipeline failed: division by zero"),
        (images, ["image"], {}, "the function that makes the pipeline failed: .*missing .*folder"),
        ("images", ["image"], {}, "the pipeline has 2 outputs, 1 are named"),
        ("images", ["image", "image"], {}, "do not name different inputs"),
        ("images", [], {}, "do not name different inputs"),
        ("images", ["class", None], {"labels": "class"}, "do not name different inputs"),
        ("images", ["image", "class"], {"labels": "other"}, "labels 'other' is none of the outputs"),
        ("images", ["image", None], {"samples": 0}, "samples 0 is less than 1"),
        ("images", ["image", None], {"samples": 11}, "samples 11, but the reader of the pipeline has 10"),
        ("images", ["image", None], {"reader": "other"}, "no reader 'other' Hint: its readers: files"),
        ("images", ["image", "class"], {"labels": "image"}, r"output 'image' \(labels\): got float32 \(4, 3, 8, 8\)"),
        (build_error, ["image", None], {}, "the pipeline cannot be built: .*nowhere"),
    ],
)  # fmt: skip
def test_misuse_is_one_clear_error(given: Any, outputs: Any, more: Any, match: str, folder: Path) -> None:
    given = images(folder) if given == "images" else given
    with pytest.raises((ConfigError, DataError), match=match):
        for _ in PipelineBatches(given, outputs, **more).labeled():
            pass


def test_pipeline_that_python_feeds_has_to_be_made_by_a_function() -> None:
    with pytest.raises(ConfigError, match="Python feeds the pipeline .*pass the function that makes the pipeline"):
        PipelineBatches(source([floats(4, 3)])(), ["image"])
    same = source([floats(4, 3)])()
    batches = PipelineBatches(lambda: same, ["image"])
    list(batches)
    with pytest.raises(ConfigError, match="returned the same pipeline again"):
        list(batches)


def test_pipeline_that_fails_in_the_middle_says_where() -> None:
    def one(info: Any) -> np.ndarray:
        if info.idx_in_epoch == 9:
            raise OSError("the disk is on fire")
        return floats(3, 8, 8, seed=info.idx_in_epoch)

    batches = PipelineBatches(lambda: made(lambda: fn.external_source(one, batch=False)), ["image"])
    with pytest.raises(DataError, match="the pipeline failed: .*disk is on fire"):
        list(batches)


def test_samples_of_different_shapes_are_an_error() -> None:
    ragged = [[floats(3, 8, 8), floats(3, 8, 9), floats(3, 8, 8), floats(3, 8, 8)]]
    with pytest.raises(
        DataError, match=r"batch 0, output 'image': its samples have different shapes: \(3, 8, 8\), \(3"
    ):
        list(PipelineBatches(source(ragged), ["image"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "match"),
    [({"layout": "HWC"}, r"float32 \(4, 8, 8, 3\)"), ({"dtype": types.UINT8, "divisor": 1.0}, r"uint8 \(4, 3, 8, 8\)")],
)
def test_layout_and_dtype_of_another_model_are_an_error(folder: Path, changed: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=rf"batch 0, input 'image': got {match}, expected float32"):
        quantlab.calibrate(conv_net(), PipelineBatches(images(folder, **changed), ["image", None]))


@pytest.mark.parametrize("form", [lambda make: make(), lambda make: make])
def test_pipeline_in_debug_mode_is_refused(form: Callable[[Any], Any], folder: Path) -> None:
    from nvidia.dali.pipeline.experimental import pipeline_def as experimental

    make = experimental(lambda: fn.readers.file(file_root=str(folder))[0], debug=True)
    with pytest.raises(ConfigError, match=r"debug mode.*without debug=True"):
        PipelineBatches(form(lambda: make(batch_size=4, num_threads=1, device_id=None)), ["image"])


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_pipeline_for_a_gpu_says_that_there_is_none(folder: Path) -> None:
    def graph() -> Any:
        return fn.decoders.image(fn.readers.file(file_root=str(folder))[0], device="cpu").gpu()

    make = pipeline_def(graph)
    with pytest.raises(DeviceError, match=r"made for a GPU, and there is none.*device_id=None"):
        list(PipelineBatches(make(batch_size=4, num_threads=1, device_id=0), ["image"]))


def test_iterator_of_a_framework_is_refused_with_the_way_out(folder: Path) -> None:
    from nvidia.dali.plugin.base_iterator import _DaliBaseIterator

    iterator = _DaliBaseIterator.__new__(_DaliBaseIterator)
    iterator._pipes = [images(folder)]
    with pytest.raises(ConfigError, match="expected a pipeline of DALI Hint: pass the pipeline that the iterator"):
        PipelineBatches(iterator, ["image"])


# --- the page


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who follows the page, with some images of the sample."""
    for part in PARTS:
        found = read_sample(part)
        for file, image in zip(found.files[:64], found.images[:64], strict=True):
            (tmp_path / "sample" / part / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "sample" / part / file)
    (tmp_path / "sample" / "model.onnx").write_bytes((sample_folder() / "model.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def blocks(language: str) -> Iterator[str]:
    return iter(re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))


def test_page_runs_as_it_is_written(reader: Path, cli: Cli) -> None:
    data, python = blocks("py")
    (reader / "dali_data.py").write_text(data)
    (commands,) = blocks("sh")
    for line in commands.replace("\\\n", " ").splitlines():
        code, out, err = cli(*shlex.split(line)[1:])
        assert code == 0, (line, err)
    assert "top-1" in out
    names: dict[str, Any] = {}
    exec(compile(python, str(PAGE), "exec"), names)
    assert (
        json.loads(Path("table.json").read_text())["provenance"]["preprocess"] == names["table"].provenance.preprocess
    )
    assert names["comparison"].results[1].top1 > 0.8


def test_pages_pipeline_gives_the_presets_numbers(reader: Path) -> None:
    data, _ = blocks("py")
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(data, str(PAGE), "exec"), names)
    got = np.concatenate([b["image"] for b in names["load_data"]()])
    folder = reader / "sample" / "calibration"
    want = np.concatenate(
        [quantlab.PRESETS["fashion-mnist"].apply(Image.open(f))[None] for f in sorted(folder.rglob("*.png"))]
    )
    # both round a handful of times; the numerator may cancel, so the bound is of the pixel's size, 255 / 90
    assert np.abs(got - want).max() <= 4 * 2.0**-24 * 255 / 90
