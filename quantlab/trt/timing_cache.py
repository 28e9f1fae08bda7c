"""Timing caches shared by builds: read at the start, merged under a lock at the end, replaced atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantlab.errors import BuildError
from quantlab.files import check_writable, is_file, locked, read_bytes, write_bytes


def load_timing_cache(config: Any, path: Path | None) -> tuple[Any, Any] | None:
    """Give the builder the timings in a file.

    TensorRT takes a broken file, or one of another version or GPU, for an empty cache and reports that in its log only:
    here that is a BuildError.

    Args:
        config: TensorRT's builder configuration.
        path: The file, which need not exist yet; None for no timing cache.

    Returns:
        What `merge_timing_cache` takes.

    Raises:
        BuildError: The file is broken, or of another TensorRT or GPU.
        ConfigError: It cannot be written at the end.
    """
    if path is None:
        return None
    check_writable(path)
    with locked(path):
        content = _content(path)
    cache = _read(config, content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise BuildError(
            f"timing cache {path} is broken, or of another TensorRT or GPU", hint="delete it, or give another file"
        )
    return config, cache


def merge_timing_cache(loaded: tuple[Any, Any] | None, path: Path | None) -> None:
    """Add the timings of this build to the file. Builds that finish at the same time do not lose each other's.

    Args:
        loaded: Of `load_timing_cache`.
        path: The file.
    """
    if loaded is None or path is None:
        return
    config, cache = loaded
    with locked(path):
        content = _content(path)
        others = _read(config, content) if content else None
        if others is not None:
            cache.combine(others, ignore_mismatch=True)
        write_bytes(path, _bytes(cache))


def _content(path: Path) -> bytes:
    return read_bytes(path, "timing cache") if is_file(path) else b""


def _read(config: Any, content: bytes) -> Any:
    """The timing cache, or None if TensorRT took `content` for nothing."""
    cache = config.create_timing_cache(content)
    if cache is None or not content:
        return cache
    empty = _bytes(config.create_timing_cache(b""))
    return None if content != empty and _bytes(cache) == empty else cache


def _bytes(cache: Any) -> bytes:
    return bytes(memoryview(cache.serialize()))
