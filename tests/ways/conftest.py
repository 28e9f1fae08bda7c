"""Files for the ways to and from other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of 8x8 in two classes."""
    root = tmp_path_factory.mktemp("images")
    for k in range(10):
        (root / "ab"[k % 2]).mkdir(exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(root / "ab"[k % 2] / f"{k}.png")
    return root
