"""Both providers on a real device."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorrt")

from quantlab.errors import DeviceError
from quantlab.memory import PROVIDERS, DeviceMemory, open_driver


@pytest.fixture(params=PROVIDERS)
def memory(request: pytest.FixtureRequest) -> DeviceMemory:
    return DeviceMemory(open_driver(request.param))


def test_upload_and_download_round_trip(memory: DeviceMemory) -> None:
    x = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    with memory:
        first = memory.upload("x", x)
        np.testing.assert_array_equal(memory.download("x"), x)
        assert memory.upload("x", x[:1]) == first
        np.testing.assert_array_equal(memory.download("x"), x[:1])
        memory.upload("x", np.tile(x, (100, 1)))
        np.testing.assert_array_equal(memory.download("x"), np.tile(x, (100, 1)))


def test_everything_is_freed(memory: DeviceMemory) -> None:
    watcher = open_driver("cuda-python")
    watcher.activate()
    before = watcher.memory_used()
    with memory:
        memory.reserve("big", (256 * 2**20,), np.dtype(np.uint8))
        assert watcher.memory_used() - before >= 250 * 2**20
    assert watcher.memory_used() - before < 32 * 2**20
    watcher.deactivate()


def test_out_of_memory_is_a_device_error(memory: DeviceMemory) -> None:
    with memory, pytest.raises(DeviceError, match="out of device memory"):
        memory.reserve("huge", (2**44,), np.dtype(np.uint8))


def test_events_and_info(memory: DeviceMemory) -> None:
    with memory:
        start = memory.driver.record(memory.stream)
        memory.upload("x", np.zeros(10**7, np.uint8))
        assert memory.driver.elapsed_ms(start, memory.driver.record(memory.stream)) > 0
        assert memory.driver.info.total_bytes > 2**30
        assert memory.driver.info.compute_capability >= (5, 0)
