"""What the GPU tests share: real data or the embedded sample, one timing cache, engines built once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import quantlab
from quantlab.data import ArrayBatches, ImageBatches

BATCH = 64


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.timeout(500))


@pytest.fixture(scope="session")
def timing_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timing") / "timing.cache"


@pytest.fixture(scope="session")
def resnet20(real_data: Path) -> Path:
    """ResNet-20 with a fixed batch of 64."""
    return real_data / "models" / "resnet20_cifar10_b64.onnx"


def cifar(real_data: Path, part: str, count: int | None = None) -> ImageBatches:
    from quantlab.data import read_arrays

    arrays = read_arrays(real_data / "cifar10_jpeg.npz")
    labels = arrays[f"{part}_labels"].astype(np.int64)[:count]
    preset = quantlab.PRESETS["cifar10"]
    return ImageBatches(arrays[part][:count], preset, input_name="input", batch_size=BATCH, labels=labels)


@pytest.fixture(scope="session")
def calibration(real_data: Path) -> ArrayBatches:
    """The 512 calibration images, preprocessed once."""
    x = np.concatenate([b["input"] for b in cifar(real_data, "calib")])
    return ArrayBatches({"input": x}, batch_size=BATCH)


@pytest.fixture(scope="session")
def test_images(real_data: Path) -> ArrayBatches:
    """The 2,000 labelled test images, filled up to whole batches; labels of -1 do not count."""
    parts = list(cifar(real_data, "test").labeled())
    x = np.concatenate([b["input"] for b, _ in parts])
    y = np.concatenate([labels for _, labels in parts if labels is not None])
    extra = -len(x) % BATCH
    x, y = np.concatenate([x, x[:extra]]), np.concatenate([y, np.full(extra, -1)])
    return ArrayBatches({"input": x}, batch_size=BATCH, labels=y)


@pytest.fixture(scope="session")
def labelled_images(real_data: Path) -> ArrayBatches:
    """The 2,000 labelled test images as they are, the last batch short."""
    images = cifar(real_data, "test")
    return ArrayBatches({"input": np.concatenate([b["input"] for b in images])}, batch_size=BATCH, labels=images.labels)


@pytest.fixture
def no_leak() -> Iterator[None]:
    """Device memory in use is the same after the test as before it, but for 32 MiB.

    A first build loads TensorRT's kernels, which stay in the process: it is done before the measurement.
    """
    from models import conv_net, image_batches
    from quantlab.engines.options import BuildOptions
    from quantlab.memory import open_driver
    from quantlab.trt.build import build
    from quantlab.trt.calibrators import EntropyCalibrator2

    build(conv_net("6"), BuildOptions("int8", optimization_level=0), EntropyCalibrator2(image_batches(2)))
    driver = open_driver()
    driver.activate()
    gc.collect()
    before = driver.memory_used()
    yield
    gc.collect()
    after = driver.memory_used()
    driver.deactivate()
    assert after - before < 32 * 2**20
