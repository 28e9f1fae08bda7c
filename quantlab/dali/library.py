"""NVIDIA DALI itself: found, or the error that says how to install it."""

from __future__ import annotations

from typing import Any

from quantlab.errors import MissingDependencyError
from quantlab.version import install_command

INSTALL = install_command("dali")


def dali() -> Any:
    """The module `nvidia.dali`; MissingDependencyError without it, or where its libraries cannot be loaded."""
    try:
        import nvidia.dali
    except ImportError as error:
        raise MissingDependencyError(f"NVIDIA DALI cannot be imported: {error}", hint=INSTALL) from error
    return nvidia.dali
