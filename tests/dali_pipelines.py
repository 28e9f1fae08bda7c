"""Pipelines of DALI for the tests of quantlab.dali. Ten images of 8x8 are read in batches of four."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.dali.fn as fn
import nvidia.dali.types as types
import pytest
from nvidia.dali import Pipeline, pipeline_def
from PIL import Image

from quantlab.dali import PipelineBatches

MARKS = pytest.mark.filterwarnings("ignore:.*:Warning:nvidia", "ignore:DALI support:Warning")
COUNT, SIZE = 10, 4


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


def source(arrays: list[np.ndarray], **more: Any) -> Callable[[], Pipeline]:
    return lambda: made(lambda: fn.external_source(arrays, **more))
