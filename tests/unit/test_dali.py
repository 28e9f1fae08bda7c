"""What of a DALI pipeline needs no DALI: its serialized form, its epochs, and a script that hands on a stream."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from models import conv_net, image_batches, quantized
from quantlab.calibration.feeder import BatchFeeder
from quantlab.calibration.made_from import preprocess_notices
from quantlab.dali import PipelineBatches
from quantlab.dali.epoch import samples_of_reader
from quantlab.dali.outputs import device_array
from quantlab.dali.serialized import read_graph
from quantlab.data import Batch, Labels, stream_facts
from quantlab.data.on_device import DeviceArray
from quantlab.data.pipeline_source import PipelineSource
from quantlab.data.script import script_batches
from quantlab.errors import ConfigError, DataError, MissingDependencyError, Notice
from quantlab.memory import DeviceMemory, HostDriver
from quantlab.memory.buffers import device_address
from quantlab.onnx_model import input_specs


def test_without_dali_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia", None)
    with pytest.raises(MissingDependencyError, match=r"DALI cannot be imported.*pip install '.*\[dali\]'"):
        PipelineBatches(object(), ["image"])


# --- the serialized form: protobuf, written by hand here


def integer(value: int) -> bytes:
    done = b""
    while value > 127:
        done, value = done + bytes([value & 127 | 128]), value >> 7
    return done + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return integer(number << 3) + integer(value)
    data = value.encode() if isinstance(value, str) else value
    return integer(number << 3 | 2) + integer(len(data)) + data


def operator(name: str, inputs: list[tuple[str, str]], output: str, **arguments: int | str) -> bytes:
    """inputs: (data, the argument that it is or '')."""
    message = field(1, name)
    for data, argument in inputs:
        message += field(2, field(1, data) + field(2, "cpu") + (field(4, argument) if argument else b""))
    message += field(3, field(1, output) + field(2, "cpu"))
    for key, value in arguments.items():
        kind = field(4, value) if isinstance(value, int) else field(5, value)
        message += field(4, field(1, key) + field(2, "?") + kind)
    return field(5, message + field(5, f"__{output}"))


def pipeline(*operators: bytes, outputs: tuple[str, ...] = ("x",), batch: int = 4, seed: int = 7) -> bytes:
    ends = b"".join(field(7, field(1, name) + field(2, "cpu")) for name in outputs)
    return field(1, 2) + field(2, batch) + b"".join(operators) + ends + field(9, seed)


READ = operator("readers__File", [], "f", file_root="/here", random_shuffle=0)


def named(*operators: bytes, **more: object) -> str:
    return read_graph(pipeline(*operators, **more)).hash({"image": 0})  # type: ignore[arg-type]


def test_hash_is_of_what_changes_an_output_and_of_nothing_else() -> None:
    resize = operator("Resize", [("f", "")], "x", resize_x=32, _origin_stack_line="r = resize(f)")
    base = named(READ, resize)
    elsewhere = operator("readers__File", [], "f", file_root="/there", num_shards=4, random_shuffle=0)
    renamed = (
        operator("readers__File", [], "data", file_root="/here"),
        operator("Resize", [("data", "")], "x", resize_x=32),
    )
    assert base == named(elsewhere, resize, batch=64, seed=9) == named(*renamed)
    assert base == named(READ, resize, operator("Cast", [("f", "")], "label"), outputs=("x", "label"))
    others = [
        named(READ, operator("Resize", [("f", "")], "x", resize_x=31)),
        named(READ, operator("Resize", [("f", "")], "x", resize_y=32)),
        named(READ, operator("Rotate", [("f", "")], "x", resize_x=32)),
        named(operator("readers__Numpy", [], "f"), resize),
        read_graph(pipeline(READ, resize)).hash({"other": 0}),
    ]
    assert len({base, *others}) == 6


def test_hash_knows_which_argument_an_input_is_and_not_when_it_was_made() -> None:
    size, angle = operator("Constant", [], "s", idata=5), operator("Constant", [], "a", idata=9)
    both = operator("Warp", [("f", ""), ("s", "size"), ("a", "angle")], "x")
    assert named(READ, size, angle, both) == named(angle, size, READ, both)
    swapped = operator("Warp", [("f", ""), ("s", "angle"), ("a", "size")], "x")
    turned = operator("Warp", [("f", ""), ("a", "angle"), ("s", "size")], "x")
    assert named(READ, size, angle, both) == named(READ, size, angle, turned) != named(READ, size, angle, swapped)


def test_random_operators_are_found_behind_the_inputs_only() -> None:
    graph = read_graph(
        pipeline(
            operator("readers__File", [], "f", random_shuffle=1),
            operator("random__CoinFlip", [], "c"),
            operator("Flip", [("f", ""), ("c", "horizontal")], "x"),
            operator("Constant", [], "y"),
            outputs=("x", "y"),
        )
    )
    assert [o.name for o in graph.behind([0]) if o.is_random] == ["readers__File", "random__CoinFlip"]
    assert not any(o.is_random for o in graph.behind([1]))


@pytest.mark.parametrize("data", [b"\x2a\xff\x01", b"\x2b", b"\x28\x01", pipeline(READ)[:20], b"\xff" * 30])
def test_bytes_that_are_no_pipeline_are_an_error(data: bytes) -> None:
    with pytest.raises(DataError, match="the serialized pipeline cannot be read"):
        read_graph(data)


# --- epochs


def reader(size: int, shards: int = 1, shard: int = 0) -> dict[str, int]:
    return {"epoch_size": size, "number_of_shards": shards, "shard_id": shard}


def test_shards_have_all_samples_together() -> None:
    for size in (1, 10, 11, 100):
        assert sum(samples_of_reader({"r": reader(size, 3, shard)}, None) or 0 for shard in range(3)) == size


def test_readers_that_do_not_agree_need_a_name() -> None:
    meta = {"a": reader(10), "b": reader(12)}
    with pytest.raises(ConfigError, match="different numbers of samples: a 10, b 12"):
        samples_of_reader(meta, None)
    assert samples_of_reader(meta, "b") == 12
    assert samples_of_reader({}, None) is None
    assert samples_of_reader({"a": reader(-1)}, None) == 0  # it does not say
    with pytest.raises(ConfigError, match="different numbers of samples: a 10, c 0"):
        samples_of_reader({"a": reader(10), "c": reader(-1)}, None)
    with pytest.raises(ConfigError, match="no reader 'c' Hint: its readers: a, b"):
        samples_of_reader(meta, "c")


# --- what is recorded, and scripts that return a stream

SCRIPT = """
from test_dali_stream import Stream

