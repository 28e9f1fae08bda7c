"""Libraries of TensorRT plugins, and the GPU that engines are for: settings of the process, made before TensorRT."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from quantlab.errors import ConfigError, first_line
from quantlab.files import is_file

VISIBLE = "CUDA_VISIBLE_DEVICES"


def load_plugins(libraries: Sequence[Path]) -> None:
    """Load libraries whose plugins register themselves, as trtexec's `--plugins` does.

    Args:
        libraries: Shared objects.

    Raises:
        ConfigError: One is not there or cannot be loaded.
    """
    for library in libraries:
        if not is_file(library):
            raise ConfigError(f"plugin library {library} does not exist", hint="check the path")
        try:
            ctypes.CDLL(str(library.resolve()), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise ConfigError(
                f"plugin library {library} cannot be loaded: {first_line(error)}",
                hint="is it built for this machine, and for this TensorRT?",
            ) from error


def choose_device(index: int) -> None:
    """Let CUDA see one GPU only. It must not have been asked for anything yet.

    Args:
        index: Among those that are visible now.

    Raises:
        ConfigError: It is negative, or not so many are visible.
    """
    given = os.environ.get(VISIBLE)
    # CUDA reads the names up to the first that is no device, such as -1
    names = [] if given is None else list(takewhile(_is_device, map(str.strip, given.split(","))))
    if index < 0 or (given is not None and index >= len(names)):
        seen = "the first is 0" if given is None else f"{VISIBLE} lets {len(names)} be seen"
        raise ConfigError(f"there is no device {index}: {seen}", hint="nvidia-smi -L lists them")
    os.environ[VISIBLE] = str(index) if given is None else names[index]


def _is_device(name: str) -> bool:
    """Whether a name in the list of visible devices can be one: a number, or GPU-... or MIG-..."""
    return name.isdecimal() or name.startswith(("GPU-", "MIG-"))
