"""Samples as people know them: the name of the file, and a small picture."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from quantlab.data.batches import Batches
from quantlab.data.decode import to_mode
from quantlab.data.images import ImageBatches
from quantlab.errors import QuantlabError

EDGE = 96
"""Pixels of a small picture, along its longer side at most."""
QUALITY = 85
"""Of its JPEG: about 3 KB at that size."""


@dataclass(frozen=True, slots=True)
class ShownSample:
    """What a reader sees of a sample.

    Attributes:
        file: Its name below the folder of the data; '' for a sample that is in no file of its own.
        picture: JPEG of what the image reader decoded; empty for what is no image.
    """

    file: str
    picture: bytes


def show_samples(batches: Batches, indices: Iterable[int]) -> dict[int, ShownSample]:
    """Look samples up in the stream that they came from.

    Args:
        batches: The stream.
        indices: Their places in it.

    Returns:
        What can be shown, by place; nothing for a stream that is not made of images.
    """
    if not isinstance(batches, ImageBatches):
        return {}
    return {index: _shown(batches, index) for index in indices if 0 <= index < batches.count}


def _shown(batches: ImageBatches, index: int) -> ShownSample:
    try:
        picture = _small(batches.image(index))
    except (QuantlabError, OSError):  # the file may be gone by now: its numbers stand without the picture
        picture = b""
    return ShownSample(batches.file_name(index), picture)


def _small(image: Image.Image) -> bytes:
    small = to_mode(image, "RGB")
    if max(small.size) > EDGE:
        ratio = EDGE / max(small.size)
        small = small.resize((max(1, round(small.width * ratio)), max(1, round(small.height * ratio))))
    buffer = io.BytesIO()
    # of the pixels alone: an image carries comments, places and colour profiles of its file along
    Image.fromarray(np.asarray(small)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
