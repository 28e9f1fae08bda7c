"""What the public verbs say when they are given something else than they take."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import quantlab
from models import conv_net, image_batches
from quantlab.api import calibrate_all
from quantlab.data import ArrayBatches, ImageBatches
from quantlab.errors import ConfigError

BATCHES = image_batches(2)
PRESET = quantlab.PRESETS["none"]


@pytest.fixture(scope="module")
def table() -> quantlab.CalibrationTable:
    return quantlab.calibrate(conv_net(), BATCHES, "minmax")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda t: quantlab.correct_bias(conv_net(), t, BATCHES),
            "quantized is a CalibrationTable, expected Quantized",
        ),
        (lambda t: quantlab.quantize(conv_net(), t, selection="op:Gemm"), "selection is a str, expected Selection"),
        (lambda t: quantlab.quantize(conv_net(), t, weights="per-tensor"), "weights is a str, expected WeightStyle"),
        (lambda t: quantlab.WeightStyle("per-tensor"), "per_channel is a str, expected bool"),
        (lambda t: quantlab.migrate(conv_net(), t, "op:Gemm"), "selection is a str, expected Selection"),
        (lambda t: quantlab.Selection(exclude="op:Gemm"), "exclude is a str, expected tuple of str"),
        (lambda t: quantlab.Selection(include=(1,)), "include is a tuple of int, expected tuple of str"),
        (lambda t: quantlab.quantize(conv_net(), {"x": 1.0}), "table is a dict"),
        (lambda t: quantlab.calibrate(conv_net(), None), "batches is a NoneType, expected Iterable of Mapping"),
        (
            lambda t: quantlab.calibrate(conv_net(), lambda: BATCHES),
            "batches is a function, expected Iterable of Mapping",
        ),
        (
            lambda t: quantlab.calibrate(conv_net(), iter(BATCHES)),
            "a list_iterator, which can be read only once",
        ),
        (lambda t: quantlab.compare(conv_net(), {}, None), "batches is a NoneType, expected Iterable of Mapping"),
        (
            lambda t: quantlab.image_folder(".", "imagenet", input_name="x"),
            "preprocess is a str, expected",
        ),
        (lambda t: ImageBatches([Path("a.png")], PRESET, input_name="x", batch_size=0), "batch size 0 is less than 1"),
        (lambda t: ArrayBatches({"x": np.ones((2, 1))}, batch_size=-1), "batch size -1 is less than 1"),
        (lambda t: quantlab.calibrate(conv_net(), BATCHES, tensors=None), "tensors is a NoneType"),
        (lambda t: quantlab.calibrate(conv_net(), BATCHES, np.ones(3)), "algorithm is a ndarray"),
        (lambda t: quantlab.calibrate(conv_net(), BATCHES, "auto", tensors=["image"]), "auto chooses for the tensors"),
        (lambda t: calibrate_all(conv_net(), BATCHES, "mse"), "algorithms is a str, expected Mapping"),
        (lambda t: quantlab.write_report({}, "r"), "comparison is a dict, expected Comparison"),
        (
            lambda t: quantlab.compare(conv_net(), {}, BATCHES, metric="top1"),
            "metric is a str, expected a func",
        ),
    ],
)
def test_wrong_argument_is_one_error_with_a_remedy(
    call: Callable[[quantlab.CalibrationTable], object], said: str, table: quantlab.CalibrationTable
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        call(table)
    assert caught.value.hint


def test_report_needs_the_path_of_a_folder() -> None:
    comparison = quantlab.compare(conv_net(), {"same": conv_net()}, BATCHES)
    with pytest.raises(ConfigError, match="folder is a NoneType, expected str or Path"):
        quantlab.write_report(comparison, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        (lambda batch: None, "backend 'mine' gave a NoneType, expected a mapping of output name to array"),
        (lambda batch: {"logits": [1, 2]}, "backend 'mine' gave a list for output 'logits', expected an array"),
    ],
)
def test_function_that_gives_no_outputs_is_kept_with_the_reason(
    backend: Callable[..., object], said: str, tmp_path: Path
) -> None:
    comparison = quantlab.compare(conv_net(), {"mine": backend, "same": conv_net()}, BATCHES)
    assert comparison.results[1].failed == f"batch 0, {said}"
    assert [row.name for row in comparison.quantized] == []
    assert quantlab.write_report(comparison, tmp_path).json.is_file()


@pytest.mark.parametrize("command", ["quantize", "repair", "fp16"])
def test_models_are_written_under_their_own_suffix_only(command: str, cli: Callable, tmp_path: Path) -> None:
    import onnx

    onnx.save(conv_net(), tmp_path / "m.onnx")
    done = cli(command, tmp_path / "m.onnx", "-o", tmp_path / "x.json")
    assert (done.code, "suffix '.json', which is a calibration table: not to be had here" in done.err) == (2, True)
    assert not (tmp_path / "x.json").exists()
