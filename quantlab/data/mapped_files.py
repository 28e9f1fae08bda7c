"""Files whose arrays are read while they are used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import DataError


class MappedFiles:
    """The files behind arrays. One that is written to meanwhile gives other values to every pass, and the system ends
    the process if it is cut short; one that is replaced by another stays as it was.

    Args:
        arrays: Those that are mapped from files count.
    """

    def __init__(self, arrays: Iterable[NDArray[Any]]) -> None:
        paths = {Path(x.filename) for x in arrays if isinstance(x, np.memmap) and x.filename}
        self._known = {path: state for path in paths if (state := _state(path)) is not None}

    def check(self) -> None:
        """DataError if one was written to since."""
        for path, known in self._known.items():
            state = _state(path)
            if state is not None and state[:2] == known[:2] and state != known:
                raise DataError(f"{path} was changed while it was read", hint="begin again when it is whole")


def _state(path: Path) -> tuple[int, ...] | None:
    """Which file it is, and what changes when it is written to; None where it is gone."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
