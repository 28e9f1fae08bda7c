"""What is written under which suffix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import quantlab
from models import conv_net, image_batches
from quantlab.calibration import CalibrationTable, TrtCache, load_table
from quantlab.errors import ConfigError
from quantlab.qdq import tensorrt_cache
from quantlab.qdq.outputs import OUTPUTS, OutputKind, Scales, output_kind
from quantlab.qdq.targets import ALL_TENSORS, QDQ_TENSORS


@pytest.mark.parametrize("name", ["t.chache", "t", "t.JSON", "t.cache.gz", "cache", ".cache"])
def test_suffix_that_means_nothing_is_refused_and_not_guessed(name: str) -> None:
    with pytest.raises(ConfigError, match="which says nothing about what to write") as refused:
        output_kind(Path(name), (".json", ".cache"))
    assert f"suffix '{Path(name).suffix}'" in refused.value.text
    assert refused.value.hint == "NAME.json for a calibration table; NAME.cache for a TensorRT calibration cache"


def test_suffix_that_makes_no_sense_here_is_refused() -> None:
    assert output_kind(Path("m.onnx"), OUTPUTS).what == "a Q/DQ model"
    with pytest.raises(ConfigError, match=r"suffix '\.onnx'.* Hint: NAME\.json for a calibration table$"):
        output_kind(Path("m.onnx"), (".json",))


@pytest.mark.parametrize(
    ("suffix", "tensors", "writes"),
    [
        (".json", QDQ_TENSORS, True),
        (".cache", ALL_TENSORS, True),
        (".flatbuffers", ALL_TENSORS, True),
        (".npz", QDQ_TENSORS, False),
        (".onnx", QDQ_TENSORS, False),
    ],
)
def test_kinds_need_the_tensors_that_their_reader_wants(suffix: str, tensors: str, writes: bool) -> None:
    kind = output_kind(Path(f"x{suffix}"), (suffix,))
    assert kind is OUTPUTS[suffix]
    assert (kind.suffix, kind.tensors, kind.save is not None) == (suffix, tensors, writes)


@pytest.fixture(scope="module")
def scales() -> Scales:
    table = quantlab.calibrate(conv_net(), image_batches(2), quantlab.MinMax(), tensors="all")
    return Scales(conv_net(), table, "MinMaxCalibration", "10.16.1")


def saved(kind: OutputKind, scales: Scales, folder: Path) -> Path:
    path = folder / f"scales{kind.suffix}"
    assert kind.save is not None
    kind.save(scales, path)
    return path


def test_each_kind_is_read_back_as_what_it_is(scales: Scales, tmp_path: Path) -> None:
    assert CalibrationTable.load(saved(OUTPUTS[".json"], scales, tmp_path)).amax == scales.table.amax
    cache = TrtCache.load(saved(OUTPUTS[".cache"], scales, tmp_path))
    assert cache.header == "TRT-101601-MinMaxCalibration"
    assert cache.scales == tensorrt_cache(conv_net(), scales.table, "MinMaxCalibration").scales
    back = load_table(saved(OUTPUTS[".flatbuffers"], scales, tmp_path))
    for tensor, scale in cache.scales.items():  # the provider's table has ranges as TensorRT's scales have them
        assert back.amax[tensor] / np.float32(127) == scale