def load_data():
    return Stream()
"""


class Owner:
    """An array of the host double's device."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (address, False), "version": 3}


class Stream:
    """A stream with labels, a record and a way to its device."""

    preprocess = PipelineSource("abc", "2.4.0")
    notices = (Notice("it is random, by its seed", "other_origin"),)
    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self.labeled())

    def labeled(self) -> Iterator[tuple[Batch, Labels | None]]:
        for k, batch in enumerate(image_batches(3)):
            yield batch, np.full(6, k, np.int64)

    def on_device(self) -> Iterator[Batch]:
        for k in range(3):
            yield {"image": DeviceArray(Owner(4096 * (k + 1), (6, 3, 8, 8)), 6)}  # type: ignore[dict-item]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data.py").write_text(SCRIPT)
    monkeypatch.setitem(sys.modules, "test_dali_stream", sys.modules[__name__])
    monkeypatch.setattr(Stream, "made", 0)
    return tmp_path / "data.py"


def test_script_hands_on_labels_record_and_notices_of_a_stream(script: Path) -> None:
    batches = script_batches(script, "load_data", ["image"], limit=8)
    assert stream_facts(batches).preprocess == {"pipeline": "abc", "dali": "2.4.0"}
    labeled = list(batches.labeled())
    assert Stream.made == 1  # what was asked for its record is what runs first
    assert [(batch["image"].shape[0], list(labels)) for batch, labels in labeled if labels is not None] == [
        (6, [0] * 6), (2, [1, 1]),
    ]  # fmt: skip
    assert stream_facts(batches).notices() == Stream.notices
    table = quantlab.calibrate(conv_net(), script_batches(script, "load_data", ["image"]), quantlab.MinMax())
    assert table.provenance.preprocess == {"pipeline": "abc", "dali": "2.4.0"}
    assert Stream.notices[0] in table.warnings


def test_script_hands_device_batches_to_a_calibrator(script: Path) -> None:
    driver = HostDriver()
    batches = script_batches(script, "load_data", ["image"], limit=14)
    feed = BatchFeeder(batches, input_specs(conv_net()), lambda: DeviceMemory(driver))
    got = [feed.next_batch(["image"]) for _ in range(3)]
    assert got == [[4096], [8192], None]  # the third has 2 samples left, too few for a batch
    feed.raise_problem()
    assert (feed.samples, driver.pinned, driver.live) == (12, 0, {})


def test_another_pipeline_is_told() -> None:
    made = PipelineSource("abc", "2.4.0").to_dict()
    assert preprocess_notices(made, made) == []
    (notice,) = preprocess_notices(made, PipelineSource("def", "2.4.0").to_dict())
    assert "pipeline is def, there abc" in notice
    assert notice.kind == "other_origin"


@pytest.mark.usefixtures("no_plots")
def test_labels_of_a_script_are_enough_for_a_bar(
    script: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., CliResult]
) -> None:
    monkeypatch.chdir(script.parent)
    onnx.save(conv_net(), "m.onnx")
    onnx.save(quantized(conv_net(), image_batches(3)).model, "q.onnx")
    command = ("compare", "m.onnx", "q.onnx", "--data", "data.py", "-o", "report", "--fail-under", "1%")
    done = cli(*command)
    assert done.code == 0, done.err
    assert "'q' keeps" in done.out
    monkeypatch.setattr(Stream, "has_labels", False, raising=False)
    assert cli(*command).err.startswith("error: --fail-under needs an accuracy")


class TensorListGPU:
    """An output of a pipeline on the GPU, as DALI has it."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self._shapes = shapes

    def is_dense_tensor(self) -> bool:
        return len(set(self._shapes)) == 1

    def shape(self) -> list[tuple[int, ...]]:
        return list(self._shapes)

    def as_tensor(self) -> Owner:
        return Owner(4096, (len(self._shapes), *self._shapes[0]))

    def as_cpu(self) -> None:
        raise AssertionError("copied to the host")


def test_output_on_the_gpu_is_handed_on_where_it_is_without_samples_that_fill_it_up() -> None:
    found = device_array(TensorListGPU(*[(3, 8, 8)] * 4), "image", 3)
    assert device_address(found) == (4096, (3, 3, 8, 8), np.dtype(np.float32))
    assert np.shape(found) == (3, 3, 8, 8)
    assert device_address(found[:2]) == (4096, (2, 3, 8, 8), np.dtype(np.float32))
    with pytest.raises(DataError, match=r"output 'image': its samples have different shapes: \(3, 8, 8\), \(3, 8, 9\)"):
        device_array(TensorListGPU((3, 8, 8), (3, 8, 9)), "image", 2)
