"""What is in a folder after something was written there."""

from __future__ import annotations

from pathlib import Path


def names(folder: Path) -> set[str]:
    """Of all that lies in it, hidden files too."""
    return {p.name for p in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files below it."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
