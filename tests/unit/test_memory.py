"""Device buffers over the host double of a driver."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from models import floats
from quantlab.errors import ConfigError, DataError, DeviceError, MissingDependencyError
from quantlab.memory import PROVIDERS, DeviceMemory, HostDriver, open_driver
from quantlab.memory.buffers import device_address, require_device
from quantlab.memory.energy import EnergyMeter


def test_upload_download_round_trip_and_reuse_of_buffers() -> None:
    driver = HostDriver()
    with DeviceMemory(driver) as memory:
        x = floats(3, 5)
        address = memory.upload("x", x)
        np.testing.assert_array_equal(memory.download("x"), x)
        assert memory.upload("x", x[:1]) == address
        np.testing.assert_array_equal(memory.download("x"), x[:1])
        memory.upload("x", floats(30, 5))
        assert len(driver.live) == 1


def test_everything_is_freed_also_after_an_error() -> None:
    driver = HostDriver()
    with pytest.raises(RuntimeError, match="inside"), DeviceMemory(driver) as memory:
        memory.upload("x", floats(10))
        memory.upload("y", floats(10))
        raise RuntimeError("inside")
    assert (driver.live, driver.pinned, driver.streams, driver.active) == ({}, 0, 0, 0)
    memory.close()  # harmless


def test_out_of_memory_frees_what_was_there() -> None:
    driver = HostDriver(limit=1000)
    with pytest.raises(DeviceError, match="out of device memory"), DeviceMemory(driver) as memory:
        memory.upload("x", np.zeros(600, np.uint8))
        memory.upload("y", np.zeros(600, np.uint8))
    assert not driver.live


def test_empty_arrays_have_an_address() -> None:
    with DeviceMemory(HostDriver()) as memory:
        assert memory.upload("x", np.zeros((0, 3), np.float32)) > 0
        assert memory.download("x").shape == (0, 3)


def test_unknown_provider_raises() -> None:
    with pytest.raises(ConfigError, match="no memory provider 'cupy'"):
        open_driver("cupy")


def test_no_provider_or_no_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(index: int) -> None:
        raise ModuleNotFoundError("No module named 'it'")

    def broken(index: int) -> None:
        raise ImportError("libcuda.so.1: cannot open shared object file")

    for name in PROVIDERS:
        monkeypatch.setitem(PROVIDERS, name, absent)
    with pytest.raises(MissingDependencyError, match=r"quantlab-trt\[cuda\].*or.*quantlab-trt\[pycuda\]"):
        open_driver()
    monkeypatch.setitem(PROVIDERS, "pycuda", broken)
    with pytest.raises(DeviceError, match=r"libcuda\.so\.1.*install the NVIDIA driver"):
        open_driver("pycuda")


class OnDevice:
    def __init__(self, x: np.ndarray, strides: tuple[int, ...] | None = None) -> None:
        self.__cuda_array_interface__ = {
            "shape": x.shape, "typestr": x.dtype.str, "data": (4242, False), "strides": strides, "version": 3,
        }  # fmt: skip


def test_data_on_the_device_is_recognised_if_contiguous() -> None:
    x = floats(2, 3)
    assert device_address(x) is None
    assert device_address(OnDevice(x)) == (4242, (2, 3), np.dtype(np.float32))
    assert device_address(OnDevice(x, (12, 4))) == (4242, (2, 3), np.dtype(np.float32))
    assert device_address(OnDevice(floats(1, 3), (999, 4))) == (4242, (1, 3), np.dtype(np.float32))  # of one sample
    with pytest.raises(DataError, match=r"float32 \(2, 3\) on the device has strides \(4, 8\), expected \(12, 4\)"):
        device_address(OnDevice(x, (4, 8)))


def test_data_of_another_device_and_of_none_are_refused() -> None:
    driver = HostDriver()
    require_device(driver, "image", 4242)
    driver.device_of = lambda address: 1 if address == 4242 else None  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="input 'image': its data lie on device 1, the calibration runs on device 0"):
        require_device(driver, "image", 4242)
    with pytest.raises(DeviceError, match="input 'image': its data lie on no device"):
        require_device(driver, "image", 8484)


class Nvml(types.ModuleType):
    """NVML with one GPU, whose counter adds 250 mJ at every look."""

    def __init__(self, has_counter: bool = True) -> None:
        super().__init__("pynvml")
        self.asked: list[str] = []
        self.open, self.used, self.has_counter = 0, 1000, has_counter

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetHandleByPciBusId(self, bus: str) -> str:  # noqa: N802
        self.asked.append(bus)
        return f"handle of {bus}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        if not self.has_counter:
            raise RuntimeError("Not Supported")
        assert handle == "handle of 0000:01:00.0"
        self.used += 250
        return self.used


def test_energy_is_the_counter_of_the_gpu_at_that_address(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = EnergyMeter.open("0000:01:00.0")
    assert meter is not None
    assert meter.millijoules() - meter.millijoules() == -250
    meter.close()
    assert (nvml.asked, nvml.open) == (["0000:01:00.0"], 0)


def test_energy_is_unknown_without_nvml_or_without_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter.open("0000:01:00.0") is None
    nvml = Nvml(has_counter=False)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert EnergyMeter.open("0000:01:00.0") is None
    assert nvml.open == 0


def test_host_driver_counts_what_is_in_use() -> None:
    driver = HostDriver()
    with DeviceMemory(driver) as memory:
        memory.reserve("x", (3, 5), np.dtype(np.float32))
        assert driver.memory_used() == 60
    assert driver.memory_used() == 0
