"""Timing caches shared by builds: read at the start, merged under a lock at the end, replaced atomically."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quantlab import files
from quantlab.errors import BuildError


def load_timing_cache(config: Any, path: Path | None) -> tuple[Any, Any] | None:
    """Give the builder the timings in `path` (or none yet). Returns what `merge_timing_cache` takes.

    TensorRT takes a broken file, or one of another version or GPU, for an empty cache and says so in its log only:
    here that is a BuildError.
    """
    if path is None:
        return None
    files.check_writable(path)
    with _locked(path):
        content = path.read_bytes() if path.exists() else b""
    cache = _read(config, content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise BuildError(
            f"timing cache {path} is broken, or of another TensorRT or GPU", hint="delete it, or give another file"
        )
    return config, cache


def merge_timing_cache(loaded: tuple[Any, Any] | None, path: Path | None) -> None:
    """Add the timings of this build to the file. Builds that finish at the same time do not lose each other's."""
    if loaded is None or path is None:
        return
    config, cache = loaded
    with _locked(path):
        others = _read(config, path.read_bytes()) if path.exists() else None
        if others is not None:
            cache.combine(others, ignore_mismatch=True)
        files.write_bytes(path, _bytes(cache))


def _read(config: Any, content: bytes) -> Any:
    """The timing cache, or None if TensorRT took `content` for nothing."""
    cache = config.create_timing_cache(content)
    if cache is None or not content:
        return cache
    empty = _bytes(config.create_timing_cache(b""))
    return None if content != empty and _bytes(cache) == empty else cache


def _bytes(cache: Any) -> bytes:
    return bytes(memoryview(cache.serialize()))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
