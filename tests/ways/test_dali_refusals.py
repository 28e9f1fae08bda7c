"""What quantlab.dali refuses: one error that names the thing and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nvidia.dali", reason="the extra 'dali' is not installed")

import nvidia.dali.fn as fn
import nvidia.dali.types as types
from nvidia.dali import Pipeline, pipeline_def

import quantlab
from conftest import CliResult
from dali_pipelines import MARKS, images, made, source
from models import conv_net, floats
from quantlab.dali import PipelineBatches
from quantlab.errors import ConfigError, DataError, DeviceError

pytestmark = MARKS
PAGE = Path(__file__).parents[2] / ".docs/pages/how-to/dali.md"
Cli = Callable[..., CliResult]


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
