"""Choosing a provider: the one named, else the first that is installed."""

from __future__ import annotations

from collections.abc import Callable

from quantlab.errors import ConfigError, DeviceError, MissingDependencyError
from quantlab.memory.buffers import DeviceMemory
from quantlab.memory.driver import Driver
from quantlab.version import install_command


def _cuda_python(index: int) -> Driver:
    from quantlab.memory.cuda_python import CudaPythonDriver

    return CudaPythonDriver(index)


def _pycuda(index: int) -> Driver:
    from quantlab.memory.pycuda import PycudaDriver

    return PycudaDriver(index)


PROVIDERS: dict[str, Callable[[int], Driver]] = {"cuda-python": _cuda_python, "pycuda": _pycuda}
"""The libraries that give device memory, by name, the first choice first."""
INSTALL = {"cuda-python": install_command("cuda"), "pycuda": install_command("pycuda")}


def open_driver(provider: str | None = None, index: int = 0) -> Driver:
    """Open a device.

    Args:
        provider: One of `PROVIDERS`; None for the first that is installed.
        index: Of the device, as CUDA counts them.

    Returns:
        Its driver.

    Raises:
        ConfigError: There is no such provider.
        MissingDependencyError: The provider, or any, is not installed.
        DeviceError: There is no GPU, or no NVIDIA driver.
    """
    if provider is not None and provider not in PROVIDERS:
        raise ConfigError(f"there is no memory provider '{provider}'", hint=f"use {', '.join(PROVIDERS)}")
    missing = []
    for name in [provider] if provider else PROVIDERS:
        try:
            return PROVIDERS[name](index)
        except ModuleNotFoundError as error:
            missing.append(f"{name}: {error}")
        except ImportError as error:  # installed, but its library is not there
            raise DeviceError(
                f"{name} cannot load the CUDA driver: {error}", hint="install the NVIDIA driver; see quantlab doctor"
            ) from error
        except RuntimeError as error:  # cuda-python raises it at the first call without a driver
            raise DeviceError(
                f"{name} cannot load the CUDA driver: {error}", hint="install the NVIDIA driver; see quantlab doctor"
            ) from error
    names = [provider] if provider else list(PROVIDERS)
    raise MissingDependencyError(
        f"no device memory provider is installed ({'; '.join(missing)})",
        hint=" or ".join(INSTALL[name] for name in names),
    )


def open_memory(provider: str | None = None, index: int = 0) -> DeviceMemory:
    """Open device memory, to use in a `with` statement.

    Args:
        provider: See `open_driver`.
        index: Of the device.

    Returns:
        Memory without any buffer yet.

    Raises:
        QuantlabError: See `open_driver`.
    """
    return DeviceMemory(open_driver(provider, index))
