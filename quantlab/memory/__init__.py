"""Device memory, streams and events. pycuda and cuda-python are imported in this folder only."""

from quantlab.arguments import guard
from quantlab.memory.buffers import DeviceMemory
from quantlab.memory.driver import Driver
from quantlab.memory.host import HostDriver
from quantlab.memory.open import PROVIDERS, open_driver, open_memory

__all__ = ["PROVIDERS", "DeviceMemory", "Driver", "HostDriver", "open_driver", "open_memory"]

guard(globals())
