"""Energy of the whole GPU, from NVML's counter (millijoules since the driver was loaded; Volta and newer)."""

from __future__ import annotations

import logging
from typing import Any

_LOG = logging.getLogger(__name__)


class EnergyMeter:
    """NVML's energy counter of one device. It counts all work on the GPU, and its idle power."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    @classmethod
    def open(cls, pci_bus_id: str) -> EnergyMeter | None:
        """None where NVML, its Python module (`pip install nvidia-ml-py`) or the counter is missing."""
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception as error:  # NVML's errors derive from Exception alone; energy is then reported as unknown
            _LOG.info("no energy counter: %s", error)
            return None
        try:
            handle = pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id)  # indices differ under CUDA_VISIBLE_DEVICES
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except Exception as error:
            pynvml.nvmlShutdown()
            _LOG.info("no energy counter: %s", error)
            return None
        return cls(pynvml, handle)

    def millijoules(self) -> int:
        """The counter."""
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def close(self) -> None:
        """Leave NVML."""
        self._nvml.nvmlShutdown()
